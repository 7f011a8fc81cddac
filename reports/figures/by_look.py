"""Errors block by block as training goes on: of what is rebuilt (Fig. 1 of the paper, on trained weights), and of
gradients."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.curves import Point
from reports import units, watched
from reports.figures import select, style, zero
from reports.figures.labels import EndLabel, label_ends, mark_missing, name_setting
from reports.settings import Row

LABELS: Final = {"reconstruction_error": "reconstruction error", "gradient_error": "gradient error"}
SCHEMA: Final = {
    "arm": "string", "method": "string", "step": "Int64", "block": "Int64", "seeds": "Int64", "not_finite": "Int64",
    "median": "Float64", "lowest": "Float64", "highest": "Float64",
}  # fmt: skip
_SHOWN: Final = 5
"""Of many looks so many are drawn: the first, the last, and some between."""
_MARKS: Final = 12


def plot(view: select.View, name: str) -> select.Plot:
    """What the figure of the curve `name` shows: a row an inverse, step and block, with the median and the range
    over seeds. `not_finite` counts the seeds whose error is not, which these leave out. Of an inverse that several arms
    were watched for, one is shown."""
    numbers = [
        {"arm": one.label, "method": one.method, "step": step, "block": block, **errors_of(members)}
        for one in watched.one_each(watched.series(view.arms, name, blocks=True))
        for (step, block), members in _looks(one.points(blocks=True)).items()
    ]
    return select.Plot(select.numbers(numbers, SCHEMA), view.task)


def fig1_trained(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draws the reconstruction error against the block into `ax` or a new figure, a line a look while training: median
    over seeds, and their range as a band. What was exact at every look is a line of its own in the strip of zeros.

    Returns the axes. Raises: UsageError where nobody watched."""
    return draw(plot(select.View(frame), "reconstruction_error"), ax, name="reconstruction_error")


def drift_blocks(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The same of the gradients of each block's parameters."""
    return draw(plot(select.View(frame), "gradient_error"), ax, name="gradient_error")


def draw(chosen: select.Plot, ax: Axes | None = None, *, name: str) -> Axes:
    """The figure of what `plot` chose."""
    points = select.required(chosen.numbers, needs(name))
    arms: dict[tuple[str, str], list[Row]] = {}
    for row in points:
        arms.setdefault((row["arm"], row["method"]), []).append(row)
    looks = style.arm_looks(list(arms))
    exact = [key for key, members in arms.items() if _is_exact(members)]
    steps = _drawn_steps([row["step"] for key, members in arms.items() if key not in exact for row in members])
    last = max([1, *(row["block"] for row in points)])
    with style.axes(ax) as ax:
        axis = zero.zero_axis(ax, [value for row in points for value in _values(row)], headroom=0.8)
        ax.set_xlim(-0.035 * last, 1.035 * last)
        ends: list[EndLabel] = []
        for key, members in arms.items():
            look = looks[key[0]]
            if key in exact:
                height = axis.zero(exact.index(key), len(exact) + bool(steps))
                blocks = sorted({row["block"] for row in members})
                ax.plot(
                    blocks, [height] * len(blocks), color=look.color, marker=look.marker, linestyle=look.line,
                    markevery=_every(blocks),
                )  # fmt: skip
                ends.append(EndLabel(height, _named(key[0]), look.ink))
                continue
            for place, step in enumerate(steps):
                shade = _shade(place, len(steps))
                of = sorted((row for row in members if row["step"] == step), key=lambda row: row["block"])
                _line(ax, axis, of, shade, look, zero_at=axis.zero(len(exact), len(exact) + 1))
            ends.append(EndLabel(_end(members, axis), _named(key[0]), look.ink))
        label_ends(ax, ends)
        if steps:
            _legend(ax, steps)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 3, 5, 10]))
        ax.set_xlabel("block")
        ax.set_ylabel(LABELS[name])
        name_setting(ax, chosen.setting)
    return ax


def needs(name: str) -> str:
    """What the figure needs, in words."""
    return f"an arm whose {LABELS[name]} of each block was watched while it was trained"


def errors_of(members: Sequence[Point]) -> dict[str, Any]:
    """Median and range over seeds as columns."""
    errors = [point.value for point in members if point.value is not None]
    return {
        "seeds": len(members),
        "not_finite": len(members) - len(errors),
        "median": statistics.median(errors) if errors else None,
        "lowest": min(errors, default=None),
        "highest": max(errors, default=None),
    }


def _is_exact(members: Sequence[Row]) -> bool:
    return all(row["median"] == 0 for row in members)


def _looks(points: Sequence[Point]) -> dict[tuple[int, int], list[Point]]:
    found: dict[tuple[int, int], list[Point]] = {}
    for point in sorted(points, key=lambda point: (point.step, point.block or 0)):
        found.setdefault((point.step, point.block or 0), []).append(point)
    return found


def _drawn_steps(steps: Sequence[int]) -> list[int]:
    """Of the steps those that are drawn: all of a few, else some from the first to the last."""
    known = sorted(set(steps))
    if len(known) <= _SHOWN:
        return known
    return sorted({known[round(place * (len(known) - 1) / (_SHOWN - 1))] for place in range(_SHOWN)})


def _line(
    ax: Axes, axis: zero.ZeroAxis, members: Sequence[Row], shade: str, look: style.Look, *, zero_at: float
) -> None:
    """One look: what is above 0 as a line with a band, what is 0 as points in the strip."""
    above = [row for row in members if row["median"]]
    dots: dict[str, Any] = {"color": shade, "marker": look.marker, "markersize": 3}
    at = [row["block"] for row in above]
    ax.fill_between(
        at, [max(row["lowest"], axis.bottom) for row in above], [row["highest"] for row in above], color=shade,
        alpha=0.2, linewidth=0,
    )  # fmt: skip
    ax.plot(at, [row["median"] for row in above], linestyle="-", markevery=_every(at), **dots)
    zeros = [row["block"] for row in members if row["median"] == 0]
    ax.plot(zeros, [zero_at] * len(zeros), linestyle="none", **dots)
    lost = [row["block"] for row in members if row["median"] is None]
    if lost:
        top = [0.985] * len(lost)
        ax.plot(lost, top, transform=ax.get_xaxis_transform(), color=shade, marker=6, linestyle="none")
        mark_missing(ax, lost[-1], units.NOT_FINITE, style.ink(shade), lane=1)


def _legend(ax: Axes, steps: Sequence[int]) -> None:
    handles = [
        Line2D([], [], color=_shade(place, len(steps)), label=units.integer(step)) for place, step in enumerate(steps)
    ]
    ax.legend(
        handles=handles[::-1], loc="upper right", title="after steps", title_fontsize="small", alignment="right",
        handlelength=1.2,
    )  # fmt: skip


def _shade(place: int, count: int) -> str:
    """From light to dark as training goes on."""
    return style.ramp(1 - place / max(1, count - 1)).color


def _every(blocks: Sequence[int]) -> int:
    return max(1, -(-len(blocks) // _MARKS))


def _end(members: Sequence[Row], axis: zero.ZeroAxis) -> float:
    """The height at which the last look ends: of its topmost block with an error above 0."""
    last = max(row["step"] for row in members)
    above = [row for row in members if row["step"] == last and row["median"]]
    return float(max(above, key=lambda row: row["block"])["median"]) if above else axis.zero()


def _named(label: str) -> str:
    """On two lines, as there is little room beside the axes."""
    return label.replace(" (", "\n").removesuffix(")")


def _values(row: Row) -> list[float]:
    return [row[name] for name in ("median", "lowest", "highest") if row[name] is not None]
