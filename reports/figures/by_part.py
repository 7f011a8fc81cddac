"""Where the bytes are: activation memory and whole-step peak of each method, stacked from their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from bench import parts
from bench.parts import PartName
from reports import breakdown, units
from reports.arms import as_cases
from reports.figures import select, style
from reports.settings import Row

NEEDS = "cases of which it was measured what their memory is made of"
NAMES: Final[Mapping[PartName, str]] = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer_state": "optimiser state",
    "input": "batch",
    "residual_states": "residual states",
    "side_bits": "side bits",
    "rng_states": "RNG states",
    "block": "blocks",
    "head_and_loss": "head and loss",
    "optimizer_step": "optimiser step",
    "other": "other",
}
TITLES: Final = {"activation_bytes": "activation memory", "peak_bytes": "whole-step peak"}
_ROW = 0.145
"""Inches: the height of a bar with the space around it."""
_HEADING, _GAP = 0.9, 0.5
"""Rows that the heading of a figure takes, and the space between two figures."""
_LEGEND_COLUMNS = 3
_SEEN_POINTS = 2.0
"""A part narrower than this, in points, is told by a number of its own, as colour alone may not be seen."""
_CHARACTER_POINTS = 4.1
_NAME = 16
"""Characters of a method's name that a column of a page has room for; a longer one makes the figure wider."""


@dataclass(frozen=True)
class Fill:
    """How one part is drawn: colour and hatch each tell it from its neighbours, so that print in grey will do."""

    color: str
    hatch: str = ""
    ink: str = "white"
    """Of the hatch."""


FILLS: Final[Mapping[PartName, Fill]] = {
    # What is no method's business is grey, so that the colours are what it is about. These are of Paul Tol's muted
    # scheme, safe for colour-blind eyes, and none of them is a method's.
    "parameters": Fill("#555555"),
    "gradients": Fill("#8c8c8c", "/////"),
    "optimizer_state": Fill("#c4c4c4", ".....", "#777777"),
    "input": Fill("#e2e2e2", "xxxxx", "#999999"),
    "residual_states": Fill("#332288"),
    "side_bits": Fill("#cc6677"),
    "rng_states": Fill("#999933", "xxxxx"),
    "block": Fill("#ddcc77"),
    "head_and_loss": Fill("#44aa99", "\\\\\\\\\\"),
    "optimizer_step": Fill("#882255", "....."),
    "other": Fill("#ffffff", "/////", "#555555"),
}


def plot(view: select.View) -> select.Plot:
    """What `memory_parts` shows: a row a bar, that is, a figure (`activation_bytes`, `peak_bytes`) of a method, its
    bytes, and a column for each part that occurs, of which they are the sum.

    A case that failed is a row with its status and no bytes. Without parts there are no rows. Of what was trained, arms
    are in the place of methods."""
    chosen = _chosen(view.rows) or _chosen(as_cases(view.arms))
    return select.plot(_numbers(chosen), view, chosen, breakdown.has_parts)


def size(chosen: select.Plot) -> tuple[float, float]:
    """Inches, width and height, that `memory_parts` needs: a column wide, wider for a long name, and as high as
    there are bars."""
    numbers = chosen.numbers
    figures, names = numbers["figure"].nunique(), len(_parts_of(numbers))
    legend = -(-names // _LEGEND_COLUMNS) + bool(chosen.setting)
    height = _ROW * (len(numbers) + figures * (_HEADING + _GAP) + legend) + 0.4
    longest = max((len(method) for method in numbers["method"]), default=0)
    width = style.COLUMN[0] + max(0, longest - _NAME) * _CHARACTER_POINTS / 72
    return round(width, 2), round(height, 2)


def memory_parts(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws what activation memory and whole-step peak are made of, a bar a method, into `ax` or a new figure: at the
    largest point where the most methods have parts.

    Returns the axes. Raises: UsageError where no case has parts."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`memory_parts` of what `plot` chose."""
    bars = select.required(chosen.numbers, NEEDS)
    names = _parts_of(chosen.numbers)
    unit = units.ByteScale.of(row["bytes"] for row in bars)
    with style.axes(ax, size(chosen)) as ax:
        places, headings = _places(bars)
        texts = [[unit.number(row["bytes"]) if row["bytes"] is not None else row["status"]] for row in bars]
        width = _points(ax, bars)
        low, high = _limits(width, bars, texts)
        visible = _SEEN_POINTS * max(1.0, high - low) / width
        for row, text in zip(bars, texts, strict=True):
            if 0 < (row.get("side_bits") or 0) < visible:
                text.append(f"side bits {units.size(row['side_bits'])}")
        low, high = _limits(width, bars, texts)
        ax.set_xlim(low / unit.factor, high / unit.factor)
        ax.set_ylim(max(places) + 0.6, min(headings.values()) - 0.6)
        ax.axvline(0, color="0.2", linewidth=0.6)
        for row, place, text in zip(bars, places, texts, strict=True):
            _stack(ax, row, place, names, unit)
            _tell(ax, place, _end(row) / unit.factor, text)
        for figure, place in headings.items():
            _head(ax, TITLES[figure], place)
        ax.set_yticks(places, [row["method"] for row in bars])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.grid(visible=True, axis="x")
        ax.grid(visible=False, axis="y")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.tick(value)))
        ax.set_xlabel(f"memory ({unit.unit})")
        _legend(ax, names, chosen.setting)
    return ax


def _chosen(found: Sequence[Row]) -> list[Row]:
    """The rows of the one setting that is drawn, one a method."""

    def worth(members: Sequence[Row]) -> tuple[object, ...]:
        return len({row["method"] for row in members if breakdown.has_parts(row)}), *select.row_size(members[0])

    return select.one_version(max(breakdown.points(found), key=worth, default=[]))


def _numbers(chosen: Sequence[Row]) -> pd.DataFrame:
    found = []
    for figure in breakdown.FIGURES:
        held = [(row, breakdown.held(row, figure)) for row in chosen]
        if all(one is None for _, one in held):
            continue
        found += [
            {"figure": figure.total, **row, "bytes": None if one is None else row[figure.total], "held": one}
            for row, one in held
            if one is not None or row["status"] != "ok"
        ]
    names = parts.names(row["held"] for row in found if row["held"] is not None)
    for row in found:
        row |= {name: None if row["held"] is None else row["held"].get(name, 0) for name in names}
    schema = {"figure": "string", **select.VERSION, "status": "string", "bytes": "Int64"}
    return select.numbers(found, schema | dict.fromkeys(names, "Int64"))


def _parts_of(numbers: pd.DataFrame) -> tuple[PartName, ...]:
    return tuple(name for name in parts.NAMES if name in numbers.columns)


def _places(bars: Sequence[Row]) -> tuple[list[float], dict[str, float]]:
    """The height of each bar and of the heading of each figure, downwards, in rows."""
    places: list[float] = []
    headings: dict[str, float] = {}
    place = -_GAP
    for row in bars:
        if row["figure"] not in headings:
            place += _GAP
            headings[row["figure"]] = place
            place += _HEADING
        places.append(place)
        place += 1
    return places, headings


def _limits(width: float, bars: Sequence[Row], texts: Sequence[Sequence[str]]) -> tuple[float, float]:
    """The ends of an axis of `width` points, in bytes: with room behind each bar for its texts, and for what is below
    0."""
    ends = []
    for row, text in zip(bars, texts, strict=True):
        share = (sum(map(len, text)) + 2 * len(text)) * _CHARACTER_POINTS / width
        ends.append(_end(row) / (1 - min(0.8, share)))
    return min(0.0, 1.1 * min(_sizes(row)[-1] for row in bars)), 1.02 * max(ends)


def _sizes(row: Row) -> list[int]:
    """The bytes of the row's parts, the largest first; a 0 where it has none."""
    return sorted((row[name] or 0 for name in parts.NAMES if name in row), reverse=True)


def _end(row: Row) -> int:
    """Where its bar ends."""
    return sum(size for size in _sizes(row) if size > 0)


def _points(ax: Axes, bars: Sequence[Row]) -> float:
    """About how many points wide the axes will be: before the layout is run they know nothing of their labels."""
    figure = ax.get_figure(root=True)
    inches = figure.bbox.width / figure.dpi if figure is not None else style.COLUMN[0]
    whole = ax.get_position().width / 0.775 * inches * 72
    return float(max(0.3 * whole, whole - 20 - _CHARACTER_POINTS * max(len(row["method"]) for row in bars)))


def _stack(ax: Axes, row: Row, place: float, names: Iterable[PartName], unit: units.ByteScale) -> None:
    """The parts of one bar, those below 0 to the left of it."""
    right = left = 0.0
    for name in names:
        size = (row[name] or 0) / unit.factor
        if not size:
            continue
        fill = FILLS[name]
        start = right if size > 0 else left
        ax.barh(place, size, 0.74, start, color=fill.color, hatch=fill.hatch, edgecolor=fill.ink, linewidth=0)
        ax.plot([start + size] * 2, [place - 0.37, place + 0.37], color="white", linewidth=0.4)
        right, left = (right + size, left) if size > 0 else (right, left + size)


def _tell(ax: Axes, place: float, end: float, texts: Sequence[str]) -> None:
    """Text behind a bar, the first in black."""
    after: Any = "data"
    gap = 3.0
    for text, color in zip(texts, ("0.1", style.ink(FILLS["side_bits"].color)), strict=False):
        after = ax.annotate(
            text,
            xy=(end, place),
            xycoords=(after, "data"),
            xytext=(gap, 0),
            textcoords="offset points",
            fontsize="small",
            color=color,
            verticalalignment="center_baseline",
            annotation_clip=False,
        )
        # Where it reaches beyond the axes all the same, the layout must not shrink them for that.
        after.set_in_layout(False)
        # The next one begins where this one ends.
        end, gap = 1.0, 5.0


def _head(ax: Axes, text: str, place: float) -> None:
    ax.annotate(
        text,
        xy=(0, place),
        xycoords=("axes fraction", "data"),
        xytext=(2, 0),
        textcoords="offset points",
        fontsize="small",
        fontweight="bold",
        color="0.2",
        verticalalignment="center",
        annotation_clip=False,
    )


def _legend(ax: Axes, names: Sequence[PartName], setting: str) -> None:
    """The parts that occur, those too thin to be seen as well, above the axes and flush with their right end."""
    handles = [
        Patch(facecolor=fill.color, hatch=fill.hatch, edgecolor=fill.ink, linewidth=0, label=NAMES[name])
        for name in names
        for fill in (FILLS[name],)
    ]
    ax.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=_LEGEND_COLUMNS,
        columnspacing=1.0,
        handletextpad=0.4,
        handlelength=1.2,
        handleheight=0.9,
        title=setting or None,
        title_fontsize="small",
        alignment="left",
    )
