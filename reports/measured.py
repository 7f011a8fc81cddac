"""The main table: a row a case, with memory, speed and correctness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bench.case import METHOD_AXES
from reports import settings, units
from reports.excerpt import Excerpt, excerpt
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Notes, Sheet, axis_cell, cell, exactness, slope, worst_error

Part = Literal["memory", "speed"]
PARTS: tuple[Part, ...] = ("memory", "speed")
"""The halves of the table, for pages too narrow for the whole."""


@dataclass(frozen=True)
class Metric:
    """A measured column: what it is called, where it goes, and how a row's cell is made."""

    column: Column
    part: Part
    measured: Callable[[Row], bool]
    cell: Callable[[Row], Cell]


@dataclass(frozen=True)
class Main:
    """The main table, looked through once for the whole of it and for its parts."""

    metrics: Sequence[Metric]
    """Those that a row has a number for."""
    axes: Sequence[Column]
    names: Sequence[str]
    """Of the axes that vary."""
    tail: Sequence[str]
    """And of those of the method's own."""
    title: str
    kept: Excerpt[Row]

    def sheet(self, part: Part | None = None) -> Sheet | None:
        """The table or a `part` of it; None where it has no columns."""
        metrics = [metric for metric in self.metrics if part in (None, metric.part)]
        if not metrics:
            return None
        notes = Notes()
        mixed = len({bool(row["predicted"]) for row in self.kept.shown}) > 1
        lines: list[Line] = []
        point: tuple[Any, ...] | None = None
        for row in self.kept.shown:
            values = [metric.cell(row) for metric in metrics]
            method = _with_status(row, metrics, values, notes, mixed=mixed)
            cells = [axis_cell(row, axis) for axis in self.names]
            cells += [method, *(axis_cell(row, axis) for axis in self.tail), *values]
            before, point = point, tuple(row[axis] for axis in self.names)
            lines.append(Line(tuple(cells), opens=point != before))
        head = [*self.axes, Column("method", numeric=False), *(Column(settings.name_of(axis)) for axis in self.tail)]
        return Sheet(
            title=self.title,
            columns=(*head, *(metric.column for metric in metrics)),
            lines=tuple(lines),
            keys=len(self.axes),
            labels=len(head),
            notes=notes.lines(),
            legend=_legend(metrics),
            left_out=self.kept.said("cases that did not end well"),
            beyond=self.kept.left_out,
        )


def main(rows: Sequence[Row], limit: int | None = None, *, beginning: bool = False) -> Main | None:
    """The main table over `rows`; None where there are none. Of more than `limit` rows an excerpt: how the table
    begins and, unless only its `beginning` is asked for, cases that did not end well.

    A column that no row has a number for is left out. A case that did not end well is a row with its status in
    the first cell it has no number for; what it said is a note."""
    if not rows:
        return None
    columns = _metrics(rows)
    axes = settings.varying(rows, leave_out=METHOD_AXES)
    return Main(
        metrics=[metric for metric in columns if any(metric.measured(row) for row in rows)] or columns[:2],
        axes=[Column(settings.name_of(axis), numeric=_numeric(rows, axis)) for axis in axes],
        names=axes,
        tail=settings.of_the_method(rows),
        title=settings.sentence(rows),
        kept=excerpt(
            rows,
            limit,
            point=lambda row: row["group"],
            telling=lambda row: not beginning and row["status"] != "ok",
        ),
    )


def measured(rows: Sequence[Row], limit: int | None = None, *, beginning: bool = False) -> Sheet | None:
    """The whole of `main` as a sheet."""
    found = main(rows, limit, beginning=beginning)
    return None if found is None else found.sheet()


def _metrics(rows: Sequence[Row]) -> list[Metric]:
    def number(heading: str, unit: str, field: str, text: Callable[[Any], str], part: Part) -> Metric:
        return Metric(
            Column(heading, unit),
            part,
            lambda row: row[field] is not None,
            lambda row: cell(text(row[field]), row[field]),
        )

    def memory(heading: str, field: str) -> Metric:
        scale = units.ByteScale.of(row[field] for row in rows)
        return number(heading, scale.unit, field, scale.number, "memory")

    # Tokens where every case has them: a table of both kinds of model can only share samples.
    timed = [row for row in rows if row["samples_per_second"] is not None]
    tokens = all(row["tokens_per_second"] is not None for row in timed)
    rate_unit, rate_field = ("tok/s", "tokens_per_second") if tokens else ("samples/s", "samples_per_second")
    return [
        memory("peak", "peak_bytes"),
        memory("activ.", "activation_bytes"),
        number("vs", "std", "activation_ratio", units.ratio, "memory"),
        memory("side", "side_bytes"),
        Metric(Column("bits/", "act."), "memory", lambda row: row["bits_per_activation"] is not None, slope),
        number("rate", rate_unit, rate_field, units.rate, "speed"),
        number("vs", "std", "rate_ratio", units.ratio, "speed"),
        Metric(
            Column("worst", "error"),
            "speed",
            lambda row: row["reconstruction_finite"] is not None,
            lambda row: worst_error(row["worst_max_abs_error"], row["reconstruction_finite"]),
        ),
        Metric(
            Column("exact"),
            "speed",
            lambda row: row["bit_exact"] is not None,
            lambda row: exactness(row["bit_exact"]),
        ),
        number("gradient", "error", "gradient_error", units.error, "speed"),
        # Of methods that compute the plain transformer there is nothing to say.
        Metric(
            Column("loss", "− plain"),
            "speed",
            lambda row: bool(row["loss_difference"]),
            lambda row: cell(units.difference(row["loss_difference"]), row["loss_difference"]),
        ),
    ]


def _with_status(row: Row, metrics: Sequence[Metric], values: list[Cell], notes: Notes, *, mixed: bool) -> Cell:
    """Puts a failed row's status into the first empty cell of `values`, and makes the cell of its method.

    That cell takes the status where no other is empty, and the mark of what a case said that ended well. Where
    predicted cases stand among measured ones (`mixed`), it says which they are."""
    mark = notes.mark(row)
    if row["status"] == "ok":
        return Cell(" ".join(filter(None, (row["method"], "(predicted)" if mixed and row["predicted"] else "", mark))))
    status = f"{row['status']} {mark}".rstrip()
    for index, metric in enumerate(metrics):
        if not metric.measured(row):
            values[index] = Cell(status, "bad")
            return Cell(row["method"])
    return Cell(f"{row['method']} {status}", "bad")


def _numeric(rows: Sequence[Row], axis: str) -> bool:
    return {type(row[axis]) for row in rows} <= {int, type(None)}


def _legend(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """What the headings leave open, for those that are shown."""
    headings = {metric.column.heading for metric in metrics}
    meanings = {
        "activ.": "activ.: highest level over forward and backward, above that before the step",
        "side": "side: the side bits of eq. 20, as held at the end of the forward",
        "bits/": "bits/act.: bits per activation, the growth with depth per block and element of x",
        "vs": "vs std: over standard of the same group; for rates, the median of paired rounds",
        "worst": "worst error: largest |rebuilt x − x of the forward| over all blocks",
        "gradient": "gradient error: relative L2 against the same rule with stored activations",
        "loss": "loss − plain: how far the method's training loss is from the plain transformer's, at the same weights",
    }
    return tuple(text for heading, text in meanings.items() if heading in headings)
