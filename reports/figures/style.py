"""The house style: sizes for a column of a paper, and one colour, marker and line a method in every figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from bench import resolve

COLUMN = (3.25, 2.2)
"""Inches: one column of a two-column page."""
PAGE = (6.75, 2.3)
"""Inches: both of them."""

HOUSE: Mapping[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    # A name with dollars in it is a name, and no formula.
    "text.parse_math": False,
    "font.size": 8.4,  # so that "small", of which every annotation is, comes to 7 points
    "axes.labelsize": 8,
    "axes.titlesize": 7,
    "axes.titlepad": 4,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "lines.markeredgewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.borderaxespad": 0.2,
    "legend.labelspacing": 0.25,
    "figure.dpi": 100,
    "savefig.dpi": 300,
}

# Okabe and Ito's palette, which stays apart under the common forms of colour blindness. Its yellow is left out:
# it is too faint for a line on white paper.
_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_BLUE, _VERMILLION, _PURPLE, _GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"


@dataclass(frozen=True)
class Look:
    """How one method is drawn. Colour, marker and line each tell it apart, so that print in grey will do."""

    color: str
    marker: str
    line: Any
    """As matplotlib takes it: a name, or an offset and lengths of dashes and gaps."""

    @property
    def ink(self) -> str:
        """The colour darkened for text, which needs more contrast than a line."""
        return ink(self.color)


_LOOKS: Mapping[str, Look] = {
    "standard": Look(_BLACK, "s", "-"),
    "checkpoint": Look(_ORANGE, "^", (0, (4, 1.5))),
    "checkpoint-segments": Look(_ORANGE, "<", (0, (1, 1.2))),
    "checkpoint-selective": Look(_ORANGE, "d", "-"),
    "offload": Look(_GREY, "p", (0, (4, 1.5))),
    "standard-quantised": Look(_BLACK, "*", (0, (1, 1.2))),
    "bdia-stored": Look(_SKY, "D", (0, (1, 1.2))),
    "bdia-unquantised": Look(_GREEN, "P", (0, (3, 1, 1, 1, 1, 1))),
    "bdia-naive": Look(_VERMILLION, "v", (0, (5, 1.2, 1, 1.2))),
    "bdia": Look(_BLUE, "o", "-"),
    "two-stream": Look(_PURPLE, "X", (0, (4, 1.5))),
    "momentum": Look(_PURPLE, ">", (0, (1, 1.2))),
    "leapfrog": Look(_GREEN, "<", (0, (5, 1.2, 1, 1.2))),
    "leapfrog-exact": Look(_GREEN, "H", "-"),
    "peer-revlib": Look(_GREY, "s", "-"),
    "peer-revtorch": Look(_PURPLE, "D", "-"),
    "peer-memcnn": Look(_SKY, "v", "-"),
    "peer-momentumnet": Look(_VERMILLION, ">", "-"),
    "hf-checkpoint": Look(_ORANGE, "P", (0, (5, 1.2, 1, 1.2))),
}
_OTHERS = (
    Look(_PURPLE, "P", (0, (5, 1.2, 1, 1.2))),
    Look(_GREY, "h", (0, (1, 1.2))),
    Look(_GREEN, "<", (0, (5, 1.2, 1, 1.2))),
    Look(_PURPLE, ">", "-"),
    Look(_GREY, "p", (0, (4, 1.5))),
)
_VARIANTS = 3
"""Arms of one method that have looks of their own, at most."""
_RAMP = "viridis"
_MARKERS = "osv^Dph<>"


def ink(color: str) -> str:
    """`color` darkened for text, which needs more contrast than a line."""
    red, green, blue = to_rgb(color)
    # Luminance of sRGB, by the weights of its primaries: sky blue and orange are the light ones.
    shade = 0.65 if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.5 else 0.9
    return to_hex((red * shade, green * shade, blue * shade))


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The look of each of `methods`. Those of the table keep theirs in every figure; others get the next free ones
    in the order of their names."""
    found = set(methods)
    others = sorted(found - _LOOKS.keys())
    free = {name: _OTHERS[number % len(_OTHERS)] for number, name in enumerate(others)}
    known = {name: _LOOKS[name] for name in resolve.names() if name in found & _LOOKS.keys()}
    return known | free


def arm_looks(arms: Sequence[tuple[str, str]]) -> dict[str, Look]:
    """The look of each arm, given by its name and its method. The first of a method has the method's; the others have
    looks of their own, and of a long sweep all are of one ramp of colours."""
    own = looks(method for _, method in arms)
    found: dict[str, Look] = {}
    for method in own:
        names = [name for name, other in arms if other == method]
        if len(names) > _VARIANTS:
            found |= {name: ramp(place / (len(names) - 1), place) for place, name in enumerate(names)}
            continue
        taken = {look.color for look in (*own.values(), *found.values())}
        free = [look for look in _OTHERS + tuple(_LOOKS.values()) if look.color not in taken] or list(_OTHERS)
        found[names[0]] = own[method]
        found |= {name: free[place % len(free)] for place, name in enumerate(names[1:])}
    return {name: found[name] for name, _ in arms}


def ramp(place: float, number: int = 0) -> Look:
    """The look at a place from 0 to 1 of a ramp from dark to light, which print in grey keeps in order."""
    return Look(to_hex(matplotlib.colormaps[_RAMP](0.05 + 0.8 * place)), _MARKERS[number % len(_MARKERS)], "-")


@contextmanager
def axes(ax: Axes | None, size: tuple[float, float] = COLUMN) -> Iterator[Axes]:
    """The axes to draw into: `ax` as it is or, without one, those of a new figure in the house style."""
    if ax is not None:
        yield ax
        return
    with matplotlib.rc_context(dict(HOUSE)):
        yield Figure(figsize=size, layout="constrained").add_subplot()
