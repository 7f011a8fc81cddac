"""How good each arm becomes against the memory that its training takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from reports import arms, units
from reports.figures import by_step, select, style
from reports.figures.labels import legend_above, plain_log_ticks

NEEDS: Final = "two or more arms with a validation score and the peak memory of a step"
LABELS: Final = {"validation_accuracy": "validation accuracy (%)", "validation_loss": "validation loss"}
_SAME: Final = 0.015
"""Memory that differs by a smaller share is drawn as the same."""
_STEP: Final = 1.025
_SCHEMA: Final = {
    "arm": "string", "method": "string", "of": "string", "peak_bytes": "Int64", "activation_bytes": "Int64",
    "seeds": "Int64", "mean": "Float64", "deviation": "Float64",
}  # fmt: skip


def plot(view: select.View) -> select.Plot:
    """What `accuracy_memory` shows: a row an arm, the peak of a step and the score at the end over seeds."""
    field = arms.headline(view.arms)
    numbers = [
        {
            "arm": arm.name,
            "method": arm.method,
            "of": field,
            "peak_bytes": arm.measured["peak_bytes"],
            "activation_bytes": arm.measured["activation_bytes"],
            **by_step.numbers_of(score),
        }
        for arm in view.arms
        if arm.measured["peak_bytes"] is not None and (score := arm.over_seeds(field)) is not None
    ]
    return select.Plot(select.numbers(numbers if len(numbers) > 1 else [], _SCHEMA), view.task)


def accuracy_memory(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws validation accuracy, or loss where nothing is classified, against the peak memory of a step into `ax` or a
    new figure, a point an arm with one sample deviation over seeds to either side. Returns the axes.

    Raises: UsageError where there are no two such arms."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`accuracy_memory` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    field = points[0]["of"]
    unit = units.ByteScale.of(row["peak_bytes"] for row in points)
    looks = by_step.looks_of(points)
    factor = by_step.factor_of(field)
    with style.axes(ax) as ax:
        for row, shift in zip(points, _shifts([row["peak_bytes"] for row in points]), strict=True):
            look = looks[row["arm"]]
            ax.errorbar(
                shift * row["peak_bytes"] / unit.factor, factor * row["mean"], yerr=factor * (row["deviation"] or 0.0),
                color=look.color, marker=look.marker, linestyle="none", elinewidth=1.0, label=row["arm"],
            )  # fmt: skip
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        middle = (low * high) ** 0.5
        ax.set_xlim(min(low, middle / 1.3), max(high, middle * 1.3))
        ax.margins(y=0.15)
        plain_log_ticks(ax, "x")
        ax.set_xlabel(f"peak of a step ({unit.unit})")
        ax.set_ylabel(LABELS[field])
        legend_above(ax, chosen.setting)
    return ax


def _shifts(sizes: Sequence[int]) -> list[float]:
    """Factors that draw arms with the same memory side by side, so that their bars do not cover one another."""
    alike = [[other for other, size in enumerate(sizes) if abs(size / one - 1) < _SAME] for one in sizes]
    return [_STEP ** (same.index(place) - (len(same) - 1) / 2) for place, same in enumerate(alike)]
