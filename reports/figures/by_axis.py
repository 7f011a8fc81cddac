"""Activation memory against depth, width or batch."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes

from reports import units
from reports.figures import select, style
from reports.figures.labels import (
    EndLabel,
    evenly_spread,
    label_ends,
    line_share,
    mark_missing,
    name_setting,
    plain_log_ticks,
    value_ticks,
)
from reports.frame import method_rank
from reports.settings import Row
from reports.sheets import slope

AXIS_LABELS = {"depth": "depth (blocks)", "width": "width", "seq": "tokens a sample", "batch": "batch (samples)"}


def plot(view: select.View, axis: str) -> select.Plot:
    """What `memory_axis` shows: a row a method and value of `axis`; the lower median where seeds differ.

    A case that failed is a row with its status and no bytes. Fewer than two values make no figure, and no rows."""
    chosen = select.one_version(select.comparable(view, [axis], _measured, by=[axis, "method"]))
    points: dict[tuple[str, int], list[Row]] = {}
    for row in chosen:
        if row[axis] is not None:
            points.setdefault((row["method"], row[axis]), []).append(row)
    numbers = []
    for (_, value), members in points.items():
        measured = [row for row in members if _measured(row)]
        sizes = [row["activation_bytes"] for row in measured]
        if not measured and all(row["status"] == "ok" for row in members):
            continue
        numbers.append(
            {
                **select.version(members[0]),
                axis: value,
                "status": "ok" if measured else members[0]["status"],
                "activation_bytes": statistics.median_low(sizes) if sizes else None,
                "bits_per_activation": measured[0]["bits_per_activation"] if measured else None,
                "law_linear": measured[0]["law_linear"] if measured else None,
            }
        )
    if len({row[axis] for row in numbers if row["activation_bytes"] is not None}) < 2:
        numbers = []
    schema = {**select.VERSION, axis: "Int64", "status": "string", "activation_bytes": "Int64"}
    schema |= {"bits_per_activation": "Float64", "law_linear": "boolean"}
    return select.plot(select.numbers(numbers, schema), view, chosen, _measured)


def memory_axis(frame: pd.DataFrame, ax: Axes | None = None, *, axis: str) -> Axes:
    """Draws activation memory against `axis` (`depth`, `width`, `seq` or `batch`) into `ax` or a new figure.

    Of several settings, the one with the most values of `axis`. Cases that failed are named at the top, where
    the first of them would be. Returns the axes.

    Raises: UsageError where there is no such case."""
    return draw_axis(plot(select.View(frame), axis), ax, axis=axis)


def memory_depth(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws activation memory against depth, with the bits per activation that `frame` fitted in the labels; points on
    no line are said to be on none."""
    return draw_depth(plot(select.View(frame), "depth"), ax)


def draw_axis(chosen: select.Plot, ax: Axes | None = None, *, axis: str) -> Axes:
    """`memory_axis` of what `plot` chose."""
    points = select.required(chosen.numbers, needs(axis))
    ax = _draw(points, ax, axis, lambda row: str(row["method"]))
    name_setting(ax, chosen.setting)
    return ax


def draw_depth(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`memory_depth` of what `plot` chose."""

    def labelled(row: Row) -> str:
        return row["method"] if row["bits_per_activation"] is None else f"{row['method']}  {slope(row).text}"

    points = select.required(chosen.numbers, needs("depth"))
    fitted = any(row["bits_per_activation"] is not None for row in points)
    ax = _draw(points, ax, "depth", labelled, below="bits/activation" if fitted else "")
    name_setting(ax, chosen.setting)
    return ax


def _draw(points: Sequence[Row], ax: Axes | None, axis: str, labelled: Callable[[Row], str], below: str = "") -> Axes:
    measured = [row for row in points if row["activation_bytes"] is not None]
    values = sorted({row[axis] for row in points})
    unit = units.ByteScale.of(row["activation_bytes"] for row in measured)
    methods = sorted({row["method"] for row in points}, key=method_rank)
    with style.axes(ax) as ax:
        looks = style.looks(methods)
        ax.set_yscale("log")
        value_ticks(ax, values, logarithmic=evenly_spread(values))
        ends = []
        for method in methods:
            line = sorted((row for row in measured if row["method"] == method), key=lambda row: row[axis])
            if not line:
                continue
            look = looks[method]
            sizes = [row["activation_bytes"] / unit.factor for row in line]
            ax.plot([row[axis] for row in line], sizes, color=look.color, marker=look.marker, linestyle=look.line)
            ends.append(EndLabel(sizes[-1], labelled(line[-1]), look.ink))
        _roomy(ax, [end.y for end in ends], lanes=_name_missing(ax, points, axis, looks))
        plain_log_ticks(ax, "y")
        label_ends(ax, ends, below=below)
        ax.set_xlabel(AXIS_LABELS[axis])
        ax.set_ylabel(f"activation memory ({unit.unit})")
    return ax


def _name_missing(ax: Axes, points: Sequence[Row], axis: str, looks: dict[str, style.Look]) -> int:
    """Names the failed cases at the top of the axes, and returns how many lanes that took.

    A method that ended alike at several values in a row is named once, at the first; an arrow stands for the
    others."""
    lanes = 0
    for method, look in looks.items():
        line = sorted((row for row in points if row["method"] == method), key=lambda row: row[axis])
        for status, members in itertools.groupby(line, key=lambda row: row["status"]):
            run = list(members)
            if run[0]["activation_bytes"] is None:
                onwards = " →" if len(run) > 1 else ""
                mark_missing(ax, run[0][axis], f"{method}: {status}{onwards}", look.ink, lanes)
                lanes += 1
    return lanes


def _roomy(ax: Axes, ends: Sequence[float], lanes: int) -> None:
    """Room above the data for `lanes` of text, and at least a factor of 3 from bottom to top."""
    low, high = ax.get_ylim()
    if ends and high / low < 3:
        low, high = low / 1.7, high * 1.7
    share = min(0.5, lanes * line_share(ax))
    ax.set_ylim(low, high * (high / low) ** (share / (1 - share)))


def needs(axis: str) -> str:
    """What a figure along `axis` needs, in words."""
    return f"the activation memory of cases at two or more values of {axis}"


def _measured(row: Row) -> bool:
    return row["activation_bytes"] is not None
