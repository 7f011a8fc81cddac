"""How good arms become against the size of γ in training, and against a fixed γ at inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from bench.curves import Point
from reports import arms, units
from reports.arms import Arm, over
from reports.figures import by_step, select, style
from reports.figures.by_memory import LABELS
from reports.figures.labels import legend_above
from reports.frame import method_rank
from reports.settings import Row

NEEDS: Final = "arms with two or more sizes of γ, trained to the end"
NEEDS_FIXED: Final = "an arm that was evaluated at two or more fixed γ"
_SCHEMA: Final = {
    "arm": "string", "method": "string", "of": "string", "gamma": "Float64", "seeds": "Int64", "mean": "Float64",
    "deviation": "Float64",
}  # fmt: skip
_FIXED: Final = {"accuracy_at_gamma": "validation_accuracy", "loss_at_gamma": "validation_loss"}


def plot(view: select.View) -> select.Plot:
    """What `gamma` shows: a row an arm, |γ| and the score at the end over seeds. An arm without γ, such as the plain
    transformer's, is of no |γ|; one whose γ is drawn from an interval is left out."""
    field = arms.headline(view.arms)
    numbers = [
        {
            "arm": arm.name,
            "method": arm.method,
            "of": field,
            "gamma": _size(arm),
            **by_step.numbers_of(score),
        }
        for arm in view.arms
        if (score := arm.over_seeds(field)) is not None and (arm.first["gamma"] is None or _size(arm) is not None)
    ]
    if len({row["gamma"] for row in numbers} - {None}) < 2:
        numbers = []
    return select.Plot(select.numbers(numbers, _SCHEMA), view.task)


def gamma(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws validation accuracy, or loss where nothing is classified, against |γ| into `ax` or a new figure, a line a
    method, with one sample deviation over seeds to either side. What has no γ is a line across. Returns the axes.

    Raises: UsageError where there are no two sizes of γ."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`gamma` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    field = points[0]["of"]
    factor = by_step.factor_of(field)
    methods = sorted({row["method"] for row in points}, key=method_rank)
    with style.axes(ax) as ax:
        looks = style.looks(methods)
        swept = [method for method in methods if any(row["gamma"] is not None for row in _of(points, method))]
        for method in methods:
            look = looks[method]
            line = sorted(
                (row for row in _of(points, method) if row["gamma"] is not None), key=lambda row: row["gamma"]
            )
            # Side by side, so that the bars of two methods do not cover one another.
            shift = 0.006 * (swept.index(method) - (len(swept) - 1) / 2) if method in swept else 0.0
            if line:
                ax.errorbar(
                    [row["gamma"] + shift for row in line], [factor * row["mean"] for row in line],
                    yerr=[factor * (row["deviation"] or 0.0) for row in line], color=look.color, marker=look.marker,
                    linestyle=look.line, elinewidth=1.0, label=method,
                )  # fmt: skip
            for row in _of(points, method):
                if row["gamma"] is None and row["arm"] == row["method"]:
                    level, band = factor * row["mean"], factor * (row["deviation"] or 0.0)
                    ax.axhline(level, color=look.color, linestyle=look.line, linewidth=0.9, label=method)
                    ax.axhspan(level - band, level + band, color=look.color, alpha=0.12, linewidth=0)
        sizes = sorted({row["gamma"] for row in points if row["gamma"] is not None})
        ax.set_xticks(sizes, [units.tick(size) for size in sizes])
        ax.set_xlabel("|γ| in training")
        ax.set_ylabel(LABELS[field])
        legend_above(ax, chosen.setting)
    return ax


def plot_fixed(view: select.View) -> select.Plot:
    """What `gamma_inference` shows: a row an arm and fixed γ, the score there at the last look, over seeds."""
    name = next((name for name in _FIXED if any(arm.points(name) for arm in view.arms)), "loss_at_gamma")
    numbers = [
        {
            "arm": arm.name,
            "method": arm.method,
            "of": _FIXED[name],
            "gamma": value,
            **by_step.numbers_of(score),
        }
        for arm in view.arms
        for value, score in over(_last(arm, name), lambda point: point.gamma)
    ]
    if len({row["gamma"] for row in numbers}) < 2:
        numbers = []
    return select.Plot(select.numbers(numbers, _SCHEMA), view.task)


def gamma_inference(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws validation accuracy, or loss where nothing is classified, against a fixed γ at inference into `ax` or a new
    figure, a line an arm, a band of one sample deviation over seeds. Returns the axes.

    Raises: UsageError where nobody looked at two γ."""
    return draw_fixed(plot_fixed(select.View(frame)), ax)


def draw_fixed(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`gamma_inference` of what `plot_fixed` chose."""
    points = select.required(chosen.numbers, NEEDS_FIXED)
    field = points[0]["of"]
    looks = by_step.looks_of(points)
    with style.axes(ax) as ax:
        ax.axvline(0, color="0.6", linewidth=0.7)
        for arm, look in looks.items():
            of = [row for row in points if row["arm"] == arm]
            by_step.line(ax, of, look, factor=by_step.factor_of(field), along="gamma", marks=21)
            ax.plot([], [], color=look.color, marker=look.marker, linestyle=look.line, label=arm)
        # Where there are no lines: below a best accuracy, above a least loss.
        low = field == "validation_accuracy"
        ax.annotate(
            "the plain transformer", xy=(0, 0.02 if low else 0.98), xycoords=("data", "axes fraction"), xytext=(3, 0),
            textcoords="offset points", fontsize="small", color="0.35", verticalalignment="bottom" if low else "top",
        )  # fmt: skip
        ax.set_xlabel("fixed γ at inference")
        ax.set_ylabel(LABELS[field])
        legend_above(ax, chosen.setting)
    return ax


def _of(points: Sequence[Row], method: str) -> list[Row]:
    return [row for row in points if row["method"] == method]


def _size(arm: Arm) -> float | None:
    """|γ| where it is of one size."""
    try:
        return float(arm.first["gamma"])
    except (TypeError, ValueError):
        return None


def _last(arm: Arm, name: str) -> list[Point]:
    """The points of each seed's last look."""
    points = arm.points(name)
    last = {seed: max(point.step for point in points if point.seed == seed) for seed in {one.seed for one in points}}
    return [point for point in points if point.step == last[point.seed]]
