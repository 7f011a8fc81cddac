"""Fig. 1 of the paper, with the quantised rule beside it: reconstruction error against the block."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports import settings, units
from reports.figures import select, style, zero
from reports.figures.labels import EndLabel, label_ends, mark_missing, name_setting
from reports.settings import Row

NEEDS = "cases whose reconstruction was measured"
_SCHEMA = {
    **select.VERSION,
    "train_steps": "Int64",
    "block": "Int64",
    "seeds": "Int64",
    "not_finite": "Int64",
    "median_max_abs_error": "Float64",
    "lowest_max_abs_error": "Float64",
    "highest_max_abs_error": "Float64",
}
_MARKS = 24
"""Marks on a line, at most: of more blocks, every second or third has one."""
_VERSIONS = 3
"""Pairs of l and γ that are told apart, at most; more l are a matter for `error_bits`."""
_INVERSES = {"bdia-naive": "eq. 16", "bdia": "eq. 24"}


def plot(view: select.View) -> select.Plot:
    """What `fig1` shows: for each method, l, γ, `train_steps` and block, `max_abs_error` over the seeds.

    `not_finite` counts the seeds whose error is not, which the median and the range leave out."""
    chosen = _chosen(view)
    series: dict[tuple[Any, ...], list[Row]] = {}
    for row in chosen:
        for entry in row["reconstruction"] or ():
            key = (_version(row), row["train_steps"], entry["block"])
            series.setdefault(key, []).append(entry)
    numbers = []
    for (version, train_steps, block), members in series.items():
        errors = [entry["max_abs_error"] for entry in members if entry["max_abs_error"] is not None]
        numbers.append(
            {
                **dict(zip(select.VERSION, version, strict=True)),
                "train_steps": train_steps,
                "block": block,
                "seeds": len(members),
                "not_finite": len(members) - len(errors),
                "median_max_abs_error": statistics.median(errors) if errors else None,
                "lowest_max_abs_error": min(errors, default=None),
                "highest_max_abs_error": max(errors, default=None),
            }
        )
    return select.plot(select.numbers(numbers, _SCHEMA), view, chosen, _rebuilt)


def fig1(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws the reconstruction error against the block into `ax`, or into a new figure: median over seeds as a
    line, their range as a band, exact zeros in a strip of their own, and a slope of 2x a block to compare with.
    Weights as they were initialised are filled marks, trained ones open.

    Of several settings, the one with the most seeds is drawn. Returns the axes.

    Raises: UsageError where no reconstruction was measured."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`fig1` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    series: dict[tuple[Any, ...], list[Row]] = {}
    for row in points:
        series.setdefault((*_version(row), row["train_steps"]), []).append(row)
    errors = [row[f"{which}_max_abs_error"] for row in points for which in ("median", "lowest", "highest")]
    exact = [key for key, members in series.items() if any(row["median_max_abs_error"] == 0 for row in members)]
    steps = sorted({train_steps for *_, train_steps in series})
    last = max([1, *(row["block"] for row in points)])
    with style.axes(ax) as ax:
        looks = style.looks(method for method, *_ in series)
        axis = zero.zero_axis(ax, [error for error in errors if error is not None])
        lanes = {key: axis.zero(lane, len(exact)) for lane, key in enumerate(exact)}
        ax.set_xlim(-0.035 * last, 1.035 * last)
        for key, members in series.items():
            _line(ax, axis, members, looks[key[0]], filled=key[-1] == steps[0], zero_at=lanes.get(key, axis.zero()))
        _reference(ax, axis, points)
        ends: dict[str, list[float]] = {}
        for key, members in series.items():
            text = _label(members[0], points)
            ends.setdefault(text, []).append(_end(members, lanes.get(key, axis.top)))
        label_ends(
            ax,
            [
                EndLabel(statistics.geometric_mean(heights), text, looks[text.partition("\n")[0]].ink)
                for text, heights in ends.items()
            ],
        )
        if len(steps) > 1:
            _steps_legend(ax, steps)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 3, 5, 10]))
        ax.set_xlabel("block")
        ax.set_ylabel("reconstruction error")
        name_setting(ax, chosen.setting)
    return ax


def _line(
    ax: Axes, axis: zero.ZeroAxis, members: Sequence[Row], look: style.Look, *, filled: bool, zero_at: float
) -> None:
    """One series: what is above 0 as a line with a band, what is 0 as points in the strip."""
    ordered = sorted(members, key=lambda row: row["block"])
    above = [row for row in ordered if row["median_max_abs_error"]]
    dots: dict[str, Any] = {
        "color": look.color,
        "marker": look.marker,
        "markerfacecolor": look.color if filled else "white",
        "linestyle": look.line,
        "markevery": math.ceil(len(ordered) / _MARKS),
    }
    if above:
        at = [row["block"] for row in above]
        ax.fill_between(
            at,
            [max(row["lowest_max_abs_error"], axis.bottom) for row in above],
            [row["highest_max_abs_error"] for row in above],
            color=look.color,
            alpha=0.2,
            linewidth=0,
        )
        ax.plot(at, [row["median_max_abs_error"] for row in above], **dots)
    lost = [row["block"] for row in ordered if row["median_max_abs_error"] is None]
    if lost:
        ax.plot(
            lost, [0.985] * len(lost), transform=ax.get_xaxis_transform(), **(dots | {"marker": 6, "linestyle": ""})
        )
        mark_missing(ax, lost[-1], units.NOT_FINITE, look.ink, lane=1)
    zeros = [row["block"] for row in ordered if row["median_max_abs_error"] == 0]
    if zeros:
        ax.plot(zeros, [zero_at] * len(zeros), **dots)


def _reference(ax: Axes, axis: zero.ZeroAxis, points: Sequence[Row]) -> None:
    """A dashed line of slope 2x a block, a little below the data."""
    above = [(row["block"], row["median_max_abs_error"]) for row in points if row["median_max_abs_error"]]
    if len(above) < 2:
        return
    level = min(error * 2.0**block for block, error in above) / 5
    span = range(min(block for block, _ in above), max(block for block, _ in above) + 1)
    blocks_ = [block for block in span if level * 0.5**block >= axis.bottom]
    if len(blocks_) < 2:
        return
    ax.plot(blocks_, [level * 0.5**block for block in blocks_], color="0.35", linestyle="--", linewidth=0.7)
    text: dict[str, Any] = {"fontsize": "small", "color": "0.35"}
    # Along the line where it is long enough to carry the words, else after it, where it has run into the axis.
    if len(blocks_) > len(span) // 2:
        at: float = blocks_[len(blocks_) // 3]
        height = 0.8 * level * 0.5**at
        # The direction of the line in the units of the axes.
        text |= {"rotation": math.degrees(math.atan(-math.log(2) * height)), "rotation_mode": "anchor"}
        text |= {"transform_rotates_text": True, "horizontalalignment": "center", "verticalalignment": "top"}
    else:
        at = blocks_[-1] + 0.3
        height = level * 0.5 ** blocks_[-1]
        text |= {"horizontalalignment": "left", "verticalalignment": "center"}
    ax.text(at, height, "2× per block", **text)


def _steps_legend(ax: Axes, steps: Sequence[int]) -> None:
    for train_steps in steps:
        ax.plot(
            [],
            [],
            linestyle="none",
            marker="o",
            color="0.35",
            markerfacecolor="0.35" if train_steps == steps[0] else "white",
            label="initial weights" if train_steps == 0 else f"after {units.integer(train_steps)} train steps",
        )
    ax.legend(loc="upper right", handletextpad=0.1)


def _end(members: Sequence[Row], otherwise: float) -> float:
    """The height at which a series ends: of its topmost block with an error above 0."""
    above = [row for row in members if row["median_max_abs_error"]]
    return float(max(above, key=lambda row: row["block"])["median_max_abs_error"]) if above else otherwise


def _label(row: Row, points: Sequence[Row]) -> str:
    """The method, its inverse, and what tells this l and γ from the others of the method."""
    method = row["method"]
    others = [point for point in points if point["method"] == method]
    told = [axis for axis in tuple(select.VERSION)[1:] if len({point[axis] for point in others}) > 1]
    parts = (_INVERSES.get(method), *(f"{settings.name_of(axis)}={row[axis]}" for axis in told))
    said = ", ".join(part for part in parts if part)
    return f"{method}\n{said}" if said else method


def _chosen(view: select.View) -> Sequence[Row]:
    """The rows of the one setting that is drawn; of a sweep over γ or l, one a method."""
    chosen = select.comparable(view, ["train_steps"], _rebuilt, by=["seed", "method", "train_steps"])
    for narrowed in (select.one_cut, select.one_gamma, select.one_precision):
        versions = set(map(_version, chosen))
        if max(Counter(method for method, *_ in versions).values(), default=0) > _VERSIONS:
            chosen = narrowed(chosen)
    return chosen


def _version(row: Row) -> tuple[Any, ...]:
    return tuple(row[axis] for axis in select.VERSION)


def _rebuilt(row: Row) -> bool:
    return bool(row["reconstruction"])
