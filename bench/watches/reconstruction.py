"""How far the rebuilt x_k are from those of the forward: Fig. 1, as training goes on."""

from __future__ import annotations

from collections.abc import Iterable

from bench.batches import Batch
from bench.case import Case
from bench.meters.reconstruction import measure_reconstruction
from bench.watches import Found, subjects
from bench.workload import Workload


def look(workload: Workload, case: Case, held_out: Iterable[Batch]) -> list[Found]:
    """max |rebuilt x_k − x_k| on the measured batch, of each block k that is rebuilt."""
    found: list[Found] = []
    workload.model.train()
    for one in subjects.rebuilders(case):
        reading = measure_reconstruction(
            workload, one.method, one.bits, seed=case.seed, gamma=one.gamma, dial=one.dial
        )  # fmt: skip
        found += [
            {"name": f"reconstruction_error{one.suffix}", "block": error.block, "value": error.max_abs_error}
            for error in reading.reconstruction
        ]
    return found
