"""Puts a report on stdout: the tables as wide as the terminal, or text for other programs."""

from __future__ import annotations

import shutil
import sys
from typing import Final

import pandas as pd
from rich.console import Console

from reports import export, tables
from reports.excerpt import ROWS
from reports.sheets import Sheet

WIDTH: Final = 104
"""Columns of a page where there is no terminal to ask, and COLUMNS does not say."""


def show(frame: pd.DataFrame, format_: str, words: str | None = None, limit: int | None = ROWS) -> None:
    """The records as `table`, of no more than `limit` rows, or all of them as one of `export.EXPORTS`, and `words`
    below them: a verdict, or a caption."""
    if format_ == "table":
        _console().print(tables.tables(frame, width=width(), limit=limit))
    elif format_ == "latex":
        sys.stdout.write(export.latex(frame, words))
        return
    else:
        sys.stdout.write(export.export(frame, format_))
    if words is not None:
        sys.stdout.write(f"{words}\n" if format_ == "table" else f"\n{words}\n")


def show_sheet(sheet: Sheet | None) -> None:
    """One sheet as a table; nothing for None."""
    if sheet is not None:
        _console().print(tables.table(sheet, width=width()))


def width() -> int:
    """Columns of the page."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def _console() -> Console:
    return Console(width=width(), highlight=False)
