"""What the tables say, before any renderer: columns, rows of formatted cells, notes.

`tables` turns a sheet into a Rich table, `export` into Markdown and LaTeX: the same cells everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from reports import settings, units
from reports.settings import Row

NO_LINE = "no line"
"""In place of a slope, where the points are on no line."""

Tone = Literal["plain", "good", "bad", "muted"]


@dataclass(frozen=True)
class Column:
    """A heading and, on a line of its own, the unit."""

    heading: str
    unit: str = ""
    numeric: bool = True


class Cell(msgspec.Struct, frozen=True, gc=False):
    """Formatted text; `tone` says what it means, and the renderer how that looks."""

    text: str
    tone: Tone = "plain"
    extra: str = ""
    """What may go on a second line, such as the range behind a median."""
    value: int | float | None = None
    """The number behind the text, to sort by; None where there is none."""


@dataclass(frozen=True)
class Line:
    """A row of cells. `opens` tells where a new point of the grid begins; its axes are `cells[:keys]`."""

    cells: tuple[Cell, ...]
    opens: bool = False


@dataclass(frozen=True)
class Sheet:
    """One table in words. `keys` counts the leading columns that a renderer may print once a group, `labels` those that
    tell what a line is of and are repeated where a table is cut in two (0: it is never cut)."""

    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    keys: int = 0
    labels: int = 0
    notes: tuple[str, ...] = ()
    legend: tuple[str, ...] = ()
    name: str = ""
    """What it is a table of, where that is not all that was measured; the title begins with it."""
    left_out: str = ""
    """How many rows the table would have beside these, in words; empty where these are all."""
    beyond: int = 0
    """The same as a number."""


class Notes:
    """Numbered notes: what cases said, each message once.

    Where a row stands for one case, the mark at its status says whose message it is. Where it sums several up,
    `axes` are those that tell cases apart, and a note names its cases and how they ended."""

    def __init__(self, axes: Iterable[str] | None = None) -> None:
        self._axes = None if axes is None else tuple(axes)
        self._said: dict[tuple[str, str], tuple[int, list[str]]] = {}

    def mark(self, row: Row) -> str:
        """The mark for this row's message, as superscript digits; empty where it said nothing."""
        if row["message"] is None:
            return ""
        key = (row["status"], " ".join(row["message"].split()))
        number, cases = self._said.setdefault(key, (len(self._said) + 1, []))
        if self._axes is not None:
            cases.append(settings.which(row, self._axes))
        return superscript(number)

    def lines(self) -> tuple[str, ...]:
        """A line a note, in the order of their marks."""
        said = []
        for (status, message), (number, cases) in self._said.items():
            ended = "" if status == "ok" else f"{status}, "
            whose = f"{', '.join(cases)}: {ended}" if cases else ""
            said.append(f"{superscript(number)} {whose}{message}")
        return tuple(said)


def superscript(number: int) -> str:
    """The number in superscript digits."""
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def unbroken(title: str) -> str:
    """The title of a sheet with line breaks only between its settings."""
    return title.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}", " · ")


def cell(text: str, value: int | float | None = None) -> Cell:
    """A cell of text and the number behind it, muted where it is only a dash."""
    return Cell(text, "muted" if text == units.MISSING else "plain", value=value)


def axis_cell(row: Row, axis: str) -> Cell:
    """The row's value on an axis."""
    value = row[axis]
    if isinstance(value, int) or value is None:
        return cell(units.integer(value), value)
    return cell(str(value))


def worst_error(error: float | None, finite: bool | None) -> Cell:
    """An error over blocks; one that is not finite says so, where one that was not measured is a dash."""
    if finite is False:
        return Cell(units.NOT_FINITE, "bad")
    return cell(units.error(error), error)


def slope(row: Row) -> Cell:
    """The bits per activation, but of a fit that is a line alone."""
    if row["law_linear"] is False:
        return Cell(NO_LINE, "bad")
    return cell(units.bits(row["bits_per_activation"]), row["bits_per_activation"])


def exactness(exact: bool | None) -> Cell:
    """`yes`, `no` or a dash."""
    tone: Tone = "muted" if exact is None else "good" if exact else "bad"
    return Cell(units.yes_no(exact), tone, value=None if exact is None else int(exact))
