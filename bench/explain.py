"""Which part of the memory moved between two runs, in which blocks, and what most of the cases have in common.

Pure functions over two lists of records or of a baseline's entries. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench import axes, law, parts, private, slopes
from bench.axes import AxisValue, suggest
from bench.case import Case
from bench.comparison import Measured, breakdown, by_case, moves, size
from bench.errors import UsageError
from bench.parts import Move, PartName, Parts

Explained = Literal["activation_bytes", "peak_bytes"]
METRICS: Final[tuple[Explained, ...]] = ("activation_bytes", "peak_bytes")
"""The figures that are broken down into parts."""

Where = Literal["whole", "every", "all but one", "same", "some"]


@dataclass(frozen=True)
class Change:
    """One figure of one case that moved, in all or in its parts."""

    case: Case
    metric: Explained
    old: int
    new: int
    moves: tuple[Move, ...]
    """The largest first."""
    parts: tuple[Parts, Parts] | None
    """Its breakdown before and after; None where a side has none, so that what moved is not known."""

    @property
    def bytes(self) -> int:
        """By how much."""
        return self.new - self.old

    @property
    def main(self) -> Move | None:
        """The move that accounts for most of the change, in its direction."""
        along = [move for move in self.moves if move.bytes * self.bytes > 0]
        return next(iter(along or self.moves), None)


@dataclass(frozen=True)
class Culprit:
    """The part that moved most, and one way, in most of the cases that changed."""

    part: PartName
    methods: tuple[str, ...]
    where: Where
    """In no block in particular, in every block that holds it, in all blocks but one, in the same blocks of each case
    (`moves` names them), or in some."""
    moves: tuple[Move, ...]
    """Of that part, in all the cases."""
    cases: int
    """In how many it moved most."""
    changed: int
    """Of how many that changed and have a breakdown."""


@dataclass(frozen=True)
class Explanation:
    """What moved between two runs."""

    changes: tuple[Change, ...]
    """Cases and metrics that moved; the same ones are only counted."""
    same: int
    blind: int
    """Of the changes, those of which a side has no breakdown."""
    unmatched: int
    """Cases that one side alone has measured."""
    laws: tuple[tuple[law.Law, law.Law], ...]
    """The memory laws that changed, before and after."""
    culprit: Culprit | None


def metrics(name: str | None) -> tuple[Explained, ...]:
    """What `--metric NAME` asks for: one metric, or both where it is not given.

    Raises: UsageError for one that has no parts.
    """
    found = tuple(metric for metric in METRICS if name in (None, metric))
    if not found:
        raise UsageError(f"--metric {name!r}{suggest(str(name), METRICS)}")
    return found


def chosen(
    given: Mapping[str, str], base: Iterable[Measured], head: Iterable[Measured]
) -> tuple[list[Measured], list[Measured]]:
    """The cases of both sides whose axes have one of the `given` values, as texts by axis.

    Raises: UsageError for a text that is none of its axis, and where no case is left.
    """
    wanted = {name: _stored(name, axes.parse(name, text)) for name, text in given.items()}
    sides = [list(base), list(head)]
    kept = [[one for one in side if _within(one.case(), wanted)] for side in sides]
    if not any(kept):
        options = " ".join(f"{axes.get(name).option} {text}" for name, text in given.items())
        held = {
            name: sorted({str(getattr(one.case(), name)) for side in sides for one in side}, key=_by_size)
            for name in given
        }
        values = "; ".join(f"{name} {', '.join(found)}" for name, found in held.items())
        raise UsageError(f"{options}: no case has it; there are {values}")
    return kept[0], kept[1]


def explain(base: Iterable[Measured], head: Iterable[Measured], metrics: Sequence[Explained] = METRICS) -> Explanation:
    """What moved from `base` to `head`. Where a case occurs twice, the last counts."""
    old_of, new_of = by_case(base), by_case(head)
    found: list[Change] = []
    pairs = 0
    matched: set[Case] = set()
    for case, old in old_of.items():
        for metric in metrics if case in new_of else ():
            change = _change(case, metric, old, new_of[case])
            if change is not None:
                pairs += 1
                matched.add(case)
                found += [change] if change.bytes or change.moves else []
    return Explanation(
        changes=tuple(found),
        same=pairs - len(found),
        blind=sum(change.parts is None for change in found),
        unmatched=len((old_of.keys() | new_of.keys()) - matched),
        laws=tuple(
            (before, after)
            for before, after in slopes.paired(old_of, new_of)
            if (before.slope_bytes, before.deviation_bytes) != (after.slope_bytes, after.deviation_bytes)
        ),
        culprit=_culprit(found),
    )


def case_to_trace(
    found: Explanation, head: Sequence[Measured], metrics: Sequence[Explained], *, picked: bool
) -> tuple[Measured, Explained] | None:
    """What `--stacks` runs again, and which of its peaks it tells: what moved most or, where nothing did, the last case
    of `head` that has been measured, if cases were `picked`, and else None.

    Raises: UsageError where `head` has none.
    """
    of = {one.case(): one for one in head if one.status == "ok" and one.activation_bytes is not None}
    moved = [change for change in found.changes if change.case in of]
    if moved:
        # A peak contains the activations, so what moved these is told first.
        most = min(moved, key=lambda change: (METRICS.index(change.metric), -abs(change.bytes)))
        return of[most.case], most.metric
    if not of:
        raise UsageError("--stacks: no case of HEAD has its memory measured, so there is none to run again")
    if not picked:
        return None
    return list(of.values())[-1], metrics[0]


def _change(case: Case, metric: Explained, old: Measured, new: Measured) -> Change | None:
    was, now = size(old, metric), size(new, metric)
    before, after = breakdown(old, metric), breakdown(new, metric)
    if was is None or now is None:
        return None
    if before is None or after is None:
        return Change(case, metric, was, now, (), None)
    return Change(case, metric, was, now, moves(old, new, metric), (before, after))


def _culprit(changes: Sequence[Change]) -> Culprit | None:
    told = [change for change in changes if change.main is not None]
    # A peak contains the activations, so where both are told of one case it is the activations that count.
    first: dict[Case, Change] = {}
    for change in told:
        first.setdefault(change.case, change)
    alike: dict[tuple[PartName, bool], list[Change]] = {}
    for change in first.values():
        assert change.main is not None
        alike.setdefault((change.main.part, change.main.bytes > 0), []).append(change)
    if not alike:
        return None
    (part, _), blamed = max(alike.items(), key=lambda item: (len(item[1]), sum(abs(one.bytes) for one in item[1])))
    moves = [[move for move in change.moves if move.part == part and _along(move, change)] for change in blamed]
    return Culprit(
        part=part,
        methods=tuple(dict.fromkeys(change.case.method for change in blamed)),
        where=_where(part, blamed, moves),
        moves=tuple(move for found in moves for move in found),
        cases=len(blamed),
        changed=len(first),
    )


def _along(move: Move, change: Change) -> bool:
    """Whether the part moved the way its case's main move did."""
    return change.main is not None and move.bytes * change.main.bytes > 0


def _where(part: PartName, changes: Sequence[Change], moves: Sequence[Sequence[Move]]) -> Where:
    if all(move.first is None for found in moves for move in found):
        return "whole"
    left = []
    for change, found in zip(changes, moves, strict=True):
        assert change.parts is not None
        moved = {block for move in found for block in _blocks(move)}
        held = {block for side in change.parts for name, block in parts.flat(side) if name == part}
        left.append(len(held - moved))
    if not any(left):
        return "every"
    if len({tuple((move.first, move.last) for move in found) for found in moves}) == 1:
        return "same"
    return "all but one" if all(count <= 1 for count in left) else "some"


def _blocks(move: Move) -> range:
    return range(0) if move.first is None or move.last is None else range(move.first, move.last + 1)


def _stored(name: str, values: Iterable[AxisValue]) -> set[AxisValue]:
    """The values of an axis as records have them."""
    return {private.name(str(value)) if name in ("method", "model") else value for value in values}


def _within(case: Case, wanted: Mapping[str, set[AxisValue]]) -> bool:
    return all(getattr(case, name) in values for name, values in wanted.items())


def _by_size(text: str) -> tuple[bool, int, str]:
    """Numbers by size, before words."""
    return (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)
