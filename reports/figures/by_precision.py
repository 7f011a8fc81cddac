"""What l, the bits behind the binary point, does to training: loss, reconstruction error, headroom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reports import arms
from reports.arms import Arm
from reports.figures import by_step, panels, select, style, zero
from reports.figures.by_memory import LABELS
from reports.figures.labels import mark_missing
from reports.settings import Row

NEEDS: Final = "arms of one method with two or more l, trained to the end"
_SCHEMA: Final = {
    "arm": "string", "method": "string", "of": "string", "bits": "Int64", "status": "string", "seeds": "Int64",
    "mean": "Float64", "deviation": "Float64", "reconstruction_error": "Float64", "largest_bits": "Int64",
    "headroom_bits": "Int64",
}  # fmt: skip
_HEIGHTS: Final = {"mean": 1.3, "reconstruction_error": 0.7, "headroom_bits": 0.8}


def plot(view: select.View) -> select.Plot:
    """What `bits` shows: a row an arm, its l, the score at the end over seeds, the largest reconstruction error that
    was seen while training, and the least headroom, in bits: the largest l that would have been exact, less l. What
    does not quantise has no l. An arm without a seed that ended well is a row with its status."""
    field = arms.headline(view.arms)
    numbers = [_row(arm, field) for arm in view.arms]
    done = [row for row in numbers if row["bits"] is not None and row["mean"] is not None]
    if max((len({row["bits"] for row in done if row["method"] == one["method"]}) for one in done), default=0) < 2:
        numbers = []
    numbers.sort(key=lambda row: row["bits"] or 0)
    return select.Plot(select.numbers(numbers, _SCHEMA), view.task)


def bits(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws loss, reconstruction error and headroom against l in the place of `ax` or into a new figure, a panel each;
    what does not quantise is a line across. Returns the axes, the frame of the panels.

    Raises: UsageError where there are no two l."""
    return draw(plot(select.View(frame)), ax)


def draw(chosen: select.Plot, ax: Axes | None = None) -> Axes:
    """`bits` of what `plot` chose."""
    points = select.required(chosen.numbers, NEEDS)
    shown = _shown(points)
    looks = _looks(points)
    factor = by_step.factor_of(points[0]["of"])
    with style.axes(ax, size(chosen)) as ax:
        found = dict(
            zip(shown, panels.stacked(ax, [_HEIGHTS[name] for name in shown], looks, chosen.setting), strict=True)
        )
        every = sorted({row["bits"] for row in points if row["bits"] is not None})
        top = found["mean"]
        top.set_xlim(every[0] - 0.6, every[-1] + 0.6)
        _scores(top, points, looks, factor)
        if "reconstruction_error" in found:
            _errors(found["reconstruction_error"], points, looks)
        if "headroom_bits" in found:
            _headroom(found["headroom_bits"], points, looks)
        _lost(top, list(found.values()), points, looks)
        lowest = list(found.values())[-1]
        lowest.set_xlabel("l (bits behind the binary point)")
        lowest.set_xticks([value for value in every if (value - every[0]) % (1 if len(every) < 14 else 3) == 0])
    return ax


def size(chosen: select.Plot) -> tuple[float, float]:
    """Inches: as high as it has panels."""
    points = select.required(chosen.numbers, NEEDS)
    heights = sum(_HEIGHTS[name] for name in _shown(points))
    return style.COLUMN[0], 0.6 + 0.95 * heights + panels.legend_inches(_looks(points), style.COLUMN[0], chosen.setting)


def _row(arm: Arm, field: str) -> dict[str, Any]:
    score = arm.over_seeds(field)
    errors = [point.value for point in arm.points("reconstruction_error", blocks=True)]
    largest = [point.value for point in arm.points("largest_bits") if point.value is not None]
    of = arm.first["bits"]
    ended = next((row["status"] for row in arm.rows if row["status"] != "ok"), "ok")
    return {
        "arm": arm.name,
        "method": arm.method,
        "of": field,
        "bits": of,
        "status": ended if score is None else "ok",
        "reconstruction_error": max((value for value in errors if value is not None), default=None),
        "largest_bits": round(min(largest)) if largest else None,
        "headroom_bits": round(min(largest)) - of if largest and of is not None else None,
        **({"seeds": 0, "mean": None, "deviation": None} if score is None else by_step.numbers_of(score)),
    }


def _shown(points: Sequence[Row]) -> list[str]:
    """The panels that there are numbers for."""
    return [name for name in _HEIGHTS if any(row[name] is not None for row in points if row["bits"] is not None)]


def _looks(points: Sequence[Row]) -> dict[str, style.Look]:
    """The look of each method."""
    return style.looks({row["method"] for row in points})


def _scores(ax: Axes, points: Sequence[Row], looks: dict[str, style.Look], factor: float) -> None:
    for method, look in looks.items():
        of = [row for row in points if row["method"] == method and row["mean"] is not None]
        swept = [row for row in of if row["bits"] is not None]
        ax.errorbar(
            [row["bits"] for row in swept], [factor * row["mean"] for row in swept],
            yerr=[factor * (row["deviation"] or 0.0) for row in swept], color=look.color, marker=look.marker,
            linestyle=look.line, elinewidth=1.0,
        )  # fmt: skip
        for row in of:
            if row["bits"] is None:
                level, band = factor * row["mean"], factor * (row["deviation"] or 0.0)
                ax.axhline(level, color=look.color, linestyle=look.line, linewidth=0.9)
                ax.axhspan(level - band, level + band, color=look.color, alpha=0.12, linewidth=0)
    ax.set_ylabel(LABELS[points[0]["of"]])


def _errors(ax: Axes, points: Sequence[Row], looks: dict[str, style.Look]) -> None:
    known = [row for row in points if row["reconstruction_error"] is not None and row["bits"] is not None]
    axis = zero.zero_axis(ax, [row["reconstruction_error"] for row in known])
    for method, look in looks.items():
        of = [row for row in known if row["method"] == method]
        ax.plot(
            [row["bits"] for row in of], [axis.place(row["reconstruction_error"]) for row in of], color=look.color,
            marker=look.marker, linestyle=look.line,
        )  # fmt: skip
    ax.set_ylabel("worst\nerror")


def _headroom(ax: Axes, points: Sequence[Row], looks: dict[str, style.Look]) -> None:
    known = [row for row in points if row["headroom_bits"] is not None]
    for method, look in looks.items():
        of = [row for row in known if row["method"] == method]
        ax.plot(
            [row["bits"] for row in of], [row["headroom_bits"] for row in of], color=look.color, marker=look.marker,
            linestyle=look.line,
        )  # fmt: skip
    ax.axhline(0, color="0.35", linewidth=0.7)
    low = min(0, *(row["headroom_bits"] for row in known))
    ax.set_ylim(low - 1, max(1, *(row["headroom_bits"] for row in known)) + 1)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_ylabel("headroom\n(bits)")


def _lost(top: Axes, found: Sequence[Axes], points: Sequence[Row], looks: dict[str, style.Look]) -> None:
    """Shades the l from which on no seed was trained to the end, and says how they ended."""
    lost = [row for row in points if row["bits"] is not None and row["mean"] is None]
    done = max((row["bits"] for row in points if row["bits"] is not None and row["mean"] is not None), default=0)
    beyond = [row for row in lost if row["bits"] > done]
    if beyond:
        start = min(row["bits"] for row in beyond) - 0.5
        for panel in found:
            panel.axvspan(start, panel.get_xlim()[1], color="0.88", linewidth=0, zorder=0)
    for lane, row in enumerate(lost[:1] if beyond == lost else lost):
        text = row["status"] if len(lost) == 1 or beyond != lost else f"{row['status']} →"
        mark_missing(top, row["bits"], text, looks[row["method"]].ink, lane)
    for panel in found:
        panel.grid(visible=True, axis="y")
