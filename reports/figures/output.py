"""Figures as files: the drawing in each format asked for, and the plotted numbers beside it."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backend_bases import get_registered_canvas_class
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.errors import BenchError, UsageError
from reports import units
from reports.figures import (
    by_axis,
    by_bits,
    by_block,
    by_gamma,
    by_gradient,
    by_limit,
    by_look,
    by_memory,
    by_part,
    by_precision,
    by_step,
    front,
    rate,
    style,
    stylesheet,
    tradeoff,
)
from reports.figures.select import Plot, View

FORMATS = ("png", "svg", "pdf")
DEFAULT_FORMATS = ("png", "svg")
_VECTORS = ("svg", "pdf")
_POINTS_AN_INCH = 72
"""The resolution at which matplotlib writes them."""
_OUTPUT: Mapping[Any, Any] = {
    # TrueType as it is: publishers refuse Type 3 fonts, and the text can be searched and copied.
    "pdf.fonttype": 42,
    # Outlines: an SVG looks the same where the font is not installed.
    "svg.fonttype": "path",
    # The names inside an SVG would else be drawn anew each time.
    "svg.hashsalt": "bdia-bench",
}
_METADATA: Mapping[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
"""Nothing that changes from one day or version to the next."""


@dataclass(frozen=True)
class Drawing:
    """A figure by name: what it plots of a view (no numbers: it cannot be drawn), how that is drawn, what it needs."""

    plot: Callable[[View], Plot]
    draw: Callable[[Plot, Axes | None], Axes]
    needs: str
    size: Callable[[Plot], tuple[float, float]] = lambda _: style.COLUMN


def _memory(axis: str, draw: Callable[[Plot, Axes | None], Axes] | None = None) -> Drawing:
    return Drawing(
        lambda view: by_axis.plot(view, axis),
        draw or (lambda chosen, ax: by_axis.draw_axis(chosen, ax, axis=axis)),
        by_axis.needs(axis),
    )


def _look(name: str) -> Drawing:
    return Drawing(
        lambda view: by_look.plot(view, name),
        lambda chosen, ax: by_look.draw(chosen, ax, name=name),
        by_look.needs(name),
    )


FIGURES: Mapping[str, Drawing] = {
    "fig1": Drawing(by_block.plot, by_block.draw, by_block.NEEDS),
    "memory-depth": _memory("depth", by_axis.draw_depth),
    "memory-width": _memory("width"),
    "memory-batch": _memory("batch"),
    "memory-parts": Drawing(by_part.plot, by_part.draw, by_part.NEEDS, by_part.size),
    "throughput": Drawing(rate.plot, rate.draw, rate.NEEDS),
    "memory-speed": Drawing(tradeoff.plot, tradeoff.draw, tradeoff.NEEDS),
    "pareto": Drawing(front.plot, front.draw, front.NEEDS, front.size),
    "frontier": Drawing(by_limit.plot_largest, by_limit.draw_largest, by_limit.NEEDS, by_limit.size),
    "limit": Drawing(by_limit.plot_limit, by_limit.draw_limit, by_limit.NEEDS),
    "error-bits": Drawing(by_bits.plot, by_bits.draw, by_bits.NEEDS),
    "curves": Drawing(by_step.plot, by_step.draw, by_step.NEEDS, by_step.size),
    "accuracy-memory": Drawing(by_memory.plot, by_memory.draw, by_memory.NEEDS),
    "fig1-trained": _look("reconstruction_error"),
    "drift": Drawing(by_gradient.plot, by_gradient.draw, by_gradient.NEEDS, by_gradient.size),
    "drift-blocks": _look("gradient_error"),
    "bits": Drawing(by_precision.plot, by_precision.draw, by_precision.NEEDS, by_precision.size),
    "gamma": Drawing(by_gamma.plot, by_gamma.draw, by_gamma.NEEDS),
    "gamma-inference": Drawing(by_gamma.plot_fixed, by_gamma.draw_fixed, by_gamma.NEEDS_FIXED),
}
"""The figures by the names of the command line."""


def plots(frame: pd.DataFrame) -> dict[str, Plot]:
    """What each figure shows that the frame has the numbers for, by their names."""
    view = View(frame)
    found = {name: drawing.plot(view) for name, drawing in FIGURES.items()}
    return {name: plot for name, plot in found.items() if not plot.numbers.empty}


def available(frame: pd.DataFrame) -> tuple[str, ...]:
    """The names of the figures that the frame has the numbers for."""
    return tuple(plots(frame))


def setting(name: str, frame: pd.DataFrame) -> str:
    """Which of several settings the figure `name` draws, in words; empty where there is only one.

    Raises: UsageError for an unknown name."""
    return _known(name).plot(View(frame)).setting


@dataclass(frozen=True)
class Drawn:
    """What came of drawing several figures."""

    paths: tuple[Path, ...]
    """Of the files, in the order written."""
    refused: Mapping[str, BenchError]
    """Why the others could not be drawn, by their names."""


def save_all(
    frame: pd.DataFrame,
    directory: Path,
    *,
    size: tuple[float, float] | None = None,
    style_file: Path | None = None,
) -> Drawn:
    """Every figure that the frame has the numbers for, as `save` writes it; one that cannot be drawn stops no other."""
    paths: list[Path] = []
    refused: dict[str, BenchError] = {}
    for name, plot in plots(frame).items():
        try:
            paths += _saved(name, plot, directory, DEFAULT_FORMATS, size, style_file)
        except BenchError as error:
            refused[name] = error
    return Drawn(tuple(paths), refused)


def save(
    name: str,
    frame: pd.DataFrame,
    directory: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    *,
    size: tuple[float, float] | None = None,
    style_file: Path | None = None,
) -> list[Path]:
    """Writes the figure `name` into `directory`, which is made where it is missing: `NAME.png` and so on, and
    `NAME.csv` with the plotted numbers. The same frame gives the same bytes. Returns the paths.

    `size` is in inches, width and height; `style_file` a matplotlib style sheet, laid over the house style.

    Raises: UsageError for an unknown name or format, a frame without the numbers, a style sheet that cannot be
    read, or a directory that cannot be written.
    """
    drawing = _known(name)
    _check_formats(formats)
    plot = drawing.plot(View(frame))
    if plot.numbers.empty:
        raise UsageError(f"figure {name!r} needs {drawing.needs}, and this run has none; {_choice(frame)}")
    return _saved(name, plot, directory, formats, size, style_file)


def svg(name: str, plot: Plot) -> str:
    """The figure `name` of `plot` as SVG with text as text, for a page that has fonts of its own.

    Raises: UsageError for an unknown name, or a plot without numbers.
    """
    with matplotlib.rc_context({**style.HOUSE, **_OUTPUT, "svg.fonttype": "none"}):
        content = io.BytesIO()
        drawing = _known(name)
        _write(_drawn(drawing, plot, drawing.size(plot)), content, "svg")
    return content.getvalue().decode()


def _saved(
    name: str,
    plot: Plot,
    directory: Path,
    formats: Sequence[str],
    size: tuple[float, float] | None,
    style_file: Path | None,
) -> list[Path]:
    drawing = _known(name)
    sheet = stylesheet.read(style_file) if style_file is not None else {}
    with matplotlib.rc_context({**style.HOUSE, **_OUTPUT, **sheet}):
        figure = _drawn(drawing, plot, size or sheet.get("figure.figsize", drawing.size(plot)))
        paths = [directory / f"{name}.{format_}" for format_ in formats]
        table = directory / f"{name}.csv"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path, format_ in zip(paths, formats, strict=True):
                _write(figure, path, format_)
            plot.numbers.to_csv(table, index=False, lineterminator="\n")
        except OSError as error:
            raise UsageError(f"{directory}: {error.strerror}; give a directory that can be written") from error
    return [*paths, table]


def parse_size(text: str) -> tuple[float, float]:
    """Inches, width and height, from `3.25x2.2`.

    Raises: UsageError for anything else, and for sizes that are no page's.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*[x×]\s*(\d+(?:\.\d+)?)\s*", text)
    sides = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if not all(1 <= side <= 50 for side in sides):
        raise UsageError(f"size {text!r}: expected inches from 1 to 50, width by height, such as 3.25x2.2")
    return sides


def _known(name: str) -> Drawing:
    if name not in FIGURES:
        raise UsageError(f"figure {name!r}: expected one of {', '.join(FIGURES)}")
    return FIGURES[name]


def _check_formats(formats: Sequence[str]) -> None:
    for format_ in formats:
        if format_ not in FORMATS:
            raise UsageError(f"figure format {format_!r}: expected one of {', '.join(FORMATS)}")


def _choice(frame: pd.DataFrame) -> str:
    names = available(frame)
    return f"choose one of {', '.join(names)}" if names else "it has the numbers for no figure"


def _drawn(drawing: Drawing, plot: Plot, size: tuple[float, float]) -> Figure:
    # Without pyplot there is no window to open and no backend to choose: a canvas follows from each format.
    figure = Figure(figsize=size)
    figure.set_layout_engine("none")
    drawing.draw(plot, figure.add_subplot())
    return figure


def _write(figure: Figure, path: Path | BinaryIO, format_: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="constrained_layout not applied")
        try:
            _lay_out(figure, format_)
            figure.savefig(path, format=format_, metadata=_METADATA[format_])
        except UserWarning as error:
            inches = "x".join(units.tick(side) for side in figure.get_size_inches())
            raise UsageError(f"size {inches!r}: too small for the labels; give a larger one, in inches") from error


def _lay_out(figure: Figure, format_: str) -> None:
    """Makes room for the labels as a file of this format will have them. A figure with a layout engine of its own is
    drawn once more for it each time that it is saved."""
    get_registered_canvas_class(format_)(figure)
    before, wanted = figure.dpi, matplotlib.rcParams["savefig.dpi"]
    figure.dpi = _POINTS_AN_INCH if format_ in _VECTORS else before if wanted == "figure" else wanted
    ConstrainedLayoutEngine().execute(figure)
    figure.dpi = before
