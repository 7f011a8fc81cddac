"""Several panels in the place of one axes, beside one another or one above the other, with one legend above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.errors import UsageError
from reports.figures import style
from reports.figures.labels import legend_columns

_ROW_POINTS = 10.5
"""The height of a row of the legend."""
_POINTS_AN_INCH = 72
_SQUEEZE = 0.66
"""Of a figure's height, what is left to its panels beside their labels."""


def beside(ax: Axes, count: int, looks: Mapping[str, style.Look], setting: str = "") -> list[Axes]:
    """`count` panels side by side in the place of `ax`, which stays as their empty frame.

    Raises: UsageError where `ax` is part of no grid."""
    return _split(ax, [1.0], [1.0] * count, looks, setting)


def stacked(ax: Axes, heights: Sequence[float], looks: Mapping[str, style.Look], setting: str = "") -> list[Axes]:
    """Panels from top to bottom in the place of `ax`, with relative heights and one x axis, told below the lowest.

    Raises: UsageError where `ax` is part of no grid."""
    return _split(ax, heights, [1.0], looks, setting)


def legend_rows(looks: Mapping[str, style.Look], width: float, setting: str = "") -> int:
    """How many rows the legend takes in a figure so many inches wide, its title among them."""
    return -(-len(looks) // _columns(looks, width)) + bool(setting) if looks else bool(setting)


def legend_inches(looks: Mapping[str, style.Look], width: float, setting: str = "") -> float:
    """The height that the legend takes."""
    return legend_rows(looks, width, setting) * _ROW_POINTS / _POINTS_AN_INCH


def _columns(looks: Mapping[str, style.Look], width: float) -> int:
    # `legend_columns` is of a column of a page, and goes no further than three.
    wide = width > 1.5 * style.COLUMN[0]
    columns = legend_columns(list(looks), style.COLUMN[0]) * (2 if wide else 1)
    return max(1, min(len(looks), columns))


def _split(
    ax: Axes, heights: Sequence[float], widths: Sequence[float], looks: Mapping[str, style.Look], setting: str
) -> list[Axes]:
    spec, figure = ax.get_subplotspec(), ax.get_figure()
    if spec is None or figure is None:
        raise UsageError("a figure of several panels needs axes of a grid: give figure.add_subplot(), or none")
    ax.set_axis_off()
    whole = figure if isinstance(figure, Figure) else figure.get_figure(root=True)
    inches = whole.get_size_inches() if isinstance(whole, Figure) else style.COLUMN
    top = legend_inches(looks, float(inches[0]), setting)
    rest = max(0.5, _SQUEEZE * (float(inches[1]) - top))
    shares = [top, *(rest * height / sum(heights) for height in heights)] if top else [*heights]
    grid = spec.subgridspec(len(shares), len(widths), height_ratios=shares, width_ratios=list(widths))
    if top:
        _legend(figure.add_subplot(grid[0, :]), looks, float(inches[0]), setting)
    first = int(bool(top))
    found: list[Axes] = []
    for row in range(first, len(shares)):
        for column in range(len(widths)):
            shared = found[0] if len(heights) > 1 and found else None
            found.append(figure.add_subplot(grid[row, column], sharex=shared))
    if len(heights) > 1:
        for panel in found[:-1]:
            panel.tick_params(axis="x", labelbottom=False)
        if isinstance(whole, Figure):
            whole.align_ylabels(found)
    return found


def _legend(ax: Axes, looks: Mapping[str, style.Look], width: float, setting: str) -> None:
    ax.set_axis_off()
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle=look.line, label=name)
        for name, look in looks.items()
    ]
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=_columns(looks, width),
        columnspacing=1.2,
        handletextpad=0.4,
        handlelength=1.8,
        borderpad=0.0,
        borderaxespad=0.0,
        title=setting or None,
        title_fontsize="small",
        alignment="left",
    ).set_in_layout(False)
