"""The only file that builds Rich tables: sheets in, renderables out.

A table as wide as the page; where the main one does not fit, the same rows in two tables, memory first and then speed
and correctness, and any other is cut between columns. Repeated axes are printed once a group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bench.record import Record
from reports import units
from reports.contents import above, below, parted, parts_of_arms
from reports.excerpt import ROWS
from reports.frame import frame, rows
from reports.measured import PARTS, main
from reports.sheets import Cell, Sheet, Tone, exactness, unbroken, worst_error

_STYLES: Mapping[Tone, str] = {"plain": "", "good": "green", "bad": "red", "muted": "dim"}
_GAPS = (3, 2, 1)
"""Spaces between two columns, by preference: the widest that the page allows."""


def tables(frame: pd.DataFrame, *, width: int, limit: int | None = ROWS) -> Group:
    """Everything measured, as Rich tables for a page of `width` columns; of more than `limit` rows an excerpt."""
    found = rows(frame)
    first, second = parted(found)
    top = [table(sheet, width=width) for sheet in above(found)]
    rest = [*below(first, second, limit), *parts_of_arms(found)]
    return Group(*top, *_main(first, width, limit), *(table(sheet, width=width) for sheet in rest))


def table(sheet: Sheet, *, width: int) -> RenderableType:
    """Any sheet as a Rich table with its title, legend and notes, for a page of `width` columns."""
    return Group(*(_rendered(piece, width) for piece in _cut(sheet, width)))


def row(record: Record) -> Text:
    """One record as a line of progress: what was run, how it ended, the figures that matter."""
    (found,) = rows(frame([record]))
    line = Text(record.case().label())
    if record.status != "ok":
        line.append(f"  {record.status}", style=_STYLES["bad"])
        return line.append(f"  {' '.join((record.message or '').split())}".rstrip(), style=_STYLES["muted"])
    if record.activation_bytes is not None:
        line.append(f"  {units.size(record.activation_bytes)}")
    if record.tokens_per_second is not None:
        line.append(f"  {units.rate(record.tokens_per_second)} tok/s")
    elif record.samples_per_second is not None:
        line.append(f"  {units.rate(record.samples_per_second)} samples/s")
    if record.reconstruction is not None:
        error = worst_error(found["worst_max_abs_error"], found["reconstruction_finite"])
        line.append("  error ").append(error.text, style=_STYLES[exactness(record.bit_exact).tone])
    return line


def _main(cases: Sequence[Mapping[str, object]], width: int, limit: int | None) -> list[RenderableType]:
    found = main(cases, limit)
    whole = None if found is None else found.sheet()
    if found is None or whole is None:
        return []
    if _page(_widths(whole), gap=1) <= width:
        return [_rendered(whole, width)]
    halves = [sheet for part in PARTS for sheet in _present(found.sheet(part))]
    # What holds for both halves is said once: the settings above the first, the notes below the last.
    halves[1:] = [replace(sheet, title="") for sheet in halves[1:]]
    halves[:-1] = [replace(sheet, notes=(), left_out="") for sheet in halves[:-1]]
    return [table(sheet, width=width) for sheet in halves]


def _present(sheet: Sheet | None) -> list[Sheet]:
    return [] if sheet is None else [sheet]


def _rendered(sheet: Sheet, width: int) -> RenderableType:
    widths = _widths(sheet)
    gap = next((gap for gap in _GAPS if _page(widths, gap) <= width), 1)
    beside = _widths(sheet, inline=True)
    inline = _page(beside, gap) <= width
    # Where columns have the room that they take, Rich need not look through them for it.
    fixed = beside if inline else widths if _page(widths, gap) <= width else [None] * len(widths)
    built = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        # The box itself puts one space between columns.
        padding=(0, gap - 1, 0, 0),
        header_style="bold",
    )
    for column, taken in zip(sheet.columns, fixed, strict=True):
        heading = Text(column.heading)
        if any(one.unit for one in sheet.columns):
            heading.append(f"\n{column.unit}", style="not bold dim")
        built.add_column(heading, justify="right" if column.numeric else "left", no_wrap=True, width=taken)
    for number, line in enumerate(sheet.lines):
        if line.opens and number and sheet.keys:
            built.add_row()
        shown = [
            Text() if index < sheet.keys and not line.opens else _text(cell, inline=inline)
            for index, cell in enumerate(line.cells)
        ]
        built.add_row(*shown)
    title = [Text(unbroken(sheet.title), style="bold"), Text()] if sheet.title else []
    parts: list[RenderableType] = [*title, built]
    if sheet.notes:
        parts += [Text(), *(Text(note) for note in sheet.notes)]
    if sheet.legend:
        parts += [Text(), *(Text(line, style="dim") for line in sheet.legend)]
    if sheet.left_out:
        parts += [Text(), Text(f"… {sheet.left_out}; --rows all shows all")]
    return Group(*parts, Text())


def _text(cell: Cell, *, inline: bool) -> Text:
    text = Text(cell.text, style=_STYLES[cell.tone])
    if cell.extra:
        text.append(f" ({cell.extra})" if inline else f"\n{cell.extra}", style="dim")
    return text


def _cut(sheet: Sheet, width: int) -> list[Sheet]:
    """The sheet in as few pieces as the page allows, about as wide each; all have its labels."""
    if not sheet.labels or _page(_widths(sheet), gap=1) <= width:
        return [sheet]
    widths = _widths(sheet)
    room = width - sum(widths[: sheet.labels]) - sheet.labels + 1
    pieces = _filled(widths, sheet.labels, room)
    for less in range(room - 1, 0, -1):
        narrower = _filled(widths, sheet.labels, less)
        if len(narrower) > len(pieces):
            break
        pieces = narrower
    cut = [_columns(sheet, (*range(sheet.labels), *piece)) for piece in pieces]
    cut[1:] = [replace(piece, title="") for piece in cut[1:]]
    cut[:-1] = [replace(piece, notes=(), legend=(), left_out="") for piece in cut[:-1]]
    return cut


def _filled(widths: Sequence[int], labels: int, room: int) -> list[list[int]]:
    """The columns behind the labels in pieces of at most `room`, with a space before each; at least one a piece."""
    pieces: list[list[int]] = [[]]
    for index in range(labels, len(widths)):
        if pieces[-1] and sum(widths[one] + 1 for one in (*pieces[-1], index)) > room:
            pieces.append([])
        pieces[-1].append(index)
    return pieces


def _columns(sheet: Sheet, kept: Sequence[int]) -> Sheet:
    lines = (replace(line, cells=tuple(line.cells[index] for index in kept)) for line in sheet.lines)
    return replace(sheet, columns=tuple(sheet.columns[index] for index in kept), lines=tuple(lines))


def _page(widths: Sequence[int], gap: int) -> int:
    """Columns of the page that those of a table take, with `gap` between two."""
    return sum(widths) + gap * (len(widths) - 1)


def _widths(sheet: Sheet, *, inline: bool = False) -> list[int]:
    widths = []
    for index, column in enumerate(sheet.columns):
        texts = [column.heading, column.unit]
        for line in sheet.lines:
            cell = line.cells[index]
            texts += [f"{cell.text} ({cell.extra})"] if inline and cell.extra else [cell.text, cell.extra]
        widths.append(max(cell_len(text) for text in texts))
    return widths
