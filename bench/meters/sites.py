"""The sites of a peak: its allocations line by line, for `bench.stacks`."""

from __future__ import annotations

from bdia.dial import WHOLE, Dial
from bdia.methods import Method
from bench.attaching import attach
from bench.meters.breakdown import Peak
from bench.meters.lines import has_compiled
from bench.meters.memory import measure_peaks
from bench.parts import PartName, Parts, totals
from bench.stacks import Site, Stacks, largest_first
from bench.workload import Workload

Key = tuple[PartName, str | None]


def measure_sites(
    workload: Workload,
    method: str | Method,
    bits: int | None = None,
    *,
    seed: int,
    gamma: str | None,
    verify: bool,
    dial: Dial = WHOLE,
) -> Stacks:
    """Runs steps of `workload` under `method`, and tells what is alive at their peaks and which line allocated it. What
    torch.compile compiles is run as it is written.

    Raises: MeterError where the level cannot be known exactly; whatever `bdia.attach` or the workload raises.
    """
    with attach(workload, method, seed=seed, bits=bits, gamma=gamma, verify=verify, dial=dial) as handle:
        reading, kept, whole = measure_peaks(workload, handle, workload.device)
    assert reading.activation_parts is not None
    assert reading.peak_parts is not None
    return Stacks(
        activation_bytes=reading.activation_bytes,
        activation=_sites(kept, reading.activation_parts),
        peak_bytes=reading.peak_bytes,
        peak=_sites(whole, reading.peak_parts),
        uncompiled=has_compiled(),
    )


def _sites(peak: Peak, parts: Parts) -> tuple[Site, ...]:
    """Those of the peak, and a site without a line for each part that was there before it began, of less than 0 bytes
    for one that was released meanwhile."""
    blocks: dict[Key, set[int]] = {}
    sums: dict[Key, list[int]] = {}
    left = totals(parts)
    for allocation in peak.allocations:
        part, block = allocation.whose
        key = (part, allocation.line)
        sums.setdefault(key, []).append(allocation.nbytes)
        blocks.setdefault(key, set()).update([] if block is None else [block])
        left[part] = left.get(part, 0) - allocation.nbytes
    return largest_first(
        [
            Site(part, line, tuple(sorted(blocks[part, line])), sum(held), len(held))
            for (part, line), held in sums.items()
        ]
        + [Site(part, None, (), nbytes, 1) for part, nbytes in left.items() if nbytes]
    )
