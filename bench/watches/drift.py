"""How far the gradients are from those of stored activations, at the same weights, batch, γ and dropout."""

from __future__ import annotations

from collections.abc import Iterable

from bench.batches import Batch
from bench.case import Case
from bench.meters.gradients import measure_gradients
from bench.watches import Found, subjects
from bench.workload import Workload


def look(workload: Workload, case: Case, held_out: Iterable[Batch]) -> list[Found]:
    """The relative L2 error of all gradients together on the measured batch, and of each block's."""
    found: list[Found] = []
    workload.model.train()
    for one in subjects.rebuilders(case):
        reading = measure_gradients(workload, one.method, one.bits, seed=case.seed, gamma=one.gamma, dial=one.dial)
        name = f"gradient_error{one.suffix}"
        found.append({"name": name, "value": reading.gradient_error})
        found += [{"name": name, "block": block, "value": error} for block, error in reading.by_block.items()]
    return found
