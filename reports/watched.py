"""What watches saw of an inverse as arms were trained: the arm's own, or BDIA's at the weights of another arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bdia.methods import METHODS
from bench.curves import Point
from reports.arms import Arm, usual

NAIVE: Final = "_naive"
"""What the names of curves by eq. 16 end with, where they stand beside the arm's own."""
_STANDING_IN: Final = (("bdia-naive", NAIVE), ("bdia", ""))
"""BDIA's inverses, which a watch looks at where the arm's method does not rebuild, and the ends of their names."""
EQUATIONS: Final = {"bdia-naive": "eq. 16", "bdia": "eq. 24"}


@dataclass(frozen=True)
class Series:
    """One inverse at the weights of one arm."""

    arm: Arm
    method: str
    """Whose inverse it is."""
    name: str
    """Of the curve."""

    @property
    def own(self) -> bool:
        """Whether the arm was trained by it."""
        return self.method == self.arm.method

    @property
    def label(self) -> str:
        """The arm, and by which equation it is inverted where that is one of BDIA's."""
        equation = EQUATIONS.get(self.method)
        return self.arm.name if equation is None else f"{self.arm.name} ({'' if self.own else 'by '}{equation})"

    def points(self, *, blocks: bool) -> list[Point]:
        """Of the whole model, or of its blocks."""
        return self.arm.points(self.name, blocks=blocks)


def series(found: Sequence[Arm], name: str, *, blocks: bool) -> list[Series]:
    """The inverses that the curve `name` was watched of: of each arm that rebuilds its own; and those of BDIA that no
    arm was trained by at the weights of one, an arm of BDIA's where there is one."""
    reversible = {method.name for method in METHODS if method.reversible}
    known = {method.name for method in METHODS}
    own = [
        Series(arm, arm.method, name)
        for arm in found
        if (arm.method in reversible or arm.method not in known) and arm.points(name, blocks=blocks)
    ]
    covered = {one.method for one in own}
    for method, suffix in _STANDING_IN:
        watched = [arm for arm in found if arm.points(name + suffix, blocks=blocks)]
        if method not in covered and watched:
            arm = max(watched, key=lambda arm: (arm.method == "bdia", arm.method.startswith("bdia"), usual(arm)))
            own.append(Series(arm, method, name + suffix))
    return own


def one_each(found: Sequence[Series]) -> list[Series]:
    """Of each inverse one: of several arms the one with its name, or the paper's γ and l, or the first."""
    by_method: dict[str, list[Series]] = {}
    for one in found:
        by_method.setdefault(one.method, []).append(one)
    return [max(members, key=lambda one: usual(one.arm)) for members in by_method.values()]
