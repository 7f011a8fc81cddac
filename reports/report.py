"""A whole report: the one that a run ends with, and those that are asked for of a stored run.

matplotlib and the engine of templates take longer to import than many a table to show: only where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from bench import curves, fits
from bench.curves import Point
from bench.record import Record
from bench.stored_run import StoredRun
from reports import captions, excerpt, forecast, page
from reports.frame import frame, rows_kept
from reports.request import Request
from reports.verdict import verdict

if TYPE_CHECKING:
    from reports.figures import Drawn

Note = Callable[[str], None]
"""Where remarks go that are no part of the report, line by line."""


def conclude(records: Sequence[Record], directory: Path, note: Note, *, drawn: bool = True) -> None:
    """What a run ends with: tables, a verdict and, if they are to be `drawn`, figures."""
    found = frame(records, _curves(records, directory))
    with rows_kept(found):
        page.show(found, "table", verdict(found))
        if drawn:
            _draw_all(found, directory / "figures", note)


def _draw_all(found: pd.DataFrame, folder: Path, note: Note) -> None:
    from reports import figures

    saved = figures.save_all(found, folder)
    _note_refused(saved, note)
    print(f"Figures: {folder if saved.paths else 'none'}")


def answer(request: Request, run: StoredRun, note: Note) -> None:
    """The report of `run` that is asked for.

    Raises: UsageError where a size, a style, a figure or a number of rows is none; OSError where a file cannot be
    written.
    """
    found = frame(run.records, _curves(run.records, request.directory))
    with rows_kept(found):
        _answer(request, found, run, note)


def _curves(records: Sequence[Record], directory: Path) -> list[Point]:
    """What was logged as the arms among these records were trained."""
    if all(record.experiment is None for record in records):
        return []
    return curves.read(directory if directory.is_dir() else directory.parent)


def _answer(request: Request, found: pd.DataFrame, run: StoredRun, note: Note) -> None:
    if request.figure is None and request.format == "html":
        from reports import html

        if (written := html.show(found, run.about, request.directory)) is not None:
            note(f"written: {written}")
    elif request.figure is None:
        words = captions.caption(found, run.about) if request.caption else None
        page.show(found, request.format or "table", words or _said(request, found), excerpt.limit(request.rows))
        if request.format in (None, "table"):
            forecast.show_fits(fits.read(request.directory))
    if request.draws:
        _draw(request, found, run, note)


def _said(request: Request, found: pd.DataFrame) -> str | None:
    """Of a training run its sentences: much of what it found has no table."""
    tabled = request.format in (None, "table")
    return verdict(found) if tabled and found["experiment"].notna().any() else None


def _draw(request: Request, found: pd.DataFrame, run: StoredRun, note: Note) -> None:
    from reports import figures

    size = None if request.size is None else figures.parse_size(request.size)
    folder = request.figures or request.directory / "figures"
    if request.figure is not None:
        pictures = figures.DEFAULT_FORMATS if request.format is None else (request.format,)
        paths: Sequence[Path] = figures.save(
            request.figure, found, folder, pictures, size=size, style_file=request.style
        )
    else:
        drawn = figures.save_all(found, folder, size=size, style_file=request.style)
        if drawn.refused and not drawn.paths:
            # A size or a style that will do for no figure at all is a wrong request.
            raise next(iter(drawn.refused.values()))
        _note_refused(drawn, note)
        paths = drawn.paths
    for path in paths:
        note(f"written: {path}")
    if request.figure is not None and request.caption:
        print(captions.caption(found, run.about, request.figure, figures.setting(request.figure, found)))


def _note_refused(drawn: Drawn, note: Note) -> None:
    """What is measured can be drawn later: a figure that cannot be now costs no exit code."""
    for name, error in drawn.refused.items():
        note(f"figure {name} is not drawn: {error}")
    if not drawn.paths and not drawn.refused:
        note("no figure is drawn: these cases have the numbers for none")
