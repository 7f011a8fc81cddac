"""Which rows of a frame belong into one figure: cases alike in all that the figure does not show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pandas as pd

from bench import gamma
from bench.case import METHOD_AXES, WHOLE
from bench.errors import UsageError
from reports import settings
from reports.arms import Arm, arms, tasks
from reports.frame import AXES
from reports.frame import rows as rows_of
from reports.settings import Row
from reports.verdict import PREFERRED_BITS

SCALES = ("depth", "width", "seq", "batch")
"""The axes along which a figure may run."""
_WORDS = ("method", "gamma")
VERSION: Mapping[str, str] = {axis: "string" if axis in _WORDS else "Int64" for axis in METHOD_AXES if axis != "arm"}
"""The columns that begin the plotted numbers of a line. Arms have figures of their own."""
CUTS = tuple(axis for axis in METHOD_AXES if axis in WHOLE)
"""Of the method's own axes, those that cut its work into parts."""
_POINT_AXES = tuple(axis for axis in AXES if axis not in (*METHOD_AXES, "seed"))
_POINT = itemgetter(*_POINT_AXES)
_FOLLOWERS: Mapping[str, tuple[str, ...]] = {"width": ("heads",)}
"""Axes that may vary along with another."""


class View:
    """The rows of a frame by their points of the grid: made once, for all the figures that choose from it.

    Rows of one point are equal in all axes but the method, its own and the seed, which tell no setting from another."""

    def __init__(self, frame: pd.DataFrame) -> None:
        found = rows_of(frame)
        self.rows: Sequence[Row] = [row for row in found if row["experiment"] is None]
        """Those of cases that were measured, and not trained."""
        groups = tasks(arms(found))
        self.arms: Sequence[Arm] = max(groups, key=len, default=[])
        """Those of a training run that have the same to learn: of several tasks, those of the one with the most."""
        chosen, every = (
            [row for arm in some for row in arm.rows] for some in (self.arms, [a for g in groups for a in g])
        )
        self.task = settings.picked(chosen, every) if len(groups) > 1 else ""
        """Which of several tasks that is, in words."""
        self.points: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            self.points.setdefault(_POINT(row), []).append(row)
        self.fixed = settings.fixed(self.rows)
        """The axes that tell none of the rows from another."""


@dataclass(frozen=True)
class Plot:
    """What a figure shows, chosen from a frame once for all that is made of it: files, a caption, a table."""

    numbers: pd.DataFrame
    """As they are plotted; no rows where the frame does not have the numbers for the figure."""
    setting: str = ""
    """Which of several settings they are of, in words, and that they are predicted; empty where there is only one, and
    it was measured."""


def comparable(view: View, along: Iterable[str], counts: Callable[[Row], bool], by: Sequence[str]) -> list[Row]:
    """The rows of one setting: equal in all axes but the method, its own, the seed and those of `along`.

    Of several settings, the one whose rows that `counts` take the most values of `by`, an axis at a time; then
    the deepest, the widest and so on."""
    setting = _setting(along)
    alike: dict[Any, list[Row]] = {}
    for point, members in view.points.items():
        alike.setdefault(setting(point), []).extend(members)

    def worth(members: list[Row]) -> tuple[Any, ...]:
        counted = [row for row in members if counts(row)]
        spread = tuple(len({row[axis] for row in counted}) for axis in by)
        size = tuple(row_size(counted[0] if counted else members[0]))
        return (*spread, len(counted), *size)

    return max(alike.values(), key=worth, default=[])


def _setting(along: Iterable[str]) -> Callable[[tuple[Any, ...]], Any]:
    """What of a point tells the setting of a figure along these axes."""
    free = {name for axis in along for name in (axis, *_FOLLOWERS.get(axis, ()))}
    return itemgetter(*(number for number, name in enumerate(_POINT_AXES) if name not in free))


def row_size(row: Row) -> Iterable[int]:
    """How large a case is, axis by axis."""
    return (row[axis] or 0 for axis in SCALES)


def one_version(rows: Sequence[Row]) -> list[Row]:
    """The rows with one l and one γ a method, and its work in one number of parts."""
    return one_precision(one_gamma(one_cut(rows)))


def version(row: Row) -> dict[str, Any]:
    """The row's values of the columns `VERSION`."""
    return {axis: row[axis] for axis in VERSION}


def one_cut(rows: Sequence[Row]) -> list[Row]:
    """The rows with one number of parts a method: whole batches and no block kept, else the fewest that were
    measured, else the fewest."""
    found = list(rows)
    for axis in CUTS:
        found = _one_value(found, axis, WHOLE[axis], lambda count: -count)
    return found


def one_precision(rows: Sequence[Row]) -> list[Row]:
    """The rows with one l a method: 9, else the largest that was measured, else the largest."""
    return _one_value(rows, "bits", PREFERRED_BITS, lambda bits: bits)


def one_gamma(rows: Sequence[Row]) -> list[Row]:
    """The rows with one γ a method: ±½, else the largest that was measured, else the largest."""
    return _one_value(rows, "gamma", gamma.DEFAULT, gamma.rank)


def plot(table: pd.DataFrame, view: View, chosen: Sequence[Row], counts: Callable[[Row], bool]) -> Plot:
    """The numbers in `table` with what tells the rows `chosen` for them from the others of `view` that count."""
    if table.empty:
        return Plot(table)
    drawn, found = (list(filter(counts, rows)) for rows in (chosen, view.rows))
    which = settings.picked(drawn, found, view.fixed)
    predicted = "predicted" if any(row["predicted"] for row in drawn) else ""
    return Plot(table, " · ".join(filter(None, (which, predicted))))


def leading_axis(view: View, counts: Callable[[Row], bool]) -> str:
    """The axis with the most values among comparable rows; where nothing varies, the first that is known at all, or
    depth."""

    points = [point for point, members in view.points.items() if any(map(counts, members))]

    def spread(axis: str) -> int:
        value, setting = itemgetter(_POINT_AXES.index(axis)), _setting([axis])
        values: dict[Any, set[Any]] = {}
        for point in points:
            values.setdefault(setting(point), set()).add(value(point))
        return max((len(found - {None}) for found in values.values()), default=0)

    return max(SCALES, key=spread)


def numbers(found: Sequence[Mapping[str, Any]], schema: Mapping[str, str]) -> pd.DataFrame:
    """The plotted numbers as a frame with the columns of `schema`, a nullable dtype each."""
    return pd.DataFrame({name: pd.Series([row[name] for row in found], dtype=kind) for name, kind in schema.items()})


def required(frame: pd.DataFrame, needs: str) -> Sequence[Row]:
    """The rows of plotted numbers, of which there must be some.

    Raises: UsageError with what the figure `needs`."""
    if frame.empty:
        raise UsageError(f"nothing to draw: the figure needs {needs}; measure such cases, or choose another figure")
    return rows_of(frame)


def _one_value(rows: Sequence[Row], axis: str, preferred: Any, size: Callable[[Any], Any]) -> list[Row]:
    """The rows with one value of `axis` a method: the preferred one where it was measured, else the largest that
    was, else the largest."""
    ok = {(row["method"], row[axis]) for row in rows if row["status"] == "ok"}

    def worth(row: Row) -> tuple[Any, ...]:
        value, measured = row[axis], (row["method"], row[axis]) in ok
        return (value is not None, value == preferred and measured, measured, () if value is None else size(value))

    kept: dict[str, Row] = {}
    for row in rows:
        kept[row["method"]] = max(kept.get(row["method"], row), row, key=worth)
    return [row for row in rows if row[axis] == kept[row["method"]][axis]]
