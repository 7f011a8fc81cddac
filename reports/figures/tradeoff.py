"""Memory against speed: what is saved, beside what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from reports import units
from reports.figures import select, style
from reports.figures.by_axis import AXIS_LABELS
from reports.figures.labels import legend_above, plain_log_ticks
from reports.frame import method_rank
from reports.settings import Row

NEEDS = "two or more methods with activation memory, timed side by side with standard"


def plot(view: select.View, axis: str | None = None) -> select.Plot:
    """What `memory_speed` shows: a row a case with both its activation memory and its rate over standard's, along
    `axis`, by default the one with the most values. Of several seeds, the lowest. One method alone makes no rows."""
    along, chosen = _chosen(view, axis)
    compared = len({row["method"] for row in chosen}) > 1
    schema = {
        **select.VERSION,
        along: "Int64",
        "activation_bytes": "Int64",
        "rate_ratio": "Float64",
    }
    return select.plot(select.numbers(chosen if compared else [], schema), view, chosen, _complete)


def memory_speed(frame: pd.DataFrame, ax: Axes | None = None, *, axis: str | None = None) -> Axes:
    """Draws rate over standard's against activation memory into `ax` or a new figure, a point a case, the cases
    of a method joined from small to large. Better is up and to the left.

    Returns the axes. Raises: UsageError where no case has both numbers."""
    return draw(plot(select.View(frame), axis), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`memory_speed` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    along = str(chosen.numbers.columns[len(select.VERSION)])
    unit = units.ByteScale.of(row["activation_bytes"] for row in points)
    methods = sorted({row["method"] for row in points}, key=method_rank)
    with style.axes(ax) as ax:
        looks = style.looks(methods)
        ax.set_xscale("log")
        for method in methods:
            look = looks[method]
            line = sorted((row for row in points if row["method"] == method), key=lambda row: row[along])
            sizes = [row["activation_bytes"] / unit.factor for row in line]
            ratios = [row["rate_ratio"] for row in line]
            ax.plot(sizes, ratios, color=look.color, marker=look.marker, linestyle=look.line, label=method)
        _widen(ax)
        plain_log_ticks(ax, "x")
        _sizes(ax, points, along, unit)
        ax.set_xlabel(f"activation memory ({unit.unit})")
        ax.set_ylabel("rate relative to standard")
        legend_above(ax, chosen.setting)
    return ax


def _widen(ax: Axes) -> None:
    """At least a factor of 4 on the memory axis, and a margin on the other."""
    low, high = ax.get_xlim()
    if high / low < 4:
        middle = (low * high) ** 0.5
        low, high = middle / 2, middle * 2
    ax.set_xlim(low / 1.15, high * 1.15)
    ax.margins(y=0.15)


def _sizes(ax: Axes, points: Sequence[Row], along: str, unit: units.ByteScale) -> None:
    """Names the smallest and the largest case of the method whose memory they change most."""
    values = sorted({row[along] for row in points})
    if len(values) < 2:
        return

    def spread(method: str) -> float:
        sizes = [row["activation_bytes"] for row in points if row["method"] == method]
        return float(max(sizes) / max(1, min(sizes)))

    widest = max(sorted({row["method"] for row in points}, key=method_rank), key=spread)
    ends = sorted((row for row in points if row["method"] == widest), key=lambda row: row[along])
    for row in (ends[0], ends[-1]):
        ax.annotate(
            f"{AXIS_LABELS[along].partition(' (')[0]} {units.integer(row[along])}",
            xy=(row["activation_bytes"] / unit.factor, row["rate_ratio"]),
            xytext=(0, -6),
            textcoords="offset points",
            fontsize="small",
            color="0.35",
            horizontalalignment="center",
            verticalalignment="top",
        )


def _chosen(view: select.View, axis: str | None) -> tuple[str, list[Row]]:
    """The axis of the figure, and a row a point of it."""
    along = axis or select.leading_axis(view, _complete)
    chosen = select.one_version(select.comparable(view, [along], _complete, by=[along, "method"]))
    kept: dict[tuple[str, int], Row] = {}
    for row in sorted(chosen, key=lambda row: row["seed"]):
        if _complete(row):
            kept.setdefault((row["method"], row[along]), row)
    return along, list(kept.values())


def _complete(row: Row) -> bool:
    return row["activation_bytes"] is not None and row["rate_ratio"] is not None
