"""Reconstruction error against l, with the cliff at the end of fp32's exact range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from reports import units
from reports.figures import select, style, zero
from reports.figures.labels import EndLabel, label_ends, name_setting
from reports.frame import method_rank
from reports.settings import Row

NEEDS = "reconstructions of one method at two or more l"


def plot(view: select.View) -> select.Plot:
    """What `error_bits` shows: a row a method and l with the worst error of all blocks and seeds, and whether that
    l was within the exact range: `status` is `unsupported` where it was not. A method without l has one row."""
    chosen = select.one_gamma(select.one_cut(select.comparable(view, [], _rebuilt, by=["bits", "method"])))
    points: dict[tuple[str, int | None], list[Row]] = {}
    for row in chosen:
        if row["reconstruction"] is not None or (row["bits"] is not None and row["status"] != "ok"):
            points.setdefault((row["method"], row["bits"]), []).append(row)
    numbers = [_point(members) for members in points.values()]
    measured = [row for row in numbers if row["bits"] is not None and row["worst_max_abs_error"] is not None]
    if len({row["bits"] for row in measured}) < 2:
        numbers = []
    schema = {**select.VERSION, "status": "string", "seeds": "Int64"}
    schema |= {"worst_max_abs_error": "Float64", "largest_bits": "Int64"}
    numbers.sort(key=lambda row: (method_rank(row["method"]), row["bits"] or 0))
    return select.plot(select.numbers(numbers, schema), view, chosen, _rebuilt)


def error_bits(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws the worst reconstruction error against l into `ax` or a new figure. Exact zeros have a strip of their
    own; where fp32 no longer holds every multiple of 2^-l the ground is shaded and the marks are open. A method
    without l is a line across.

    Returns the axes. Raises: UsageError where fewer than two l were measured."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`error_bits` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    with_bits = [row for row in points if row["bits"] is not None]
    methods = sorted({row["method"] for row in points}, key=method_rank)
    with style.axes(ax) as ax:
        looks = style.looks(methods)
        errors = [row["worst_max_abs_error"] for row in points if row["worst_max_abs_error"] is not None]
        axis = zero.zero_axis(ax, errors, headroom=1.0)
        bits = sorted({row["bits"] for row in with_bits})
        ax.set_xlim(bits[0] - 0.6, bits[-1] + 0.6)
        _cliff(ax, with_bits)
        ends = []
        for method in methods:
            line = [row for row in points if row["method"] == method]
            heights = [axis.place(row["worst_max_abs_error"]) for row in line if row["worst_max_abs_error"] is not None]
            _line(ax, axis, line, looks[method])
            if heights:
                ends.append(EndLabel(heights[-1], method, looks[method].ink))
        label_ends(ax, ends)
        ax.set_xticks([value for value in bits if (value - bits[0]) % (1 if len(bits) < 10 else 3) == 0])
        ax.set_xlabel("l (bits behind the binary point)")
        ax.set_ylabel("worst reconstruction error")
        name_setting(ax, chosen.setting)
    return ax


def _line(ax: Axes, axis: zero.ZeroAxis, line: Sequence[Row], look: style.Look) -> None:
    shown = [row for row in line if row["worst_max_abs_error"] is not None]
    if all(row["bits"] is None for row in line):
        for row in shown:
            ax.axhline(axis.place(row["worst_max_abs_error"]), color=look.color, linestyle=look.line)
        return
    for within in (True, False):
        part = [row for row in shown if (row["status"] == "ok") == within]
        for exact in (True, False):
            run = [row for row in part if (row["worst_max_abs_error"] == 0) == exact]
            ax.plot(
                [row["bits"] for row in run],
                [axis.place(row["worst_max_abs_error"]) for row in run],
                color=look.color,
                marker=look.marker,
                markerfacecolor=look.color if within else "white",
                linestyle=look.line,
            )


def _cliff(ax: Axes, points: Sequence[Row]) -> None:
    """Shades the l beyond the exact range."""
    beyond = [row["bits"] for row in points if row["status"] == "unsupported"]
    if not beyond:
        return
    start = min(beyond) - 0.5
    ax.axvspan(start, ax.get_xlim()[1], color="0.88", linewidth=0, zorder=0)
    ax.axvline(start, color="0.35", linewidth=0.7)
    left = start > sum(ax.get_xlim()) / 2
    exact = [row["bits"] for row in points if row["worst_max_abs_error"] == 0 and row["bits"] < min(beyond)]
    ax.annotate(
        f"exact up to l = {units.integer(max(exact))}" if exact else "beyond the exact range",
        xy=(start, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if left else 3, -3),
        textcoords="offset points",
        fontsize="small",
        color="0.35",
        horizontalalignment="right" if left else "left",
        verticalalignment="top",
    )


def _rebuilt(row: Row) -> bool:
    return bool(row["reconstruction"])


def _point(members: Sequence[Row]) -> dict[str, Any]:
    first = members[0]
    errors = [row["worst_max_abs_error"] for row in members if row["worst_max_abs_error"] is not None]
    beyond = [row["status"] for row in members if row["status"] != "ok"]
    return {
        **select.version(first),
        "status": beyond[0] if beyond else "ok",
        "seeds": len(errors),
        "worst_max_abs_error": max(errors, default=None),
        "largest_bits": min((row["largest_bits"] for row in members if row["largest_bits"] is not None), default=None),
    }
