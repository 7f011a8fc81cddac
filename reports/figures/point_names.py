"""Names beside points, where they cover neither one another nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.transforms import Bbox

_POINTS_AN_INCH: Final = 72
_NEAR_POINTS: Final = 3.8
"""From the middle of a marker to a name beside it."""
_MARKER_POINTS: Final = 3.4
"""Half of what a marker takes."""
_FAR: Final = (1.0, 2.6, 4.2)
"""How many times as far a name may be moved where there is no room."""
_Place = tuple[float, float, Literal["left", "center", "right"], Literal["bottom", "center", "top"]]
"""How far to the right and up, in units of that distance, and which side of the name is there."""
_PLACES: Final[tuple[_Place, ...]] = (
    (-0.9, 0.9, "right", "bottom"),
    (0.9, -0.9, "left", "top"),
    (0.9, 0.9, "left", "bottom"),
    (-0.9, -0.9, "right", "top"),
    (1.2, 0.0, "left", "center"),
    (-1.2, 0.0, "right", "center"),
    (0.0, 1.2, "center", "bottom"),
    (0.0, -1.2, "center", "top"),
)
_CHOICES: Final = [(far, place) for far in _FAR for place in _PLACES]
_BEFORE: Final = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
"""The share of a name that lies before the place it is aligned with."""
_LOOK: Final[dict[str, Any]] = {
    "fontsize": "small", "color": "0.35", "zorder": 4,
    "arrowprops": {"arrowstyle": "-", "color": "0.6", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2},
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A point in the units of the axes, and its name; without one it only stands in others' way."""

    x: float
    y: float
    name: str = ""


def name_points(ax: Axes, points: Sequence[Point]) -> None:
    """Writes the names, each where it covers least: above and to the left of its point if it can be, further off with a
    line to it where all around it is taken.

    Limits, scales and whatever stands beside the axes must be final."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    ConstrainedLayoutEngine().execute(figure)  # as it will be when the figure is saved: the size of the axes counts
    scale = figure.dpi / _POINTS_AN_INCH
    half = _MARKER_POINTS * scale
    at = [ax.transData.transform((point.x, point.y)) for point in points]
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in at]
    room = ax.get_window_extent()
    for point, (x, y) in zip(points, at, strict=True):
        if not point.name:
            continue
        text = ax.annotate(point.name, xy=(point.x, point.y), textcoords="offset points", xytext=(0, 0), **_LOOK)
        text.set_in_layout(False)  # or the axes would be of another size than names were placed for
        size = Text.get_window_extent(text)  # without the line
        found: list[tuple[float, int, Bbox, tuple[float, float], _Place]] = []
        for far, place in _CHOICES:
            right, up = far * _NEAR_POINTS * place[0], far * _NEAR_POINTS * place[1]
            left = x + right * scale - size.width * _BEFORE[place[2]]
            low = y + up * scale - size.height * _BEFORE[place[3]]
            box = Bbox.from_bounds(left, low, size.width, size.height)
            found.append((_cost(box, taken, room), len(found), box, (right, up), place))
        _, rank, box, offset, (_, _, horizontal, vertical) = min(found, key=lambda one: one[:2])
        text.set_position(offset)
        text.set_horizontalalignment(horizontal)
        text.set_verticalalignment(vertical)
        if rank < len(_PLACES) and text.arrow_patch is not None:
            text.arrow_patch.set_visible(False)
        taken.append(box)


def _cost(box: Bbox, taken: Sequence[Bbox], room: Bbox) -> float:
    """Square pixels of what is covered, and of what lies outside the axes."""
    inside = Bbox.intersection(box, room)
    outside = box.width * box.height - (0.0 if inside is None else inside.width * inside.height)
    common = (Bbox.intersection(box, other) for other in taken)
    return outside + sum(one.width * one.height for one in common if one is not None)
