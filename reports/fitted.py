"""The table of the memory law: what each method holds against depth, and how far that is from its floor."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from bench.case import METHOD_AXES
from reports import settings, units
from reports.excerpt import excerpt
from reports.frame import AXES
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Sheet, axis_cell, cell

NAME = "memory law"
_LEGEND = (
    "memory law: activ. = a + b · depth, by least squares over the depths",
    "floor: what b cannot fall below: the side bits of a method, or the width of the states it stores",
    "line: no where a depth lies off it by over 1% of what the blocks add, or 0.01 bits each if that is more",
)


def fitted(rows: Sequence[Row], limit: int | None = None, *, beginning: bool = False) -> Sheet | None:
    """A row for all cases equal in all but the depth, of those measured at two depths or more; None without any. Of
    more than `limit` such rows an excerpt: how the table begins and, unless only its `beginning` is asked for, those
    that are no line."""
    others = operator.itemgetter(*(axis for axis in AXES if axis != "depth"))
    series: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["bits_per_activation"] is not None:
            series.setdefault(others(row), []).append(row)
    if not series:
        return None
    firsts = [members[0] for members in series.values()]
    axes = settings.varying(firsts, leave_out=(*METHOD_AXES, "depth"))
    tail = settings.of_the_method(firsts)
    intercepts, slopes = (_scale([row[name] for row in firsts]) for name in ("law_intercept_bytes", "law_slope_bytes"))
    lines: list[Line] = []
    point: tuple[Any, ...] | None = None
    kept = excerpt(
        list(series.values()),
        limit,
        point=lambda members: tuple(members[0][axis] for axis in axes),
        telling=lambda members: not beginning and members[0]["law_linear"] is False,
    )
    for members in kept.shown:
        first = members[0]
        before, point = point, tuple(first[axis] for axis in axes)
        cells = (
            *(axis_cell(first, axis) for axis in axes),
            Cell(first["method"]),
            *(axis_cell(first, axis) for axis in tail),
            cell(intercepts.number(round(first["law_intercept_bytes"])), first["law_intercept_bytes"]),
            cell(slopes.number(round(first["law_slope_bytes"])), first["law_slope_bytes"]),
            *_against_floor(first),
            Cell(units.values([row["depth"] for row in members])),
            _line(first),
        )
        lines.append(Line(cells, opens=point != before))
    head = [Column(settings.name_of(axis), numeric=isinstance(firsts[0][axis], int)) for axis in axes]
    head += [Column("method", numeric=False), *(Column(settings.name_of(axis)) for axis in tail)]
    return Sheet(
        title=" · ".join((NAME, settings.sentence([row for members in series.values() for row in members]))),
        columns=(
            *head,
            Column("a", intercepts.unit),
            Column("b", f"{slopes.unit}/block"),
            Column("b", "bits/act."),
            Column("floor", "bits/act."),
            Column("over", "floor"),
            Column("depths", numeric=False),
            Column("line", numeric=False),
        ),
        lines=tuple(lines),
        keys=len(axes),
        labels=len(head),
        legend=_LEGEND,
        name=NAME,
        left_out=kept.said("that are no line"),
        beyond=kept.left_out,
    )


def _scale(sizes: Sequence[float]) -> units.ByteScale:
    """One unit for a column. A method that keeps next to nothing a block has no say in it."""
    least = max(map(abs, sizes)) / 10_000
    return units.ByteScale.of(round(abs(size)) for size in sizes if abs(size) >= least)


def _against_floor(row: Row) -> tuple[Cell, Cell, Cell]:
    """b in bits, its floor, and the one over the other: of a line alone, and not of a floor of 0."""
    bits, floor = row["bits_per_activation"], row["law_floor_bits"]
    over = bits / floor if floor and row["law_linear"] is not False else None
    slope = Cell(units.bits(bits), "muted" if row["law_linear"] is False else "plain", value=bits)
    return slope, cell(units.integer(floor), floor), cell(units.ratio(over), over)


def _line(row: Row) -> Cell:
    if row["law_linear"] is None:
        return Cell("two depths", "muted")
    if row["law_linear"]:
        return Cell("yes", "good")
    return Cell("no", "bad", extra=f"off by up to {units.size(round(row['law_deviation_bytes']))}")
