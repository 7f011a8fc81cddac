"""How wrong the gradients are as training goes on, with the loss beside it, which tells nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports import units, watched
from reports.figures import by_look, by_step, panels, select, style, zero
from reports.settings import Row
from reports.watched import Series

NEEDS: Final = "an arm whose gradient error was watched while it was trained"
_ERROR: Final = "gradient_error"
_LOSSES: Final = ("validation_loss", "train_loss")
"""Which loss stands beside the error: the first that was logged."""
_SCHEMA: Final = {
    "curve": "string", "arm": "string", "method": "string", "step": "Int64", "seeds": "Int64", "not_finite": "Int64",
    "median": "Float64", "lowest": "Float64", "highest": "Float64", "mean": "Float64", "deviation": "Float64",
}  # fmt: skip
_HEIGHTS: Final = (1.4, 1.0)


def plot(view: select.View) -> select.Plot:
    """What `drift` shows: a row a curve, inverse and step. Of the gradient error median and range over seeds; of the
    loss, where an arm was trained by that inverse, mean and sample deviation."""
    found = watched.series(view.arms, _ERROR, blocks=False)
    loss = next((name for name in _LOSSES if any(one.arm.points(name) for one in found)), _LOSSES[0])
    numbers = [row for one in found for row in (*_errors(one), *_losses(one, loss))]
    return select.Plot(select.numbers(numbers, _SCHEMA), view.task)


def drift(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws the gradient error against the step in the place of `ax` or into a new figure, exact zeros in a strip of
    their own, and below it the loss. Returns the axes, the frame of the panels.

    Raises: UsageError where nobody watched."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`drift` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    looks = by_step.looks_of(points)
    names = [name for name in _LOSSES if any(row["curve"] == name for row in points)]
    with style.axes(ax, size(chosen)) as ax:
        above, *below = panels.stacked(ax, _HEIGHTS[: 1 + len(names)], looks, chosen.setting)
        _draw_errors(above, [row for row in points if row["curve"] == _ERROR], looks)
        for panel, name in zip(below, names, strict=True):
            for arm, look in looks.items():
                by_step.line(panel, [row for row in points if row["curve"] == name and row["arm"] == arm], look)
            panel.set_ylabel(by_step.CURVES[name])
        lowest = (above, *below)[-1]
        lowest.set_xlabel("step")
        lowest.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        lowest.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.integer(round(value))))
    return ax


def size(chosen: select.Plot) -> tuple[float, float]:
    """Inches: higher than a single panel."""
    looks = by_step.looks_of(select.required(chosen.numbers, NEEDS))
    return style.COLUMN[0], 1.4 * style.COLUMN[1] + panels.legend_inches(looks, style.COLUMN[0], chosen.setting)


def _draw_errors(ax: Axes, points: Sequence[Row], looks: dict[str, style.Look]) -> None:
    values = [row[name] for row in points for name in ("median", "lowest", "highest") if row[name] is not None]
    axis = zero.zero_axis(ax, values)
    exact = [arm for arm in looks if any(row["median"] == 0 for row in points if row["arm"] == arm)]
    for arm, look in looks.items():
        of = [row for row in points if row["arm"] == arm]
        above = [row for row in of if row["median"]]
        at = [row["step"] for row in above]
        every = max(1, -(-len(of) // 12))
        dots: dict[str, Any] = {
            "color": look.color, "marker": look.marker, "linestyle": look.line, "markevery": every
        }  # fmt: skip
        ax.fill_between(
            at, [max(row["lowest"], axis.bottom) for row in above], [row["highest"] for row in above],
            color=look.color, alpha=0.2, linewidth=0,
        )  # fmt: skip
        ax.plot(at, [row["median"] for row in above], **dots)
        zeros = [row["step"] for row in of if row["median"] == 0]
        lane = exact.index(arm) if arm in exact else 0
        ax.plot(zeros, [axis.zero(lane, max(1, len(exact)))] * len(zeros), **dots)
        lost = [row["step"] for row in of if row["median"] is None]
        ax.plot(
            lost, [0.985] * len(lost), transform=ax.get_xaxis_transform(), **(dots | {"marker": 6, "linestyle": ""})
        )
    ax.set_ylabel("gradient error")


def _errors(one: Series) -> list[dict[str, Any]]:
    groups: dict[int, list[Any]] = {}
    for point in sorted(one.points(blocks=False), key=lambda point: point.step):
        groups.setdefault(point.step, []).append(point)
    return [
        {"curve": _ERROR, "arm": one.label, "method": one.method, "step": step, "mean": None, "deviation": None}
        | by_look.errors_of(members)
        for step, members in groups.items()
    ]


def _losses(one: Series, name: str) -> list[dict[str, Any]]:
    """Of the arms that were trained by the inverse: another's would be a second line in the same place."""
    empty = dict.fromkeys(("median", "lowest", "highest"))
    return [
        {"curve": name, "arm": one.label, "method": one.method, "step": step, "not_finite": 0}
        | empty
        | by_step.numbers_of(value)
        for step, value in (by_step.intervals(one.arm, name) if one.own else ())
    ]
