"""The table of reconstructions: cases of which only the reconstruction was measured, seeds taken together."""

from __future__ import annotations

import operator
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.case import METHOD_AXES
from reports import settings, units
from reports.excerpt import excerpt
from reports.frame import AXES
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Notes, Sheet, axis_cell, cell

_POINT = operator.itemgetter(*(axis for axis in AXES if axis not in (*METHOD_AXES, "seed", "train_steps")))
_BUT_THE_SEED = operator.itemgetter(*(axis for axis in AXES if axis != "seed"))
_COLUMNS = (
    Column("seeds"),
    Column("error", "block 0"),
    Column("worst", "error"),
    Column("growth", "log2/block"),
    Column("exact"),
)
_LEGEND = (
    "error: largest |rebuilt x − x of the forward|; median over seeds (and range)",
    "growth: slope of log2 error from the top block down; 1 is a doubling a block",
)


def partition(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the main table, and those of the table of reconstructions.

    Into the second go cases of which nothing but the reconstruction was measured, and with them every other
    reconstruction at the same point, whatever its seed. A failed case goes where the rest of its group is, or
    of its point; one that stands alone goes into the main table."""
    points = {_POINT(row) for row in rows if _reconstruction_only(row)}
    full_groups = {row["group"] for row in rows if _fully_measured(row)}
    main: list[Row] = []
    second: list[Row] = []
    for row in rows:
        related = _POINT(row) in points
        in_main = _fully_measured(row) or (
            not _reconstruction_only(row) and (row["group"] in full_groups or not related)
        )
        if in_main:
            main.append(row)
        if related and (row["reconstruction"] is not None or not in_main):
            second.append(row)
    return main, second


def reconstructed(rows: Sequence[Row], limit: int | None = None, *, beginning: bool = False) -> Sheet | None:
    """A row for all cases equal in all but the seed: median and range of their errors; None without rows. Of more than
    `limit` such rows an excerpt, as of the main table."""
    if not rows:
        return None
    axes = settings.varying(rows, leave_out=(*METHOD_AXES, "seed"))
    tail = settings.of_the_method(rows)
    notes = Notes((*axes, *tail, "seed"))
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_BUT_THE_SEED(row), []).append(row)
    lines: list[Line] = []
    point: tuple[Any, ...] | None = None
    kept = excerpt(
        sorted(groups.values(), key=lambda members: _order(members[0], axes)),
        limit,
        point=lambda members: _order(members[0], axes),
        telling=lambda members: not beginning and any(row["status"] != "ok" for row in members),
    )
    for members in kept.shown:
        first = members[0]
        cells = [axis_cell(first, axis) for axis in axes]
        cells += [Cell(first["method"]), *(axis_cell(first, axis) for axis in tail)]
        before, point = point, tuple(first[axis] for axis in axes)
        lines.append(Line((*cells, *_summary(members, notes)), opens=point != before))
    head = [Column(settings.name_of(axis), numeric=isinstance(rows[0][axis], int)) for axis in axes]
    head += [Column("method", numeric=False), *(Column(settings.name_of(axis)) for axis in tail)]
    return Sheet(
        title=settings.sentence(rows),
        columns=(*head, *_COLUMNS),
        lines=tuple(lines),
        keys=len(axes),
        labels=len(head),
        notes=notes.lines(),
        legend=_LEGEND,
        left_out=kept.said("with cases that did not end well"),
        beyond=kept.left_out,
    )


def _summary(members: Sequence[Row], notes: Notes) -> tuple[Cell, ...]:
    found = [row for row in members if row["reconstruction"] is not None]
    finite = all(row["reconstruction_finite"] for row in found)
    exact = [row["bit_exact"] for row in found if row["bit_exact"] is not None]
    return (
        _count(len(found), members, notes),
        _spread((row["first_max_abs_error"] for row in found), units.error, units.error_range),
        _spread((row["worst_max_abs_error"] for row in found), units.error, units.error_range)
        if finite
        else Cell(units.NOT_FINITE, "bad"),
        _spread((row["error_doublings"] for row in found), units.slope, units.slope_range),
        _exactness(exact),
    )


def _count(measured: int, members: Sequence[Row], notes: Notes) -> Cell:
    """How many seeds were measured; those that ended badly are counted by their status."""
    marks = {notes.mark(row): None for row in members}
    ends = Counter(row["status"] for row in members if row["status"] != "ok")
    said = ", ".join(f"{number} {status}" for status, number in ends.items())
    text = " ".join([str(measured), f"({said})" if said else "", *marks])
    return Cell(" ".join(text.split()), "bad" if said else "plain", value=measured)


def _spread(
    values: Iterable[float | None],
    text: Callable[[float | None], str],
    range_text: Callable[[float, float], str],
) -> Cell:
    """The median, and the range behind it where there is one."""
    known = [value for value in values if value is not None]
    if not known:
        return cell(units.MISSING)
    low, middle, high = min(known), statistics.median(known), max(known)
    return Cell(text(middle), extra="" if low == high else range_text(low, high), value=middle)


def _exactness(exact: Sequence[bool]) -> Cell:
    if not exact:
        return cell(units.MISSING)
    share = statistics.fmean(exact)
    if all(exact):
        return Cell("yes", "good", value=share)
    return Cell("no" if not any(exact) else f"{sum(exact)} of {len(exact)}", "bad", value=share)


def _order(row: Row, axes: Iterable[str]) -> tuple[Any, ...]:
    return tuple((row[axis] is not None, row[axis]) for axis in axes)


def _fully_measured(row: Row) -> bool:
    return row["activation_bytes"] is not None or row["peak_bytes"] is not None or bool(row["step_seconds"])


def _reconstruction_only(row: Row) -> bool:
    return row["status"] == "ok" and row["reconstruction"] is not None and not _fully_measured(row)
