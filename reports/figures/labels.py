"""Text in the figures: labels beside the ends of lines, marks of cases without a number, plain ticks."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from reports import units

_POINTS_AN_INCH = 72
_LINE_POINTS = 9.5
"""Height of a line of small text, with the space around it."""
_KEY_POINTS = 24.0
"""Width of what stands before an entry of a legend, and of the space between two columns."""
_LETTER_POINTS = 3.6
"""Width of a letter of it, on average."""
_MARGIN_POINTS = 32.0
"""Of a figure's width, what is beside its axes."""
_DIGIT_POINTS = 4.5
"""Width of a digit of small text."""


@dataclass(frozen=True)
class EndLabel:
    """What stands beside the end of a line, at height `y` in the units of the axis."""

    y: float
    text: str
    color: str


def label_ends(ax: Axes, labels: Sequence[EndLabel], *, below: str = "") -> None:
    """Writes `labels` to the right of the axes, each at its height or as near as the others allow, and what they
    have in common `below`, in line with the label of the x axis.

    The limits of the axis must be final."""
    if not labels:
        return
    ordered = sorted(labels, key=lambda label: label.y)
    to_axes = ax.transData + ax.transAxes.inverted()
    wanted = [float(to_axes.transform((ax.get_xlim()[1], label.y))[1]) for label in ordered]
    gap = line_share(ax) * max(label.text.count("\n") + 1 for label in labels)
    for label, height, place in zip(ordered, wanted, _spread(wanted, gap), strict=True):
        ax.plot(
            [1.005, 1.025], [height, place], transform=ax.transAxes, color=label.color, linewidth=0.5, clip_on=False
        )
        ax.annotate(
            label.text,
            xy=(1.035, place),
            xycoords="axes fraction",
            fontsize="small",
            color=label.color,
            verticalalignment="center",
            annotation_clip=False,
        )
    if not below:
        return
    ax.annotate(
        below,
        xy=(1.035, 0),
        xycoords="axes fraction",
        xytext=(0, -2.25 * _LINE_POINTS),
        textcoords="offset points",
        fontsize="small",
        color="0.35",
        verticalalignment="center",
        annotation_clip=False,
    )


def mark_missing(ax: Axes, x: float, text: str, color: str, lane: int) -> None:
    """Says at the top of the axes, at `x`, why there is no point: `oom`, `timeout`. Marks that would cover one
    another go into lanes, the first topmost.

    The limits of the x axis must be final, and `x` within them."""
    across = float((ax.transData + ax.transAxes.inverted()).transform((x, ax.get_ylim()[1]))[0])
    mark = ax.annotate(
        text,
        xy=(x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, -_LINE_POINTS * (lane + 0.5)),
        textcoords="offset points",
        fontsize="small",
        color=color,
        # Towards the middle of the axes, where there is room for up to two thirds of their width.
        horizontalalignment="left" if across < 1 / 3 else "center" if across < 2 / 3 else "right",
        verticalalignment="center",
    )
    # A long mark may reach beyond the axes; the layout must not shrink them for that.
    mark.set_in_layout(False)


def name_setting(ax: Axes, setting: str) -> None:
    """Says above the axes which of several settings is drawn; nothing where there is only one."""
    if setting:
        ax.set_title(setting, loc="left", fontsize="small", color="0.35")


def legend_above(ax: Axes, setting: str) -> None:
    """A legend above the axes, where it covers no data, in as few rows as its width allows. Its title says which of
    several `setting`s is drawn."""
    labels = ax.get_legend_handles_labels()[1]
    figure = ax.get_figure(root=True)
    columns = legend_columns(labels, figure.get_figwidth() if isinstance(figure, Figure) else 3.0)
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.4,
        handlelength=1.8,
        title=setting or None,
        title_fontsize="small",
        alignment="left",
    )


def legend_columns(labels: Collection[str], width: float) -> int:
    """How many columns `legend_above` takes for these labels in a figure so many inches wide."""
    taken = _KEY_POINTS + _LETTER_POINTS * max(map(len, labels), default=0)
    room = int((width * _POINTS_AN_INCH - _MARGIN_POINTS) // taken)
    return max(1, min(2 if len(labels) in (2, 4) else 3, room))


def plain_log_ticks(ax: Axes, which: str) -> None:
    """Ticks of a logarithmic `x` or `y` axis as plain numbers, the more within a decade the fewer it spans."""
    axis, limits = (ax.xaxis, ax.get_xlim()) if which == "x" else (ax.yaxis, ax.get_ylim())
    span = limits[1] / limits[0]
    within = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if span < 8 else (1.0, 2.0, 5.0) if span < 200 else (1.0,)
    axis.set_major_locator(LogLocator(10, subs=within, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: units.tick(value)))
    axis.set_minor_formatter(NullFormatter())
    if span < 200:
        axis.set_minor_locator(NullLocator())


def value_ticks(ax: Axes, values: Sequence[int], *, logarithmic: bool) -> None:
    """The x axis from the smallest to the largest of `values`, whether or not a line reaches them, with a tick at
    each and nowhere else. Where labels would cover one another, the largest is kept."""
    margin = ax.get_xmargin()
    low, high = min(values), max(values)
    if logarithmic:
        ax.set_xscale("log", base=2)
        ax.set_xlim(low * (low / high) ** margin, high * (high / low) ** margin)
    else:
        ax.set_xlim(low - margin * (high - low), high + margin * (high - low))
    texts = [units.integer(value) for value in values]
    ax.xaxis.set_major_locator(FixedLocator([float(value) for value in values]))
    ax.xaxis.set_major_formatter(FixedFormatter(_thinned(ax, values, texts)))
    ax.xaxis.set_minor_locator(NullLocator())


def evenly_spread(values: Sequence[int]) -> bool:
    """Whether `values` spread over enough of a range to be read better on a logarithmic axis."""
    return len(values) > 2 and min(values) > 0 and max(values) / min(values) >= 4


def line_share(ax: Axes) -> float:
    """About the height of a line of text as a share of the height of the axes."""
    figure = ax.get_figure(root=True)
    inches = figure.get_figheight() if isinstance(figure, Figure) else 2.0
    # Before the layout is run, the axes are taller than they will be by the room for labels and title.
    return _LINE_POINTS / _POINTS_AN_INCH / max(0.3, ax.get_position().height * inches * 0.9)


def _thinned(ax: Axes, values: Sequence[int], texts: Sequence[str]) -> list[str]:
    """The labels `texts` of ticks at `values` in ascending order, those empty that would touch the next one shown."""
    figure = ax.get_figure(root=True)
    inches = figure.get_figwidth() if isinstance(figure, Figure) else 3.0
    # Before the layout is run, the axes are wider than they will be by the room for the labels at their sides.
    points = ax.get_position().width * inches * 0.75 * _POINTS_AN_INCH
    to_axes = ax.transData + ax.transAxes.inverted()
    shown: list[str] = []
    edge = math.inf
    for value, text in reversed(list(zip(values, texts, strict=True))):
        middle = float(to_axes.transform((value, ax.get_ylim()[0]))[0]) * points
        width = len(text) * _DIGIT_POINTS
        fits = middle + width / 2 <= edge
        shown.append(text if fits else "")
        edge = middle - width / 2 - _DIGIT_POINTS / 2 if fits else edge
    return shown[::-1]


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places at least `gap` apart in the order of `wanted`, as near to them as a few rounds of pushing get."""
    places = list(wanted)
    for _ in range(200):
        moved = False
        for low in range(len(places) - 1):
            overlap = gap - (places[low + 1] - places[low])
            if overlap > 1e-6:
                places[low] -= overlap / 2
                places[low + 1] += overlap / 2
                moved = True
        if not moved:
            break
    return places
