"""From one point of the grid to a plan: what the method or the model lacks is None, what cannot be is refused.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from bdia.methods import STORED
from bench import axes, data, gamma, models, obstacles, resolve
from bench.axes import AxisValue
from bench.case import WHOLE, Case, Measurement, Plan
from bench.data.files import BYTE_VOCAB
from bench.errors import UsageError
from bench.models import SIZES, Input, ModelSpec

FALLBACK: Final[Mapping[str, AxisValue]] = {
    "bits": 9,
    "gamma": gamma.DEFAULT,
    **WHOLE,
    "dtype": "fp32",
    "train_steps": 0,
    "seed": 0,
}
"""Axes that a suite may leave out; a model's own sizes come from its table. l = 9 is the paper's for ViT."""


def plan(
    point: Mapping[str, AxisValue],
    measure: frozenset[Measurement],
    *,
    device: str,
    path: str | None,
    where: str,
    introduced: Mapping[str, ModelSpec],
    verify: bool = False,
) -> Plan:
    """The case at `point`, and those of the measurements that its method has.

    `introduced` has the specifications, by name, of models from outside the table, as far as they are known.
    Reconstruction is for methods that rebuild activations, gradient error for those that do not store them all,
    verification for those that rebuild them exactly. What stands in its way makes the case `unsupported`: whether that
    is an error is for the whole sweep to say.

    Raises: UsageError, begun by `where`, for an unknown method or model, an axis that is not given, a width that
    the heads do not divide, a size that a checkpoint does not have, and data that will not do.
    """
    values: dict[str, AxisValue | None] = {"device": device, **FALLBACK}
    for needed in ("method", "model"):
        if needed not in point:
            raise _lacking(needed, where)
    method = resolve.method(str(point["method"]))
    name = str(point["model"])
    model = introduced.get(name) or models.get(name)
    data.check(model.input, path)
    if model.foreign:
        values |= dict.fromkeys((*SIZES, "batch"))
    values.update({name: model.defaults[name] for name in model.axes if name in model.defaults})
    values.update(point)
    for name in SIZES:
        if name not in model.axes:
            values[name] = None
    if not method.quantised:
        values["bits"] = None
    if not method.draws_gamma:
        values["gamma"] = None
    if not method.recomputes:
        values["micro_batches"] = values["keep"] = None
    if model.input == "images":
        values["loss_chunks"] = WHOLE["loss_chunks"]  # there is no vocabulary
    if model.fixed:
        _same_sizes(model, values, where)
    elif model.input is not None and "vocab" in model.axes:
        values["vocab"] = _vocab(model.input, path, point.get("vocab"), where)
    for name in axes.NAMES:
        if name not in values:
            raise _lacking(name, where)
    case = msgspec.convert({**values, "data": path}, Case)
    if case.width is not None and case.heads is not None and case.width % case.heads:
        cure = _cure(case.width, case.heads)
        raise UsageError(f"{where}: width {case.width} is not divisible by heads {case.heads}; {cure}")
    for name, factor in model.multiples.items():
        size = getattr(case, name)
        if size % factor:
            below = size - size % factor
            sizes = " or ".join(str(near) for near in (below, below + factor) if near)
            option = axes.get(name).option
            raise UsageError(f"{where}: {name} {size}: of {model.name} a multiple of {factor}; try {option} {sizes}")
    if model.input == "text":
        for name in ("seq", "vocab"):
            size = getattr(case, name)
            try:
                data.check(model.input, case.data, **{name: size})
            except UsageError as error:
                raise UsageError(f"{where}: {name} {size}: {error}") from error
    has: dict[Measurement, bool] = {
        "memory": True,
        "throughput": True,
        "reconstruction": method.reversible,
        "gradients": method.strategy != STORED,
    }
    obstacle = obstacles.find(method, case)
    return Plan(
        case=case,
        measure=frozenset(name for name in measure if has[name] and obstacle is None),
        verify=verify and method.reversible and method.quantised,
        unsupported=None if obstacle is None else obstacle.reason,
    )


def _same_sizes(model: ModelSpec, values: Mapping[str, AxisValue | None], where: str) -> None:
    """Refuses a size that is not the checkpoint's."""
    for name in ("depth", "width", "heads", "vocab"):
        own = model.defaults.get(name)
        if own is not None and values[name] != own:
            raise UsageError(f"{where}: {name} {values[name]}: model {model.name!r} has {name} {own}; leave it out")


def _vocab(kind: Input, path: str | None, given: AxisValue | None, where: str) -> int | None:
    """The vocabulary: what the data needs, or a larger one. Of a `.bin`, whose name says nothing of its tokens,
    any that is given."""
    needed = data.vocab_of(kind, path)
    if not isinstance(given, int) or needed is None:
        return needed
    if needed == BYTE_VOCAB and given < needed:
        raise UsageError(f"{where}: vocab {given}: text is read as bytes, of which there are {needed}; leave vocab out")
    return given


def _lacking(name: str, where: str) -> UsageError:
    option = axes.get(name).option
    return UsageError(f"{where}: no {name}: expected {axes.get(name).expected()}; set it there, or by {option}")


def _cure(width: int, heads: int) -> str:
    below = width - width % heads
    widths = " or ".join(str(size) for size in (below, below + heads) if size)
    fewer = max(count for count in range(1, heads) if width % count == 0)
    return f"try --width {widths}, or --heads {fewer}"
