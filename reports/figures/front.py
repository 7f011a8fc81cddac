"""Memory against speed over methods and settings of the dial: which of them no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes

from bench.case import WHOLE
from reports import settings, units
from reports.figures import select, style
from reports.figures.labels import legend_above, legend_columns, plain_log_ticks
from reports.figures.point_names import Point, name_points
from reports.frame import method_rank
from reports.settings import Row

NEEDS = "two or more methods, or settings of one, with the peak of a step and a rate, at one point of the grid"
_LEGEND_ROW_INCHES = 0.13
"""For each row of the legend beyond two."""
_SHORT: Final = {"micro_batches": "m", "keep": "k", "accumulate": "a"}
"""What stands for the settings of the dial in names of points."""


def plot(view: select.View) -> select.Plot:
    """What `pareto` shows: a row a method and setting of its own, all at one point of the grid; `on_front` where no
    other takes less memory at no lower a rate, or is faster with no more.

    The rate is relative to standard's where all were timed beside it, else in samples a second. Of several seeds, the
    lowest."""
    chosen = _chosen(view)
    rate = _rate(chosen)
    numbers = [
        {
            **{name: row[name] for name in (*select.VERSION, "peak_bytes", "rate_ratio", "samples_per_second")},
            "on_front": not any(_beats(one, row, rate) for one in chosen),
        }
        for row in chosen
    ]
    schema = {
        **select.VERSION,
        "peak_bytes": "Int64",
        "rate_ratio": "Float64",
        "samples_per_second": "Float64",
        "on_front": "boolean",
    }
    return select.plot(select.numbers(numbers if len(numbers) > 1 else [], schema), view, chosen, _complete)


def pareto(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws the rate against the peak of a whole step into `ax` or a new figure, a point a method and setting, and the
    front through those that no other beats in both. Better is up and to the left.

    Returns the axes. Raises: UsageError where there are no two such cases."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`pareto` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    rate = _rate(points)
    unit = units.ByteScale.of(row["peak_bytes"] for row in points)
    methods = sorted({row["method"] for row in points}, key=method_rank)
    with style.axes(ax) as ax:
        looks = style.looks(methods)
        front = sorted((row for row in points if row["on_front"]), key=lambda row: (row["peak_bytes"], row[rate]))
        # What is to be had with so much memory: a staircase, as nothing lies between two settings.
        ax.plot(
            [row["peak_bytes"] / unit.factor for row in front],
            [row[rate] for row in front],
            color="0.6",
            linewidth=0.9,
            drawstyle="steps-post",
            zorder=1,
        )
        named: list[Point] = []
        for method in methods:
            look = looks[method]
            own = [row for row in points if row["method"] == method]
            told = settings.of_the_method(own)
            ax.plot([], [], color=look.color, marker=look.marker, linestyle="none", label=method)
            for row in own:
                at = row["peak_bytes"] / unit.factor, row[rate]
                face = look.color if row["on_front"] else "white"
                ax.plot(
                    *([one] for one in at), color=look.color, marker=look.marker, linestyle="none",
                    markerfacecolor=face, zorder=3,
                )  # fmt: skip
                named.append(Point(*at, _name(row, told)))
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        middle = (low * high) ** 0.5
        ax.set_xlim(min(low, middle / 1.5) / 1.2, max(high, middle * 1.5) * 1.1)
        ax.margins(y=0.15)
        plain_log_ticks(ax, "x")
        ax.set_xlabel(f"peak of a step ({unit.unit})")
        ax.set_ylabel("rate relative to standard" if rate == "rate_ratio" else "samples/s")
        legend_above(ax, "\n".join(text for text in (chosen.setting, _key(named)) if text))
        name_points(ax, named)
    return ax


def size(chosen: select.Plot) -> tuple[float, float]:
    """Inches: higher where there are many methods to name."""
    methods = set(chosen.numbers["method"])
    rows = -(-len(methods) // legend_columns(methods, style.COLUMN[0]))
    return style.COLUMN[0], style.COLUMN[1] + _LEGEND_ROW_INCHES * max(0, rows - 2)


def _name(row: Row, axes: Sequence[str]) -> str:
    """What tells a point from others of its method."""
    said = [axis for axis in axes if row[axis] not in (None, WHOLE.get(axis))]
    return ", ".join(f"{_SHORT.get(axis, settings.name_of(axis))} {row[axis]}" for axis in said)


def _key(named: Sequence[Point]) -> str:
    """What the letters in the names stand for."""
    used = {word for point in named for word in point.name.split() if word.isalpha()}
    return " · ".join(f"{short}: {settings.name_of(axis)}" for axis, short in _SHORT.items() if short in used)


def _chosen(view: select.View) -> list[Row]:
    """A row a method and setting of its own, at the point that has the most of them."""
    kept: dict[tuple[Any, ...], Row] = {}
    found = select.comparable(view, [], _complete, by=[])
    for row in sorted((row for row in found if _complete(row)), key=lambda row: row["seed"]):
        kept.setdefault(tuple(select.version(row).values()), row)
    return list(kept.values())


def _rate(rows: Sequence[Row]) -> str:
    """The field of the rate: of all rows, or of none."""
    return "rate_ratio" if all(row["rate_ratio"] is not None for row in rows) else "samples_per_second"


def _beats(one: Row, other: Row, rate: str) -> bool:
    """Whether one is no worse in both, and better in one."""
    less = int(other["peak_bytes"]) - int(one["peak_bytes"])
    faster = float(one[rate]) - float(other[rate])
    return less >= 0 and faster >= 0 and (less > 0 or faster > 0)


def _complete(row: Row) -> bool:
    return row["status"] == "ok" and row["peak_bytes"] is not None and row["samples_per_second"] is not None
