"""A logarithmic axis for errors that can also be exactly 0: a strip of its own below the decades.

A logarithmic axis has no 0, and a small stand-in such as 1e-16 would be a lie. So the axis ends at the lowest
decade there is; below it, after a break, lies a strip in which every point is exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from reports import units

_SHARE = 0.2
"""Of the axis' height, what the strip takes."""
_ALONE = 0.75
"""The same where no error is above 0: the strip is all there is to see."""
_EPSILON = -7
"""The lowest decade, as a power of 10, of an axis without any error above 0: that of fp32's rounding."""
_LABELS = 5
"""Decades that are labelled, at most."""


@dataclass(frozen=True)
class ZeroAxis:
    """Places errors on the y axis: those above 0 where they are, exact zeros in the strip."""

    bottom: float
    """The lowest decade."""
    top: float
    floor: float
    """The lower end of the strip; its upper end is `bottom`."""

    def zero(self, lane: int = 0, lanes: int = 1) -> float:
        """The height of an exact 0; `lanes` keep series apart that would hide one another."""
        share = 0.14 + 0.82 * (lane + 0.5) / lanes
        return float(self.bottom * (self.floor / self.bottom) ** share)

    def place(self, error: float) -> float:
        """The height of an error: its own, or the middle of the strip."""
        return error if error > 0 else self.zero()


def zero_axis(ax: Axes, errors: Sequence[float], *, headroom: float = 0.0) -> ZeroAxis:
    """Makes the y axis of `ax` logarithmic with a strip for exact zeros, wide enough for `errors`.

    `headroom`: decades to leave free at the top, for a legend."""
    above = [error for error in errors if error > 0]
    low = math.floor(math.log10(min(above))) if above else _EPSILON
    high = max(math.log10(max(above)) + 0.25, low + 1) if above else low + 1.0
    high += headroom
    share = _SHARE if above else _ALONE
    depth = (high - low) * share / (1 - share)
    axis = ZeroAxis(10.0**low, 10.0**high, 10.0 ** (low - depth))
    ax.set_yscale("log")
    ax.set_ylim(axis.floor, axis.top)
    step = max(1, math.ceil((math.floor(high) - low) / _LABELS))
    decades = range(low, math.floor(high) + 1, step)
    ax.yaxis.set_major_locator(FixedLocator([axis.zero(), *(10.0**decade for decade in decades)]))
    labels = [units.EXACT, *map(units.power_of_ten, decades)]
    ax.yaxis.set_major_formatter(FixedFormatter(labels))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.axhspan(axis.floor, axis.bottom * 10 ** (-0.12 * depth), color="0.94", linewidth=0, zorder=0)
    _break(ax, axis.bottom, axis.bottom * 10 ** (-0.12 * depth))
    return axis


def _break(ax: Axes, *heights: float) -> None:
    """Strokes across the left spine: the scale does not go on from here."""
    ax.plot(
        [0.0] * len(heights),
        heights,
        transform=ax.get_yaxis_transform(),
        linestyle="none",
        marker=[(-1, -0.4), (1, 0.4)],
        markersize=5,
        color="0.2",
        clip_on=False,
    )
