"""The table of two runs side by side: a row a case, its memory before and after, and the verdict."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from bench.case import Case
from bench.comparison import Comparison, Value, Verdict
from bench.record import FAILED
from bench.tolerance import Metric
from reports import settings, units, values
from reports.excerpt import ROWS
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


def compared(comparisons: Sequence[Comparison], limit: int | None = ROWS) -> Sheet | None:
    """What `bench.compare.compare` found, a row a case in the order of the grid; None where there is nothing.

    The verdict of a row is the worst of its metrics'. Notes have the parts and blocks that moved, each with the cases
    it moved in, verdicts that no column shows, as of `side_bytes`, and memory laws that changed. A case that is
    compared as a whole has its status before and after in place of the first metric. Of more than `limit` cases, those
    that are the same throughout are only counted, and the first of the others shown."""
    if not comparisons:
        return None
    of_case: dict[Case, list[Comparison]] = {}
    for comparison in comparisons:
        if comparison.metric != "bits_per_activation":
            of_case.setdefault(comparison.case, []).append(comparison)
    of_case = {case: of_case[case] for case in sorted(of_case, key=grid_order)}
    of_case, same, left_out = _shortened(of_case, limit)
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
    metrics_shown = {metric for metric, _ in _SHOWN}
    moved: dict[str, list[str]] = {}
    lines: list[Line] = []
    notes: list[str] = []
    for case, found in of_case.items():
        metrics = {comparison.metric: comparison for comparison in found}
        cells = [axis_cell(rows[case], axis) for axis in axes] + [Cell(case.method)]
        measured = [cell for metric, _ in _SHOWN for cell in _bytes(metrics.get(metric), scales[metric])]
        if whole := metrics.get(None):
            measured[:2] = [_status(whole.old), _status(whole.new)]
        cells += measured
        lines.append(Line((*cells, _verdict(found)), opens=True))
        told = dict.fromkeys(one.where for one in found if one.metric in metrics_shown and one.where)
        for where in told:
            moved.setdefault(where, []).append(settings.which(rows[case], axes))
        notes += [_note(comparison, rows[case], axes, told) for comparison in found if _unseen(comparison)]
    notes += [_note(one, _axes(one.case), axes, ()) for one in comparisons if _law_changed(one)]
    notes = _headed("no column shows", notes)
    notes = _headed("moved", [f"{where}: {', '.join(cases)}" for where, cases in moved.items()]) + notes
    if not lines and not notes:
        return None
    if same:
        notes.append(f"{units.cases(same)} not shown: the same in every metric")
    columns = [Column(settings.name_of(axis), numeric=_numeric(axis, rows.values())) for axis in axes]
    columns.append(Column("method", numeric=False))
    for metric, heading in _SHOWN:
        unit = scales[metric].unit
        columns += [Column(heading, unit), Column("→ head", unit), Column("change")]
    return Sheet(
        title=settings.sentence(list(rows.values())),
        columns=(*columns, Column("verdict", numeric=False)),
        lines=tuple(lines),
        notes=tuple(notes),
        left_out=f"{units.cases(left_out)} that changed left out" if left_out else "",
    )


def _headed(heading: str, notes: Sequence[str]) -> list[str]:
    return [f"{heading}:", *(f"  {note}" for note in notes)] if notes else []


def _shortened(
    of_case: dict[Case, list[Comparison]], limit: int | None
) -> tuple[dict[Case, list[Comparison]], int, int]:
    """What is shown, and how many cases are not: of those that are the same, and of the others."""
    if limit is None or len(of_case) <= limit:
        return of_case, 0, 0
    changed = {case: found for case, found in of_case.items() if any(one.verdict != "same" for one in found)}
    shown = dict(itertools.islice(changed.items(), limit))
    return shown, len(of_case) - len(changed), len(changed) - len(shown)


def _numeric(axis: str, rows: Iterable[dict[str, Any]]) -> bool:
    return all(row[axis] is None or isinstance(row[axis], int) for row in rows)


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


def _status(ended: Value) -> Cell:
    return cell(units.MISSING) if ended is None else Cell(str(ended), "bad" if ended in FAILED else "plain")


def _verdict(found: Sequence[Comparison]) -> Cell:
    worst = min(found, key=lambda comparison: _WORST_FIRST.index(comparison.verdict))
    tone: Tone = "bad" if worst.regression else "good" if worst.improvement else "plain"
    return Cell(worst.verdict, tone)


def _unseen(comparison: Comparison) -> bool:
    """Whether the columns leave open why the verdict is what it is."""
    return comparison.verdict != "same" and comparison.metric not in {None, *(metric for metric, _ in _SHOWN)}


def _note(comparison: Comparison, row: dict[str, Any], axes: Sequence[str], told: Collection[str]) -> str:
    """One verdict in words; `told` is where bytes are already said to have moved."""
    ends = " → ".join(values.value(comparison.metric, end) for end in (comparison.old, comparison.new))
    said = "; ".join(filter(None, ("" if comparison.where in told else comparison.where, comparison.note)))
    where = f" ({said})" if said else ""
    over = " over depth" if _law_changed(comparison) else ""
    return f"{settings.which(row, axes)}{over}: {comparison.verdict}, {comparison.metric} {ends}{where}"


def _law_changed(comparison: Comparison) -> bool:
    return comparison.metric == "bits_per_activation" and comparison.verdict != "same"
