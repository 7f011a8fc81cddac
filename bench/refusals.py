"""What a sweep is refused for before anything runs, once its cases are known. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench import axes, obstacles, resolve
from bench.axes import AxisValue
from bench.case import WHOLE, Plan
from bench.errors import UsageError


def refuse_impossible(plans: Sequence[Plan], where: str) -> None:
    """A value that no case of the sweep can have is a slip. One that some have and others lack is a question about the
    former, so that the latter's cases become rows that say why there is nothing to measure. So are cases for which
    something is not installed here."""
    for plan in plans:
        if plan.unsupported is None:
            continue
        found = obstacles.find(resolve.method(plan.case.method), plan.case)
        assert found is not None
        if found.axis is None:
            continue
        value = getattr(plan.case, found.axis)
        if not any(getattr(other.case, found.axis) == value for other in plans if other.unsupported is None):
            raise UsageError(f"{where}: {plan.unsupported}")


def refuse_idle(plans: Sequence[Plan], overrides: Mapping[str, Sequence[AxisValue]], verify: bool) -> None:
    """Refuses what was asked for and no method or model of the run could heed."""
    used = ", ".join(dict.fromkeys(plan.case.method for plan in plans))
    if "gamma" in overrides and all(plan.case.gamma is None for plan in plans):
        given = ",".join(map(str, overrides["gamma"]))
        raise UsageError(f"--gamma {given}: {used} draws no γ; leave it out, or take --method bdia")
    for name in ("micro_batches", "keep"):
        if name in overrides and all(getattr(plan.case, name) is None for plan in plans):
            given = f"{axes.get(name).option} {','.join(map(str, overrides[name]))}"
            raise UsageError(f"{given}: {used} runs no block again; leave it out, or take --method bdia or checkpoint")
    chunks = [value for value in overrides.get("loss_chunks", ()) if value != WHOLE["loss_chunks"]]
    if chunks and all(plan.case.loss_chunks not in chunks for plan in plans):
        of = ", ".join(dict.fromkeys(plan.case.model for plan in plans))
        text = ",".join(map(str, chunks))
        raise UsageError(f"--loss-chunks {text}: {of} has no loss over a vocabulary; leave it out, or take --model gpt")
    if verify and not any(plan.verify for plan in plans):
        raise UsageError(f"--verify: {used} rebuilds nothing bit for bit; leave it out, or take --method bdia")
