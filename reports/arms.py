"""The arms of a training run: what was trained, each over its seeds, and their curves."""

from __future__ import annotations

import math
import operator
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from bench import gamma
from bench.curves import Point
from reports import settings
from reports.frame import AXES, REFERENCE
from reports.settings import Row

_PAPERS_BITS: Final = (6, 9)
"""l for GPT-2 and for images."""
_BUT_THE_SEED: Final = operator.itemgetter(*(axis for axis in AXES if axis != "seed"))


@dataclass(frozen=True)
class Spread:
    """A value over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample deviation; None of a single seed, which has none."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def low(self) -> float:
        """The end of the band below: a deviation under the mean, or the mean itself."""
        return self.mean - (self.deviation or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.deviation or 0.0)


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm of an experiment: the records that are the same but for the seed."""

    name: str
    rows: tuple[Row, ...]
    """By seed."""

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def method(self) -> str:
        return str(self.first["method"])

    @property
    def ok(self) -> tuple[Row, ...]:
        """The seeds that were trained to the end."""
        return tuple(row for row in self.rows if ended(row) == "ok")

    def over_seeds(self, of: str | Callable[[Row], float | None]) -> Spread | None:
        """A field, or what is made of a row, over the seeds that were trained to the end and have it; None where none
        has."""
        read = operator.itemgetter(of) if isinstance(of, str) else of
        return spread(read(row) for row in self.ok)

    def by_seed(self, field: str) -> dict[int, float]:
        """A field of the seeds that were trained to the end, where they have it."""
        return {row["seed"]: row[field] for row in self.ok if row[field] is not None}

    @cached_property
    def measured(self) -> Row:
        """The seed whose memory was measured, the first."""
        return next((row for row in self.rows if row["peak_bytes"] is not None), self.first)

    @cached_property
    def _points(self) -> dict[str, list[Point]]:
        found: dict[str, list[Point]] = {}
        for row in self.rows:
            for point in row["curves"] or ():
                found.setdefault(point.name, []).append(point)
        return found

    def points(self, name: str, *, blocks: bool = False) -> list[Point]:
        """The points of one curve over all seeds, also those that were not trained to the end: of the whole model or,
        with `blocks`, those of its blocks."""
        return [point for point in self._points.get(name, ()) if (point.block is not None) == blocks]

    def curve(self, name: str) -> list[tuple[int, Spread]]:
        """A curve over seeds: step by step the finite values that there are."""
        return over(self.points(name), lambda point: point.step)


def ended(row: Row) -> str:
    """How training ended: as the record says, or `diverged` where its loss ceased to be finite before the last step."""
    early = row["status"] == "ok" and row["trained_steps"] is not None and row["trained_steps"] < row["train_steps"]
    return "diverged" if early else str(row["status"])


def usual(arm: Arm) -> tuple[bool, ...]:
    """A sorting key: how far an arm is what one means by its method, the paper's γ and l."""
    return arm.name == arm.method, arm.first["gamma"] == gamma.DEFAULT, arm.first["bits"] in _PAPERS_BITS


def as_cases(found: Sequence[Arm]) -> list[Row]:
    """A row an arm, that whose memory was measured, by the name of the arm in place of its method's. Of several arms of
    one method whose bytes are the same, as they are of a sweep over l, one: by the name of the method, or by their own
    names where there are other arms of that method."""
    same: dict[Any, list[Arm]] = {}
    for arm in found:
        parts = [str(arm.measured[field]) for field in ("status", "activation_parts", "peak_parts")]
        same.setdefault((arm.method, *parts), []).append(arm)
    counts = Counter(method for method, *_ in same)
    alone = [len(members) > 1 and counts[members[0].method] == 1 for members in same.values()]
    return [
        {**members[0].measured, "method": members[0].method if one else _together(members), "arm": None}
        | ({"bits": None} if one else {})
        for members, one in zip(same.values(), alone, strict=True)
    ]


def arms(found: Iterable[Row]) -> list[Arm]:
    """The arms among these rows, in the order in which they were first recorded.

    An arm has the name that the experiment gives it; what tells it from another of that name is added."""
    members: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        if row["experiment"] is not None:
            members.setdefault(_BUT_THE_SEED(row), []).append(row)
    ordered = sorted(members.values(), key=lambda rows: rows[0]["arm_place"])
    named: dict[str, list[Row]] = {}
    for rows in ordered:
        named.setdefault(_name(rows[0]), []).append(rows[0])
    found_arms = []
    for rows in ordered:
        same = named[_name(rows[0])]
        told = settings.values(rows[0], settings.varying(same, leave_out=("method", "arm", "seed")))
        name = ", ".join([_name(rows[0]), *(told if len(same) > 1 else ())])
        found_arms.append(Arm(name, tuple(sorted(rows, key=lambda row: row["seed"]))))
    return found_arms


def tasks(found: Iterable[Arm]) -> list[list[Arm]]:
    """The arms by what they are to learn: scores on other data, or of another model, are no match for one another."""
    groups: dict[Any, list[Arm]] = {}
    for arm in found:
        groups.setdefault((arm.first["data"], arm.first["model"]), []).append(arm)
    return list(groups.values())


def reference(found: Sequence[Arm], of: Arm | None = None) -> Arm | None:
    """The arm that the others are compared with, or that `of` is: of the same task the first of the plain transformer
    or, without one, the first."""
    task = next((task for task in tasks(found) if of is None or of in task), [])
    return next((arm for arm in task if arm.method == REFERENCE), next(iter(task), None))


def scored(found: Iterable[Arm]) -> bool:
    """Whether they classify, so that there is an accuracy: of those that predict the next token there is a loss."""
    return any(row["validation_accuracy"] is not None for arm in found for row in arm.rows)


def headline(found: Iterable[Arm]) -> str:
    """The field that tells how good an arm is: the validation accuracy or, without one, the validation loss."""
    return "validation_accuracy" if scored(found) else "validation_loss"


def spread(values: Iterable[float | None]) -> Spread | None:
    """The values that there are; None where there is none."""
    known = tuple(value for value in values if value is not None and math.isfinite(value))
    return Spread(known) if known else None


def over(points: Iterable[Point], key: Callable[[Point], Any]) -> list[tuple[Any, Spread]]:
    """The points with one key together, in the order of the keys; without those that have no finite value."""
    groups: dict[Any, list[float | None]] = {}
    for point in points:
        groups.setdefault(key(point), []).append(point.value)
    spreads = ((value, spread(groups[value])) for value in sorted(groups))
    return [(value, one) for value, one in spreads if one is not None]


def _together(members: Sequence[Arm]) -> str:
    """What one row of several arms is called: by the first two of their names, and how many more they are."""
    named = ", ".join(arm.name for arm in members[:2])
    return named if len(members) <= 2 else f"{named} and {len(members) - 2} more"


def _name(row: Row) -> str:
    return str(row["arm"] or row["method"])
