"""The memory laws of two runs, compared: what a block adds, so that a leak in each shows where totals hide it.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import msgspec

from bench import comparison, law, parts
from bench.case import Case
from bench.comparison import Comparison, Measured, Verdict
from bench.tolerance import Tolerances

NOT_A_LINE: Final = "activation_bytes is no longer a straight line in depth"


def between(
    old_of: Mapping[Case, Measured], new_of: Mapping[Case, Measured], tolerances: Tolerances
) -> list[Comparison]:
    """A verdict on each law. What is no line has no slope to compare, and what no longer is one is worse."""
    return [
        _law(before, now, old_of, new_of, tolerances)
        for before, now in paired(old_of, new_of)
        if before.linear is not False
    ]


def lineless(old_of: Mapping[Case, Measured], new_of: Mapping[Case, Measured]) -> list[Case]:
    """The series of which there is no verdict, since their points lay on no line before."""
    return [before.series for before, _ in paired(old_of, new_of) if before.linear is False]


def paired(old_of: Mapping[Case, Measured], new_of: Mapping[Case, Measured]) -> list[tuple[law.Law, law.Law]]:
    """The memory law of each series before and after, fitted on either side to the depths that both have."""
    both = [
        (old, new)
        for case, old in old_of.items()
        if old.activation_bytes is not None
        and (new := new_of.get(case)) is not None
        and new.activation_bytes is not None
    ]
    after = {one.series: one for one in law.laws(new for _, new in both)}
    before = law.laws(old for old, _ in both)
    return [(one, now) for one in before if (now := after.get(one.series)) is not None and one.depths == now.depths]


def _law(
    old: law.Law, new: law.Law, old_of: Mapping[Case, Measured], new_of: Mapping[Case, Measured], tolerances: Tolerances
) -> Comparison:
    was, now = _bits(old), _bits(new)
    verdict: Verdict = "same"
    if new.linear is False:
        verdict = "worse"
    elif not tolerances.of("bits_per_activation").allows(was, now):
        verdict = "worse" if now > was else "better"
    moves: tuple[parts.Move, ...] = ()
    if verdict != "same":
        points = [msgspec.structs.replace(old.series, depth=depth) for depth in old.depths]
        moved = max(points, key=lambda case: _grown(old_of[case], new_of[case]))
        moves = comparison.moves(old_of[moved], new_of[moved], "activation_bytes")
    note = NOT_A_LINE if new.linear is False else ""
    return Comparison(
        old.series, "bits_per_activation", verdict, old.bits_per_activation, new.bits_per_activation, moves, note=note
    )


def _bits(fitted: law.Law) -> Fraction:
    return fitted.slope_bytes * 8 / fitted.stream_elements


def _grown(old: Measured, new: Measured) -> int:
    return abs((new.activation_bytes or 0) - (old.activation_bytes or 0))
