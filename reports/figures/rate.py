"""Training rate relative to standard's, with the range of the paired rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from reports import units
from reports.figures import select, style
from reports.figures.by_axis import AXIS_LABELS
from reports.figures.labels import legend_above
from reports.frame import REFERENCE, method_rank
from reports.settings import Row

NEEDS = "cases timed side by side with standard"
ONE_RECOMPUTE = 0.75
"""3F against 4F: forward and backward, and the forward once more."""
_TALLEST = 1.6
"""The axis ends at this many times the largest median: one round that a busy machine stalled must not flatten the rest.
A bar that runs off the axes goes on."""
_GROUP = 0.64
"""Of the room between two groups, the share that the points take."""


def plot(view: select.View, axis: str | None = None) -> select.Plot:
    """What `throughput` shows: a row a method and value of `axis`, by default the one with the most values.

    `rate_ratio` is the median of paired rounds and, over several seeds, the median of those; low and high are the
    extremes of all rounds. A case that failed, or that has no `standard` to compare with, is a row without a
    ratio. Without any ratio there are no rows."""
    along = axis or select.leading_axis(view, _compared)
    chosen = select.one_version(select.comparable(view, [along], _compared, by=[along, "method"]))
    points: dict[tuple[str, int], list[Row]] = {}
    for row in chosen:
        if row["method"] != REFERENCE and (row["status"] != "ok" or row["step_seconds"]):
            points.setdefault((row["method"], row[along]), []).append(row)
    numbers = [_point(members, along) for members in points.values()]
    if all(row["rate_ratio"] is None for row in numbers):
        numbers = []
    schema = {
        **select.VERSION,
        along: "Int64",
        "status": "string",
        "rounds": "Int64",
    }
    schema |= dict.fromkeys(("rate_ratio", "rate_ratio_low", "rate_ratio_high"), "Float64")
    return select.plot(select.numbers(numbers, schema), view, chosen, _compared)


def throughput(frame: pd.DataFrame, ax: Axes | None = None, *, axis: str | None = None) -> Axes:
    """Draws each method's rate over standard's into `ax` or a new figure, a group of points a value of `axis`:
    median of the paired rounds, and a bar from the slowest to the fastest.

    Returns the axes. Raises: UsageError where no case was timed side by side with standard."""
    return draw(plot(select.View(frame), axis), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`throughput` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    along = str(chosen.numbers.columns[len(select.VERSION)])
    values = sorted({row[along] for row in points})
    methods = sorted({row["method"] for row in points}, key=method_rank)
    with style.axes(ax) as ax:
        looks = style.looks(methods)
        ax.axhline(1.0, color=style.looks([REFERENCE])[REFERENCE].color, linewidth=0.8)
        ax.axhline(ONE_RECOMPUTE, color="0.35", linewidth=0.7, linestyle=":")
        for number, method in enumerate(methods):
            shift = _GROUP * ((number + 0.5) / len(methods) - 0.5)
            look = looks[method]
            line = [row for row in points if row["method"] == method]
            measured = [row for row in line if row["rate_ratio"] is not None]
            at = [values.index(row[along]) + shift for row in measured]
            ratios = [row["rate_ratio"] for row in measured]
            ax.vlines(
                at,
                [row["rate_ratio_low"] for row in measured],
                [row["rate_ratio_high"] for row in measured],
                color=look.color,
                linewidth=1.0,
            )
            ax.plot(at, ratios, color=look.color, marker=look.marker, linestyle="none", label=method)
            for row in line:
                if row["rate_ratio"] is None:
                    _name_missing(ax, values.index(row[along]) + shift, row, look)
        _finish(ax, points, values)
        ax.set_xlabel(AXIS_LABELS[along] if values != [None] else "")
        ax.set_ylabel("rate relative to standard")
        legend_above(ax, chosen.setting)
    return ax


def _finish(ax: Axes, points: Sequence[Row], values: Sequence[int]) -> None:
    """Ticks, limits that show 1, ¾ and every median, and what those two lines are."""
    ratios = [row[name] for row in points for name in ("rate_ratio_low", "rate_ratio_high")]
    known = [ratio for ratio in ratios if ratio is not None]
    medians = [row["rate_ratio"] for row in points if row["rate_ratio"] is not None]
    low, high = min(ONE_RECOMPUTE, *known), min(max(1.0, *known), _TALLEST * max(1.0, *medians))
    ax.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    ax.set_xlim(-0.5, len(values) - 0.5)
    ax.set_xticks(range(len(values)), ["" if value is None else units.integer(value) for value in values])
    ax.tick_params(axis="x", length=0)
    for between in range(1, len(values)):
        ax.axvline(between - 0.5, color="0.9", linewidth=0.5, zorder=0)
    for height, text in ((1.0, REFERENCE), (ONE_RECOMPUTE, "one recompute")):
        ax.annotate(
            text,
            xy=(1.02, height),
            xycoords=("axes fraction", "data"),
            fontsize="small",
            color="0.35",
            verticalalignment="center",
            annotation_clip=False,
        )


def _name_missing(ax: Axes, x: float, row: Row, look: style.Look) -> None:
    ax.annotate(
        row["status"] if row["status"] != "ok" else f"no {REFERENCE}",
        xy=(x, 0.02),
        xycoords=("data", "axes fraction"),
        rotation=90,
        fontsize="small",
        color=look.ink,
        horizontalalignment="center",
        verticalalignment="bottom",
    )


def _point(members: Sequence[Row], along: str) -> dict[str, Any]:
    compared = [row for row in members if _compared(row)]
    return {
        **select.version(members[0]),
        along: members[0][along],
        "status": "ok" if compared else members[0]["status"],
        "rounds": sum(len(row["step_seconds"]) for row in compared),
        "rate_ratio": statistics.median(row["rate_ratio"] for row in compared) if compared else None,
        "rate_ratio_low": min((row["rate_ratio_low"] for row in compared), default=None),
        "rate_ratio_high": max((row["rate_ratio_high"] for row in compared), default=None),
    }


def _compared(row: Row) -> bool:
    return row["rate_ratio"] is not None
