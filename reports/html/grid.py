"""Tables as the page has them: a sheet, no longer than a page can be read, and how it is laid out and sorted."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pandas as pd

from reports import settings, units
from reports.frame import rows
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Sheet, axis_cell, cell

TABLE_ROWS: Final = 400
"""Of a table."""
FAILED_ROWS: Final = 1000
"""Of the table of failed cases: what went wrong is worth more room."""
PLOTTED_ROWS: Final = 200
"""Of a table of plotted numbers."""
LONG: Final = 28
"""Characters of a cell beyond which its text is broken into lines."""
_SIZES: Final = ((112, "usual"), (140, "small"))
"""How wide a table may be, in characters, to go onto A4 in the usual size and in a smaller one."""
_GAP: Final = 2


@dataclass(frozen=True)
class Grid:
    """A table of the page."""

    sheet: Sheet
    left_out: int
    """Rows that are not shown."""

    @functools.cached_property
    def heads(self) -> int:
        """The column that names a row, and stays in sight when the others are scrolled: after the keys, the first that
        is no number."""
        columns = list(enumerate(self.sheet.columns))
        return next((index for index, column in columns[self.sheet.keys :] if not column.numeric), 0)

    @property
    def by_number(self) -> tuple[bool, ...]:
        """For each column, whether it is sorted by the numbers behind its cells, or by its text."""
        lines = self.sheet.lines
        return tuple(
            any(line.cells[index].value is not None for line in lines) for index in range(len(self.sheet.columns))
        )

    @property
    def print_size(self) -> str:
        """How the table goes onto paper: `usual`, `small`, or `tight`, with its texts broken into lines."""
        width = 0
        for index, column in enumerate(self.sheet.columns):
            texts = [column.heading, column.unit]
            for line in self.sheet.lines:
                texts += (line.cells[index].text, line.cells[index].extra)
            width += _GAP + min(LONG, max(map(len, texts)))
        return next((size for limit, size in _SIZES if width <= limit), "tight")

    def classed(self, line: Line) -> Iterator[tuple[Cell, str]]:
        """The cells of a line, each with the classes that say how it looks."""
        heads, repeated = self.heads, 0 if line.opens else self.sheet.keys
        for index, (column, one) in enumerate(zip(self.sheet.columns, line.cells, strict=True)):
            of = (
                "number" if column.numeric else "",
                one.tone if one.tone != "plain" else "",
                # Its text is broken into lines.
                "long" if len(one.text) > LONG else "",
                "head" if index == heads else "",
                "repeated" if index < repeated else "",
            )
            yield one, " ".join(filter(None, of))


def cut(sheet: Sheet, limit: int = TABLE_ROWS) -> Grid:
    """`sheet` with at most `limit` rows, groups left whole where one fits, and the notes that these rows refer to."""
    if len(sheet.lines) <= limit:
        return Grid(sheet, sheet.beyond)
    ends = [number for number in range(1, limit + 1) if sheet.lines[number].opens]
    kept = sheet.lines[: max(ends, default=limit)]
    words = {word for line in kept for cell in line.cells for word in cell.text.split()}
    notes = tuple(note for note in sheet.notes if not _marked(note) or note.partition(" ")[0] in words)
    return Grid(replace(sheet, lines=kept, notes=notes), sheet.beyond + len(sheet.lines) - len(kept))


def plotted(numbers: pd.DataFrame) -> Grid:
    """The numbers that a figure plots, raw."""
    found = rows(numbers)
    columns = tuple(Column(str(name), numeric=pd.api.types.is_numeric_dtype(numbers[name])) for name in numbers.columns)
    lines = tuple(Line(tuple(_raw(value) for value in row.values())) for row in found)
    return cut(Sheet("", columns, lines), PLOTTED_ROWS)


def failed(found: Sequence[Row]) -> Grid | None:
    """The cases that did not end well, with how each ended and why; None where there are none."""
    lost = [row for row in found if row["status"] != "ok"]
    if not lost:
        return None
    axes = settings.varying(found)
    columns = [Column("method", numeric=False)]
    columns += [
        Column(settings.name_of(axis), numeric=all(isinstance(row[axis], int) for row in lost)) for axis in axes
    ]
    columns += [Column("status", numeric=False), Column("reason", numeric=False)]
    lines = tuple(
        Line(
            (
                Cell(row["method"]),
                *(axis_cell(row, axis) for axis in axes),
                Cell(row["status"], "bad"),
                cell(row["message"] or units.MISSING),
            ),
            opens=True,
        )
        for row in lost
    )
    return cut(Sheet(settings.sentence(found), tuple(columns), lines), FAILED_ROWS)


def _raw(value: object) -> Cell:
    if isinstance(value, bool) or value is None:
        return cell(units.yes_no(value))
    if isinstance(value, int | float):
        return cell(units.plain(value), value)
    return cell(str(value))


def _marked(note: str) -> bool:
    return note[:1] in set("⁰¹²³⁴⁵⁶⁷⁸⁹")
