"""Names beside points: each near its own, none over another."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from reports.figures.point_names import Point, name_points


def boxes(points: list[Point]) -> tuple[list[Annotation], list[Bbox]]:
    """The names as drawn, and what each covers."""
    figure = Figure(figsize=(3.25, 2.4), dpi=100)
    ax = figure.add_subplot()
    ax.set_xlim(0, 10)
    ax.set_ylim(0, 10)
    name_points(ax, points)
    figure.draw_without_rendering()
    names = [text for text in ax.texts if isinstance(text, Annotation)]
    return names, [Text.get_window_extent(text) for text in names]


@pytest.mark.parametrize("seed", range(5))
def test_names_do_not_cover_one_another(seed: int) -> None:
    """A dozen points in disorder, some of them close together."""
    draw = random.Random(seed)
    points = [Point(draw.uniform(2, 8), draw.uniform(2, 8), f"m {number}") for number in range(12)]
    names, found = boxes(points)
    assert [name.get_text() for name in names] == [point.name for point in points]
    assert all(Bbox.intersection(one, other) is None for one, other in combinations(found, 2))


def test_a_name_stands_above_and_to_the_left_where_it_can() -> None:
    """Of a point alone, and without a line to it."""
    (name,), _ = boxes([Point(5, 5, "keep 6")])
    assert (name.get_horizontalalignment(), name.get_verticalalignment()) == ("right", "bottom")
    assert name.arrow_patch is not None
    assert not name.arrow_patch.get_visible()


def test_points_without_a_name_are_not_covered_either() -> None:
    """They take room, and no text."""
    crowd = [Point(5 + dx / 4, 5 + dy / 4) for dx in (-2, -1, 0, 1, 2) for dy in (-2, -1, 0, 1, 2) if dx or dy]
    (name,), _ = boxes([*crowd, Point(5, 5, "m 2")])
    assert name.arrow_patch is not None
    assert name.arrow_patch.get_visible()
