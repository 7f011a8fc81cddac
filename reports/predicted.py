"""What is said of predictions: beside measured figures, with the error; and how large a case may be within a limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from bench.case import METHOD_AXES, WHOLE
from bench.fit import AXES, Fit, Found, Growing
from bench.predict import Pair
from reports import settings, units
from reports.frame import grid_order
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Notes, Sheet, axis_cell, cell

TOLERABLE: Final = 0.02
"""An error beyond which a prediction is called off."""


_OTHER: Final[dict[Growing, Growing]] = {"depth": "batch", "batch": "depth"}
"""What is held as the other grows."""


class _Metric(NamedTuple):
    heading: str
    field: str


_METRICS: Final = (_Metric("activ.", "activation_bytes"), _Metric("peak", "peak_bytes"))


def beside(pairs: Sequence[Pair]) -> Sheet | None:
    """Predicted and measured figures side by side, a row a case; None where there is no case that has both."""
    if not pairs:
        return None
    ordered = sorted(pairs, key=lambda pair: grid_order(pair.predicted.case()))
    rows = [msgspec.structs.asdict(pair.predicted) for pair in ordered]
    axes = settings.varying(rows, leave_out=METHOD_AXES)
    tail = settings.of_the_method(rows)
    columns = [Column(settings.name_of(axis), numeric=isinstance(rows[0][axis], int)) for axis in axes]
    columns += [Column("method", numeric=False), *(Column(settings.name_of(axis)) for axis in tail)]
    labels = len(columns)
    scales = {
        field: units.ByteScale.of(getattr(one, field) for pair in pairs for one in (pair.predicted, pair.measured))
        for _, field in _METRICS
    }
    for heading, field in _METRICS:
        unit = scales[field].unit
        columns += [Column(heading, f"pred. {unit}"), Column(heading, f"meas. {unit}"), Column("error")]
    lines: list[Line] = []
    point: tuple[object, ...] | None = None
    for pair, row in zip(ordered, rows, strict=True):
        cells = [axis_cell(row, axis) for axis in axes]
        cells += [Cell(row["method"]), *(axis_cell(row, axis) for axis in tail)]
        for _, field in _METRICS:
            was, is_ = getattr(pair.predicted, field), getattr(pair.measured, field)
            cells += [cell(scales[field].number(one), one) for one in (was, is_)]
            cells.append(_error(was, is_))
        before, point = point, tuple(row[axis] for axis in axes)
        lines.append(Line(tuple(cells), opens=point != before))
    return Sheet(
        title=f"predicted beside measured · {settings.sentence([{**row, 'predicted': False} for row in rows])}",
        columns=tuple(columns),
        lines=tuple(lines),
        keys=len(axes),
        labels=labels,
        legend=("pred.: predicted, meas.: measured; error: predicted less measured, of measured",),
    )


def error(predicted: int | None, measured: int | None) -> float | None:
    """By which share of what was measured the prediction is off."""
    return None if predicted is None or not measured else (predicted - measured) / measured


def worst(pairs: Iterable[Pair]) -> str:
    """How far off the predictions are at most, in a sentence."""
    found = [
        (abs(off), field, pair)
        for pair in pairs
        for _, field in _METRICS
        if (off := error(getattr(pair.predicted, field), getattr(pair.measured, field))) is not None
    ]
    if not found:
        return "No case is both predicted and measured."
    off, field, pair = max(found, key=lambda item: item[0])
    count = units.cases(len({id(pair) for _, _, pair in found}))
    if not off:
        return f"Predicted to the byte: {count}."
    said = units.change(getattr(pair.measured, field), getattr(pair.predicted, field))
    return f"Predicted and measured: {count}, the largest error {said}, {field} of {pair.predicted.case().label()}."


def _error(predicted: int | None, measured: int | None) -> Cell:
    off = error(predicted, measured)
    if off is None:
        return cell(units.MISSING)
    return Cell(units.change(measured, predicted), "good" if abs(off) <= TOLERABLE else "bad", value=off)


def fitting(fits: Sequence[Fit], limit: str) -> Sheet | None:
    """How deep and how large a batch, a row a case; None where nothing was asked."""
    if not fits:
        return None
    ordered = sorted(fits, key=lambda fit: grid_order(fit.case))
    rows: list[Row] = [
        {**msgspec.structs.asdict(fit.case), "status": fit.status, "message": _message(fit)} for fit in ordered
    ]
    axes = settings.varying(rows, leave_out=METHOD_AXES)
    kept = [*(axis for axis in ("depth", "batch") if axis not in axes and rows[0][axis] is not None), *axes]
    tail = settings.of_the_method(rows)
    notes = Notes()
    lines: list[Line] = []
    point: tuple[object, ...] | None = None
    for fit, row in zip(ordered, rows, strict=True):
        method = Cell(f"{row['method']} {notes.mark(row)}".rstrip(), "plain" if fit.status == "ok" else "bad")
        cells = [*(axis_cell(row, axis) for axis in kept), method, *(axis_cell(row, axis) for axis in tail)]
        cells += [*_size(fit, fit.depth), *_size(fit, fit.batch)]
        before, point = point, tuple(row[axis] for axis in kept)
        lines.append(Line(tuple(cells), opens=point != before))
    columns = [Column(settings.name_of(axis), numeric=isinstance(rows[0][axis], int)) for axis in kept]
    columns += [Column("method", numeric=False), *(Column(settings.name_of(axis)) for axis in tail)]
    labels = len(columns)
    columns += [Column("deepest"), Column("its", "peak"), Column("largest", "batch"), Column("its", "peak")]
    return Sheet(
        title=f"what fits in {limit} · predicted · {settings.sentence(rows)}",
        columns=tuple(columns),
        lines=tuple(lines),
        keys=len(kept),
        labels=labels,
        notes=notes.lines(),
        legend=(
            "deepest: the most blocks at the row's batch; largest batch: at the row's depth; one more is too much",
            "its peak: peak_bytes there, over one whole training step",
        ),
    )


def sentence(fits: Sequence[Fit], limit: str) -> str:
    """What fits, in words: of the last of the largest settings, method by method."""
    told = sorted((fit for fit in fits if fit.depth or fit.batch), key=lambda fit: grid_order(fit.case))
    if not told:
        return f"Nothing could be predicted of what fits in {limit}."
    last = max(reversed(told), key=lambda fit: (fit.case.depth or 0, fit.case.batch or 0))
    group = [fit for fit in told if fit.case.group() == last.case.group()]
    clauses = [clause for axis in AXES if (clause := _clause(group, axis, _given(last, _OTHER[axis])))]
    if not clauses:
        return f"Nothing fits in {limit}."
    setting = settings.picked(_rows(group), _rows(told), fixed=AXES)
    return f"In {limit}{setting and f' with {setting}'}, {'; '.join(clauses)}."


def _rows(fits: Sequence[Fit]) -> list[Row]:
    return [msgspec.structs.asdict(fit.case) for fit in fits]


def _given(fit: Fit, axis: Growing) -> str:
    value = getattr(fit.case, axis)
    return "" if value is None else f" at {axis} {units.integer(value)}"


def _clause(group: Sequence[Fit], axis: Growing, given: str) -> str:
    tail = settings.of_the_method(_rows(group))
    said = []
    for fit, row in zip(group, _rows(group), strict=True):
        found: Found | None = getattr(fit, axis)
        if found is None:
            continue
        told = settings.values(row, [name for name in tail if row[name] != WHOLE.get(name)])
        method = " ".join([fit.case.method, *([f"({', '.join(told)})"] if told else [])])
        if found.size is not None:
            said.append(f"{method} {units.integer(found.size)}")
        elif found.peak_bytes is not None and found.note and "more than" in found.note:
            said.append(f"{method} not even one")
    return f"predicted {'depths' if axis == 'depth' else 'batches'}{given} go to: {', '.join(said)}" if said else ""


def _size(fit: Fit, found: Found | None) -> tuple[Cell, Cell]:
    if found is None:
        return Cell(fit.status, "bad"), cell(units.MISSING)
    if found.size is None:
        text = "none" if found.note and "more than" in found.note else units.MISSING
        return Cell(text, "bad" if text == "none" else "muted"), cell(units.size(found.peak_bytes), found.peak_bytes)
    about = "~" if found.note else ""
    return Cell(f"{about}{units.integer(found.size)}", value=found.size), cell(
        units.size(found.peak_bytes), found.peak_bytes
    )


def _message(fit: Fit) -> str | None:
    notes = [found.note for found in (fit.depth, fit.batch) if found is not None]
    return "; ".join(dict.fromkeys(said for said in (fit.message, *notes) if said)) or None
