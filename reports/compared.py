"""The table of two runs side by side: a row a case, its memory before and after, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from bench.case import Case
from bench.compare import Comparison, Metric, Verdict
from bench.record import FAILED
from reports import settings, units
from reports.excerpt import excerpt
from reports.frame import grid_order
from reports.sheets import Cell, Column, Line, Sheet, Tone, axis_cell, cell

_SHOWN: tuple[tuple[Metric, str], ...] = (("activation_bytes", "activ."), ("peak_bytes", "peak"))
_WORST_FIRST: tuple[Verdict, ...] = (
    "newly failing",
    "missing",
    "worse",
    "newly passing",
    "better",
    "new",
    "same",
)


def compared(comparisons: Sequence[Comparison], limit: int | None = None) -> Sheet | None:
    """What `bench.compare.compare` found, a row a case in the order of the grid; None where there is nothing.

    The verdict of a row is the worst of its metrics'; one that no column shows, as of `side_bytes`, is a note. A
    case that is compared as a whole has its status before and after in place of the first metric. Of more than `limit`
    rows an excerpt: how the table begins, then cases that changed."""
    if not comparisons:
        return None
    of_case: dict[Case, list[Comparison]] = {}
    for comparison in comparisons:
        of_case.setdefault(comparison.case, []).append(comparison)
    rows = {case: _axes(case) for case in of_case}
    axes = settings.varying(list(rows.values()))
    scales = {
        metric: units.ByteScale.of(
            value
            for comparison in comparisons
            if comparison.metric == metric
            for value in (comparison.old, comparison.new)
            if isinstance(value, int)
        )
        for metric, _ in _SHOWN
    }
    lines: list[Line] = []
    notes: list[str] = []
    kept = excerpt(
        sorted(of_case, key=grid_order),
        limit,
        point=lambda case: case,
        telling=lambda case: any(comparison.verdict != "same" for comparison in of_case[case]),
    )
    for case in kept.shown:
        found = of_case[case]
        metrics = {comparison.metric: comparison for comparison in found}
        cells = [axis_cell(rows[case], axis) for axis in axes] + [Cell(case.method)]
        measured = [cell for metric, _ in _SHOWN for cell in _bytes(metrics.get(metric), scales[metric])]
        if whole := metrics.get(None):
            measured[:2] = [_status(whole.old), _status(whole.new)]
        cells += measured
        lines.append(Line((*cells, _verdict(found)), opens=True))
        notes += [_note(comparison, rows[case], axes) for comparison in found if _unseen(comparison)]
    columns = [
        Column(settings.name_of(axis), numeric=isinstance(getattr(comparisons[0].case, axis), int)) for axis in axes
    ]
    columns.append(Column("method", numeric=False))
    for metric, heading in _SHOWN:
        unit = scales[metric].unit
        columns += [Column(heading, unit), Column("→ head", unit), Column("change")]
    return Sheet(
        title=settings.sentence(list(rows.values())),
        columns=(*columns, Column("verdict", numeric=False)),
        lines=tuple(lines),
        notes=tuple(notes),
        left_out=kept.said("that changed"),
    )


def _axes(case: Case) -> dict[str, Any]:
    return msgspec.structs.asdict(case)


def _bytes(comparison: Comparison | None, scale: units.ByteScale) -> tuple[Cell, Cell, Cell]:
    old = comparison.old if comparison and isinstance(comparison.old, int) else None
    new = comparison.new if comparison and isinstance(comparison.new, int) else None
    text = units.change(old, new)
    tone: Tone = "plain"
    if old is None or new is None or old == new:
        tone = "muted"
    elif comparison is not None and (comparison.regression or comparison.improvement):
        tone = "bad" if comparison.regression else "good"
    return cell(scale.number(old)), cell(scale.number(new)), Cell(text, tone)


def _status(ended: int | str | None) -> Cell:
    return cell(units.MISSING) if ended is None else Cell(str(ended), "bad" if ended in FAILED else "plain")


def _verdict(found: Sequence[Comparison]) -> Cell:
    worst = min(found, key=lambda comparison: _WORST_FIRST.index(comparison.verdict))
    tone: Tone = "bad" if worst.regression else "good" if worst.improvement else "plain"
    return Cell(worst.verdict, tone)


def _unseen(comparison: Comparison) -> bool:
    """Whether the columns leave open why the verdict is what it is."""
    return comparison.verdict != "same" and comparison.metric not in {None, *(metric for metric, _ in _SHOWN)}


def _note(comparison: Comparison, row: dict[str, Any], axes: Sequence[str]) -> str:
    ends = [
        units.integer(value) if isinstance(value, int) else value or units.MISSING
        for value in (comparison.old, comparison.new)
    ]
    return f"{settings.which(row, axes)}: {comparison.verdict}, {comparison.metric} {ends[0]} → {ends[1]}"
