"""What need not be tried: cases larger than one of the same method that ran out of memory. Imports no torch.

What is left out is what ran out. Where a method's step fitted and the reference of its gradients did not, larger cases
are measured without their gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.case import MEASUREMENTS, Case, Measurement, Plan
from bench.record import Record

OPTION: Final = "--no-skip"
SIZES: Final = ("depth", "width", "heads", "seq", "batch", "vocab")
"""Axes along which a case takes more memory."""
NO_SIZE: Final = ("seed",)
"""Axes that memory does not depend on."""
READINGS: Final[Mapping[Measurement, str]] = {
    "memory": "activation_bytes",
    "throughput": "step_seconds",
    "reconstruction": "reconstruction",
    "gradients": "gradient_error",
}
"""The field that a measurement leaves where it succeeds."""


@dataclass(frozen=True)
class LeftOut:
    """The measurements of a plan that are left out, and the sizes at which they ran out of memory."""

    measure: frozenset[Measurement]
    than: str = ""

    def why(self, plan: Plan) -> str:
        """One line: the reason, and what to do about it."""
        names = [] if self.measure == plan.measure else [name for name in MEASUREMENTS if name in self.measure]
        what, over = (f"{', '.join(names)} left out: ", " over that") if names else ("", "")
        return f"{what}larger than {self.than}, which ran out of memory{over}; {OPTION} measures it all the same"


NOTHING: Final = LeftOut(frozenset())


def exhausted(records: Mapping[Plan, Record]) -> list[tuple[Plan, Record]]:
    """Those that ran out of memory."""
    return [(plan, record) for plan, record in records.items() if record.status == "oom"]


def lacking(plan: Plan, record: Record) -> frozenset[Measurement]:
    """The measurements of `plan` that left nothing in its record; all of them where its step itself did not fit."""
    left = frozenset(what for what in plan.measure if getattr(record, READINGS[what]) is None)
    return plan.measure if "memory" in left else left


def left_out(plan: Plan, ran_out: Iterable[tuple[Plan, Record]]) -> LeftOut:
    """What of `plan` is to be left out, with plans that ran out of memory and their records."""
    found = NOTHING
    for other, record in ran_out:
        sizes = larger(plan.case, other.case)
        if not sizes:
            continue
        short_of = lacking(other, record)
        lost = plan.measure if "memory" in short_of else plan.measure & short_of
        if lost - found.measure:
            found = LeftOut(found.measure | lost, " ".join(f"{name}={getattr(other.case, name)}" for name in sizes))
    return found


def larger(case: Case, than: Case) -> tuple[str, ...]:
    """The sizes in which `case` is larger than a case that is otherwise the same and larger in none; empty where it is
    not so."""
    for name in Case.__struct_fields__:
        ours, theirs = getattr(case, name), getattr(than, name)
        if ours == theirs or name in NO_SIZE:
            continue
        if name not in SIZES or ours is None or theirs is None or ours < theirs:
            return ()
    return tuple(name for name in SIZES if getattr(case, name) != getattr(than, name))
