"""Training and validation against the step, with a band over seeds: Fig. 2 and Fig. 3 of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports import units
from reports.arms import Arm, Spread, over
from reports.figures import panels, select, style
from reports.settings import Row

NEEDS = "the curves of a training run"
CURVES: Final = {
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "validation_accuracy": "validation accuracy (%)",
}
SCHEMA: Final = {
    "curve": "string", "arm": "string", "method": "string", "step": "Int64", "seeds": "Int64", "mean": "Float64",
    "deviation": "Float64",
}  # fmt: skip
_INTERVALS: Final = 60
"""Into which a curve that was logged more often is cut: a training loss is of one batch each, and noisy."""
_BEGINNING: Final = 0.25
"""The share of the steps whose losses may run off the top: what is of interest comes after."""
_LOOKS: Final = 3
"""At the least: of fewer, all there is is shown."""
_MARKS: Final = 8


def plot(view: select.View) -> select.Plot:
    """What `curves` shows: a row a curve, arm and step, with mean and sample deviation over seeds.

    A curve with more than so many steps is averaged over intervals, and its step is where one ends."""
    numbers = [
        {"curve": name, "arm": arm.name, "method": arm.method, "step": step, **numbers_of(value)}
        for name in CURVES
        for arm in view.arms
        for step, value in intervals(arm, name)
    ]
    return select.Plot(select.numbers(numbers, SCHEMA), view.task)


def curves(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws loss and accuracy against the step in the place of `ax` or into a new figure: a panel a curve, a line an
    arm, a band of one sample deviation over seeds. Returns the axes, the frame of the panels.

    Raises: UsageError where nothing was logged."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`curves` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    names = [name for name in CURVES if any(row["curve"] == name for row in points)]
    looks = looks_of(points)
    last = max(row["step"] for row in points)
    with style.axes(ax, size(chosen)) as ax:
        for panel, name in zip(panels.beside(ax, len(names), looks, chosen.setting), names, strict=True):
            of = [row for row in points if row["curve"] == name]
            for arm, look in looks.items():
                line(panel, [row for row in of if row["arm"] == arm], look, factor=factor_of(name))
            _limits(panel, of, name)
            panel.set_title(CURVES[name])
            panel.set_xlabel("step")
            panel.set_xlim(-0.03 * last, 1.03 * last)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.integer(round(value))))
    return ax


def size(chosen: select.Plot) -> tuple[float, float]:
    """Inches: as wide as there are panels."""
    count = chosen.numbers["curve"].nunique()
    width, height = style.COLUMN if count < 2 else style.PAGE
    return width, height + panels.legend_inches(looks_of(select.required(chosen.numbers, NEEDS)), width)


def factor_of(name: str) -> float:
    """What values of a curve are multiplied with to be shown: accuracies are percentages."""
    return 100.0 if "accuracy" in name else 1.0


def looks_of(points: Sequence[Row]) -> dict[str, style.Look]:
    """The look of each arm among plotted numbers."""
    return style.arm_looks(list(dict.fromkeys((row["arm"], row["method"]) for row in points)))


def numbers_of(value: Spread) -> dict[str, Any]:
    """Mean and deviation over seeds as columns."""
    return {"seeds": len(value.values), "mean": value.mean, "deviation": value.deviation}


def line(
    ax: Axes, points: Sequence[Row], look: style.Look, *, factor: float = 1.0, along: str = "step", marks: int = _MARKS
) -> None:
    """The mean as a line with a few marks, and a band of one deviation to either side where there is one."""
    at = [row[along] for row in points]
    means = [factor * row["mean"] for row in points]
    bands = [factor * (row["deviation"] or 0.0) for row in points]
    ax.fill_between(
        at,
        [mean - band for mean, band in zip(means, bands, strict=True)],
        [mean + band for mean, band in zip(means, bands, strict=True)],
        color=look.color,
        alpha=0.15,
        linewidth=0,
    )
    every = max(1, math.ceil(len(points) / marks))
    # From the last point backwards: that is the one that counts.
    ax.plot(
        at, means, color=look.color, marker=look.marker, linestyle=look.line,
        markevery=((len(points) - 1) % every, every),
    )  # fmt: skip


def intervals(arm: Arm, name: str) -> list[tuple[int, Spread]]:
    """A curve over seeds, averaged over intervals where it has many steps: first of each seed, then over seeds."""
    points = arm.points(name)
    steps = sorted({point.step for point in points})
    if len(steps) <= _INTERVALS:
        return arm.curve(name)
    length = math.ceil(steps[-1] / _INTERVALS)
    seeds = sorted({point.seed for point in points})
    found: dict[int, list[float]] = {}
    for seed in seeds:
        own = over((point for point in points if point.seed == seed), lambda point: -(-point.step // length))
        for interval, value in own:
            found.setdefault(min(interval * length, steps[-1]), []).append(value.mean)
    return [(step, Spread(tuple(values))) for step, values in sorted(found.items())]


def _limits(ax: Axes, points: Sequence[Row], name: str) -> None:
    """The y axis without what a curve comes from: its first steps would leave no room for the rest."""
    last = max(row["step"] for row in points)
    late = [row for row in points if row["step"] >= _BEGINNING * last]
    if len({row["step"] for row in late}) < _LOOKS:
        late = list(points)
    ends = [factor_of(name) * (row["mean"] + sign * (row["deviation"] or 0.0)) for row in late for sign in (-1, 1)]
    room = 0.06 * (max(ends) - min(ends)) or 0.01 * abs(ends[0]) or 1.0
    ax.set_ylim(min(ends) - room, max(ends) + room)
