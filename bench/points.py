"""From one point of the grid to a plan: what the method or the model lacks is None, what cannot be is refused.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from bdia.methods import STORED
from bench import axes, data, gamma, models, resolve
from bench.axes import AxisValue
from bench.case import Case, Measurement, Plan
from bench.data.files import BYTE_VOCAB
from bench.errors import UsageError

FALLBACK: Final[Mapping[str, AxisValue]] = {
    "bits": 9,
    "gamma": gamma.DEFAULT,
    "dtype": "fp32",
    "train_steps": 0,
    "seed": 0,
}
"""Axes that a suite may leave out; a model's own sizes come from its table. l = 9 is the paper's for ViT."""

SOME_MODELS_ONLY: Final = ("seq", "vocab")
"""Axes that a model may lack."""


def plan(
    point: Mapping[str, AxisValue], measure: frozenset[Measurement], *, device: str, path: str | None, where: str,
    verify: bool = False,
) -> Plan:  # fmt: skip
    """The case at `point`, and those of the measurements that its method has.

    Reconstruction is for methods that rebuild activations, gradient error for those that do not store them all,
    verification for those that rebuild them exactly. A γ that the method cannot have makes the case `unsupported`:
    whether that is an error is for the whole sweep to say.

    Raises: UsageError, begun by `where`, for an unknown method or model, an axis that is not given, a width that
    the heads do not divide, and data that will not do.
    """
    values: dict[str, AxisValue | None] = {"device": device, **FALLBACK}
    for needed in ("method", "model"):
        if needed not in point:
            raise _lacking(needed, where)
    method = resolve.method(str(point["method"]))
    model = models.get(str(point["model"]))
    data.check(model.name, path)
    values.update({name: model.defaults[name] for name in model.axes if name in model.defaults})
    values.update(point)
    for name in SOME_MODELS_ONLY:
        if name not in model.axes:
            values[name] = None
    if not method.quantised:
        values["bits"] = None
    if not method.draws_gamma:
        values["gamma"] = None
    if "vocab" in model.axes:
        values["vocab"] = _vocab(model.name, path, point.get("vocab"), where)
    for name in axes.NAMES:
        if name not in values:
            raise _lacking(name, where)
    case = msgspec.convert({**values, "data": path}, Case)
    if case.width % case.heads:
        raise UsageError(f"{where}: width {case.width} is not divisible by heads {case.heads}; {_cure(case)}")
    for name in SOME_MODELS_ONLY:
        size = getattr(case, name)
        try:
            data.check(case.model, case.data, **{name: size})
        except UsageError as error:
            raise UsageError(f"{where}: {name} {size}: {error}") from error
    has: dict[Measurement, bool] = {
        "memory": True,
        "throughput": True,
        "reconstruction": method.reversible,
        "gradients": method.strategy != STORED,
    }
    unsupported = None if case.gamma is None else gamma.obstacle(method, case.gamma)
    return Plan(
        case=case,
        measure=frozenset(name for name in measure if has[name] and unsupported is None),
        verify=verify and method.reversible and method.quantised,
        unsupported=unsupported,
    )


def _vocab(model: str, path: str | None, given: AxisValue | None, where: str) -> int | None:
    """The vocabulary: what the data needs, or a larger one. Of a `.bin`, whose name says nothing of its tokens,
    any that is given."""
    needed = data.vocab_of(model, path)
    if not isinstance(given, int) or needed is None:
        return needed
    if needed == BYTE_VOCAB and given < needed:
        raise UsageError(f"{where}: vocab {given}: text is read as bytes, of which there are {needed}; leave vocab out")
    return given


def _lacking(name: str, where: str) -> UsageError:
    option = axes.get(name).option
    return UsageError(f"{where}: no {name}: expected {axes.get(name).expected()}; set it there, or by {option}")


def _cure(case: Case) -> str:
    below = case.width - case.width % case.heads
    widths = " or ".join(str(width) for width in (below, below + case.heads) if width)
    heads = max(count for count in range(1, case.heads) if case.width % count == 0)
    return f"try --width {widths}, or --heads {heads}"
