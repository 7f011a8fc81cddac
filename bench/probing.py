"""What a case would hold, by measuring it for real where it is small: for models that fake tensors do not satisfy.

Bytes are affine in the batch and in the depth, but where the highest moment is another one at the full size; so two
batches and two depths, measured as any case is, give the rest.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, Final

import msgspec
import torch

from bench import accumulation, checkpoints, obstacles, parts, resolve
from bench.attaching import attach_planned
from bench.case import Case, Plan
from bench.meters.memory import measure_memory
from bench.meters.stream import Stream
from bench.parts import Parts
from bench.workload import build, facts

Fields = dict[str, Any]
"""Fields of `Record` by name."""

SIZES: Final = ("static_bytes", "activation_bytes", "peak_bytes", "saved_bytes", "side_bytes", "rng_bytes")
_GROWING: Final = (*SIZES, "parameters", "samples", "tokens", "blocks", "stream_elements")
"""What grows with the size of a case; the rest is the same."""


_BARE: Final = "bare_bytes"
"""What a step begins with, without gradients."""
_HELD: Final = ("parameters", "optimizer_state", "input")


def probe(plan: Plan, measure: Callable[[Plan], Fields] | None = None) -> tuple[Fields, str]:
    """The memory fields of `plan`'s record, and its sizes; and which probes they are from, in words.

    Raises: whatever building or running the case raises.
    """
    case = msgspec.structs.replace(plan.case, device="cpu")
    batches, depths = _batches(case), _depths(case)
    found = {
        (depth, batch): (measure or _measure)(
            msgspec.structs.replace(plan, case=msgspec.structs.replace(case, depth=depth, batch=batch))
        )
        for depth in depths
        for batch in batches
    }
    fields = dict(found[depths[0], batches[0]])
    for name in (*_GROWING, _BARE):
        rows = []
        for depth in depths:
            values = [found[depth, batch].get(name) for batch in batches]
            rows.append(_extended(batches, values, case.batch))
        value = _extended(depths, rows, case.depth)
        fields[name] = None if value is None else round(value)
    bare = fields.pop(_BARE)
    if bare is not None:
        # The line of a peak that was another moment's may have been left below this.
        fields["peak_bytes"] = max(fields["peak_bytes"], bare + fields["activation_bytes"])
    said = [f"{name} {' and '.join(map(str, sizes))}" for name, sizes in (("depth", depths), ("batch", batches))]
    return fields, f"by steps measured at {', '.join(said)}"


def smallest(plan: Plan) -> Plan:
    """The smallest of the probes."""
    case = msgspec.structs.replace(plan.case, device="cpu")
    small = msgspec.structs.replace(case, depth=_depths(case)[0], batch=_batches(case)[0])
    return msgspec.structs.replace(plan, case=small)


def _batches(case: Case) -> Sequence[int | None]:
    """Of as many samples as parts are cut into, so that all are of one size."""
    least = obstacles.smallest(resolve.method(case.method), case, "batch")
    return (least, 2 * least) if case.batch is not None and case.batch > 2 * least else (case.batch,)


def _depths(case: Case) -> Sequence[int | None]:
    """Of which the last block is one like any other, and the first as well."""
    if case.depth is None or checkpoints.is_one(case.model):
        return (case.depth,)
    apart = obstacles.apart(case)
    least = obstacles.smallest(resolve.method(case.method), case, "depth") + 2
    least += -least % apart
    return (least, least + apart) if case.depth > least + apart else (case.depth,)


def _extended(
    at: Sequence[int | None], values: Sequence[int | Fraction | None], to: int | None
) -> int | Fraction | None:
    """The value at `to` on the line through one or two points."""
    first, last = values[0], values[-1]
    if len(at) == 1 or first is None or last is None or to is None:
        return first
    left, right = at[0], at[-1]
    assert left is not None
    assert right is not None
    return first + Fraction(last - first, right - left) * (to - left)


def _measure(plan: Plan) -> Fields:
    workload = build(plan.case)
    stream = Stream()
    with attach_planned(workload, plan) as handle:
        reading = measure_memory(workload, handle, workload.device)
        with torch.no_grad():
            accumulation.mean_loss(workload, around=partial(handle.observing, stream))
        blocks = sum(map(len, handle.chains))
    sizes: Mapping[str, Any] = vars(reading)
    fields = {
        **{name: sizes[name] for name in SIZES},
        _BARE: None if reading.peak_parts is None else parts.total(_bare(reading.peak_parts)),
        **facts(workload, plan.case),
        "blocks": blocks, "stream_dtype": stream.dtype, "stream_elements": stream.elements,
    }  # fmt: skip
    del workload, handle
    gc.collect()
    return fields


def _bare(whole: Parts) -> Parts:
    return {name: held for name, held in whole.items() if name in _HELD}
