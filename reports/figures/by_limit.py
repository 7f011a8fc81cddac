"""How far each method goes within a limit, and how memory gets there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from bench import frontier as bench_frontier
from bench.frontier import Largest
from bench.record import Record
from reports import frontier as table
from reports import settings, units
from reports.figures import select, style
from reports.figures.by_axis import AXIS_LABELS
from reports.figures.labels import legend_above, name_setting
from reports.frame import grid_order
from reports.settings import Row

NEEDS = "the probes of a frontier"
_ROW_INCHES = 0.24
_FRAME_INCHES = 0.8
_BARS = 0.64
"""Of the width, the share that the bars take where there are rates to show beside them."""
_SHADES = (1.0, 0.72, 0.5, 0.36)
"""Of the settings of one method, as opacity."""


def plot_largest(view: select.View) -> select.Plot:
    """What `frontier` shows: a row a method and setting of its own, the largest value that fits and the rate there."""
    members, setting = _members(view)
    numbers = [
        {
            **{name: getattr(one.case, name) for name in select.VERSION},
            "over": one.over,
            "largest": one.value,
            "ending": one.ending,
            "limit_bytes": one.limit_bytes,
            "peak_bytes": one.peak_bytes,
            "tokens_per_second": one.tokens_per_second,
            "samples_per_second": one.samples_per_second,
            "rate_ratio": one.rate_ratio,
        }
        for one in members
    ]
    if all(row["largest"] is None for row in numbers):
        numbers = []
    floats = dict.fromkeys(("tokens_per_second", "samples_per_second", "rate_ratio"), "Float64")
    schema = {**select.VERSION, "over": "string", "largest": "Int64", "ending": "string", "limit_bytes": "Int64"}
    return select.Plot(select.numbers(numbers, {**schema, "peak_bytes": "Int64", **floats}), setting)


def frontier(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws the largest value that fits as a bar a method and setting into `ax` or a new figure, and beside it the rate
    there.

    Returns the axes of the bars. Raises: UsageError where no frontier was looked for."""
    return draw_largest(plot_largest(select.View(frame)), ax)


def draw_largest(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`frontier` of what `plot_largest` chose."""
    points = select.required(chosen.numbers, NEEDS)
    over = points[0]["over"]
    rate = "tokens_per_second" if all(_timed_in_tokens(row) for row in points) else "samples_per_second"
    looks = style.looks(row["method"] for row in points)
    heights = [-number for number in range(len(points))]
    with style.axes(ax, size(chosen)) as ax:
        shades = _shades(points)
        ax.barh(
            heights, [row["largest"] or 0 for row in points], height=0.62,
            color=[(looks[row["method"]].color, shade) for row, shade in zip(points, shades, strict=True)],
        )  # fmt: skip
        for row, height in zip(points, heights, strict=True):
            text = units.integer(row["largest"]) if row["largest"] is not None else row["ending"]
            ax.annotate(
                f"≥ {text}" if row["ending"] == "at least" else text, xy=(row["largest"] or 0, height), xytext=(3, 0),
                textcoords="offset points", fontsize="small", color="0.25", verticalalignment="center",
            )  # fmt: skip
        ax.set_yticks(heights, [_named(row, points) for row in points])
        ax.set_ylim(heights[-1] - 0.6, 0.6)
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        longest = 1.3 * max(row["largest"] or 0 for row in points)
        timed = any(row[rate] is not None for row in points)
        share = _BARS if timed else 1.0
        ax.set_xlim(0, longest / share)
        ax.spines["bottom"].set_bounds(0, longest)
        ax.xaxis.set_major_locator(FixedLocator([at for at in MaxNLocator(4).tick_values(0, longest) if at <= longest]))
        ax.set_xlabel(f"largest {AXIS_LABELS[over]}", loc="left" if timed else "center")
        within = f"within {units.size(points[0]['limit_bytes'])}"
        name_setting(ax, ", ".join(filter(None, (within, chosen.setting))))
        if timed:
            _rates(ax, points, heights, rate, looks)
    return ax


def _rates(ax: Axes, points: Sequence[Row], heights: Sequence[int], rate: str, looks: dict[str, style.Look]) -> None:
    """The rates in axes of their own, to the right of the bars and in line with them."""
    beside = ax.inset_axes((_BARS + 0.04, 0.0, 0.96 - _BARS, 1.0), sharey=ax)
    beside.tick_params(axis="y", labelleft=False, length=0)
    beside.grid(visible=False, axis="y")
    rates = [row[rate] for row in points if row[rate] is not None]
    for row, shade, height in zip(points, _shades(points), heights, strict=True):
        if row[rate] is not None:
            look = looks[row["method"]]
            beside.hlines(height, 0, row[rate], color="0.85", linewidth=0.8)
            beside.plot([row[rate]], [height], color=look.color, alpha=shade, marker=look.marker, linestyle="none")
    beside.set_xlim(0, 1.2 * max(rates))
    beside.xaxis.set_major_locator(MaxNLocator(2))
    beside.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.rate(value) if value else "0"))
    beside.set_xlabel("tok/s there" if rate == "tokens_per_second" else "samples/s there")


def size(chosen: select.Plot) -> tuple[float, float]:
    """Inches of `frontier`: as high as it has bars."""
    return style.COLUMN[0], _FRAME_INCHES + _ROW_INCHES * max(2, len(chosen.numbers))


def plot_limit(view: select.View) -> select.Plot:
    """What `limit` shows: a row a probe, with the peak of its step, and whether it fits."""
    members, setting = _members(view)
    arms = {one.case for one in members}
    probes = [record for record in table.probes(view.rows) if bench_frontier.arm(record) in arms]
    numbers = [
        {
            **{name: getattr(record, name) for name in select.VERSION},
            "over": record.frontier_over,
            "value": bench_frontier.value_of(record),
            "status": record.status,
            "peak_bytes": record.peak_bytes,
            "limit_bytes": record.limit_bytes,
            "fits": bench_frontier.fits(record),
        }
        for record in sorted(probes, key=_order)
    ]
    schema = {**select.VERSION, "over": "string", "value": "Int64", "status": "string", "peak_bytes": "Int64"}
    schema |= {"limit_bytes": "Int64", "fits": "boolean"}
    measured = any(row["peak_bytes"] is not None for row in numbers)
    return select.Plot(select.numbers(numbers if measured else [], schema), setting)


def limit(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws the peak of a step against depth, batch or tokens into `ax` or a new figure, a point a probe, and the limit
    as a line.

    Returns the axes. Raises: UsageError where no frontier was looked for."""
    return draw_limit(plot_limit(select.View(frame)), ax)


def draw_limit(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`limit` of what `plot_limit` chose."""
    points = select.required(chosen.numbers, NEEDS)
    over, bound = points[0]["over"], points[0]["limit_bytes"]
    unit = units.ByteScale.of([bound])
    looks = style.looks(row["method"] for row in points)
    arms: dict[tuple[Any, ...], list[Row]] = {}
    for row in points:
        arms.setdefault(tuple(select.version(row).values()), []).append(row)
    firsts = [members[0] for members in arms.values()]
    top = 1.25 * bound / unit.factor
    with style.axes(ax) as ax:
        for members, shade in zip(arms.values(), _shades(firsts), strict=True):
            look = looks[members[0]["method"]]
            measured = [row for row in members if row["peak_bytes"] is not None]
            ax.plot(
                [row["value"] for row in measured], [row["peak_bytes"] / unit.factor for row in measured],
                color=look.color, alpha=shade, marker=look.marker, markersize=3, linestyle=look.line,
                label=_named(members[0], firsts),
            )  # fmt: skip
            out = [row["value"] for row in members if row["peak_bytes"] is None]
            ax.plot(out, [0.97 * top] * len(out), color=look.color, alpha=shade, marker="x", linestyle="none")
        ax.axhline(bound / unit.factor, color="0.2", linewidth=0.9)
        ax.annotate(
            f"limit {units.size(bound)}", xy=(0.995, bound / unit.factor), xycoords=("axes fraction", "data"),
            # Clear of the points that lie just above the limit.
            xytext=(0, 5), textcoords="offset points", fontsize="small", color="0.2", horizontalalignment="right",
        )  # fmt: skip
        fitting = [row["value"] for row in points if row["fits"]]
        ax.set_xlim(0, 1.08 * max([*fitting, *(row["value"] for row in points if not fitting)]))
        ax.set_ylim(0, top)
        ax.set_xlabel(AXIS_LABELS[over])
        ax.set_ylabel(f"peak of a step ({unit.unit})")
        legend_above(ax, chosen.setting)
    return ax


def _members(view: select.View) -> tuple[list[Largest], str]:
    """The methods of one setting, that with the most results, then the last; and what tells it from others."""
    found = table.largests(view.rows)
    groups: dict[tuple[object, ...], list[Largest]] = {}
    for one in found:
        groups.setdefault(bench_frontier.group(one), []).append(one)
    chosen: list[Largest] = []
    for members in groups.values():
        if _results(members) >= _results(chosen):
            chosen = members
    kept, every = ([msgspec.structs.asdict(one.case) for one in some] for some in (chosen, found))
    return chosen, settings.picked(kept, every) if len(groups) > 1 else ""


def _results(members: Sequence[Largest]) -> int:
    return sum(one.value is not None for one in members)


def _order(record: Record) -> tuple[Any, ...]:
    return (grid_order(bench_frontier.arm(record)), bench_frontier.value_of(record))


def _named(row: Row, rows: Sequence[Row]) -> str:
    """The method, with what tells it from others of its name."""
    same = [one for one in rows if one["method"] == row["method"]]
    told = settings.values(row, settings.of_the_method(same)) if len(same) > 1 else []
    return ", ".join([row["method"], *told])


def _shades(rows: Sequence[Row]) -> list[float]:
    """How strongly each is drawn, so that the settings of one method are told apart."""
    seen: dict[str, int] = {}
    shades = []
    for row in rows:
        number = seen[row["method"]] = seen.get(row["method"], -1) + 1
        shades.append(_SHADES[number % len(_SHADES)])
    return shades


def _timed_in_tokens(row: Row) -> bool:
    return row["samples_per_second"] is None or row["tokens_per_second"] is not None
