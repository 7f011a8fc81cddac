"""What `explain` shows: the parts and blocks that moved, case by case, and the culprit in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench import law, words
from bench.explain import Change, Culprit, Explanation
from bench.parts import Move
from reports import settings, units, values
from reports.frame import grid_order, method_rank
from reports.sheets import Cell, Column, Line, Sheet, Tone

SHOWN: Final = 40
"""Changes that one table shows."""
PLACES: Final = 8
"""Moves that are shown of one change."""
_VISIBLE: Final = 0.05
"""A part that changed by a smaller share is told in bytes, not in times."""


def sheet(found: Explanation) -> Sheet | None:
    """Each case that moved and, below it, each of its figures that did, with the parts that it moved by: bytes before
    and after, and their share of the change. None where nothing moved."""
    if not found.changes:
        return None
    ordered = sorted(found.changes, key=lambda change: grid_order(change.case))
    shown = ordered[:SHOWN]
    rows = [msgspec.structs.asdict(change.case) for change in shown]
    axes = settings.varying(rows)
    lines: list[Line] = []
    for number, change in enumerate(shown):
        above = shown[number - 1] if number and shown[number - 1].case == change.case else None
        if above is None:
            lines.append(_words(settings.which(rows[number], axes), opens=True))
        lines += _lines(change, above)
    notes = [f"{len(ordered) - SHOWN} more not shown; pick cases with --method, --depth, …"] if ordered[SHOWN:] else []
    return Sheet(
        title=settings.sentence(rows),
        columns=(
            Column("what moved", numeric=False),
            Column("bytes"),
            Column("→ head"),
            Column("change"),
            Column("share"),
        ),
        lines=tuple(lines),
        notes=tuple(notes),
        legend=("bytes: of a part that lies in blocks, in each of them", "share: of the change of the whole figure"),
    )


def lines(found: Explanation, sides: str) -> Iterator[str]:
    """The memory laws that changed, what cannot be told, and the culprit; `sides` names what was compared."""
    series = [before.series for before, _ in found.laws]
    axes = settings.varying([msgspec.structs.asdict(case) for case in series])
    for before, after in found.laws:
        which = settings.which(msgspec.structs.asdict(before.series), axes)
        yield f"{which}: {_law(before)} → {_law(after)} bits per activation and block{_floor(after)}"
    if found.blind:
        blind = f"{found.blind} of {words.counted(len(found.changes), 'change')}"
        yield f"{blind} cannot be located: a side has no breakdown, as records of older versions; measure it again"
    if found.unmatched:
        yield f"{units.cases(found.unmatched)} measured on one side alone"
    counted = f"{len(found.changes)} moved, {found.same} the same"
    if found.culprit is not None:
        yield f"{sides}: {counted}. {culprit(found.culprit)}"
    elif found.changes:
        yield f"{sides}: {counted}"
    else:
        yield f"{sides}: nothing moved, {found.same} the same" if found.same else f"{sides}: nothing to compare"


def culprit(found: Culprit) -> str:
    """`side_bits grew 8.00× in every block of bdia (3 of 3 cases that changed)`."""
    methods = ", ".join(sorted(found.methods, key=method_rank))
    place = f"with {methods}" if found.where == "whole" else f"{_place(found)} of {methods}"
    return f"{found.part} {_how(found.moves)} {place} ({found.cases} of {units.cases(found.changed)} that changed)"


def _how(moves: Sequence[Move]) -> str:
    """What became of the part, over all its moves: in times where that shows, else in bytes."""
    each = " a block" if any(move.first is not None for move in moves) else ""
    grew = moves[0].bytes > 0
    if all(move.old == 0 for move in moves):
        return f"is new, {_span([move.new for move in moves])}{each},"
    if all(move.new == 0 for move in moves):
        return f"is gone, {_span([move.old for move in moves])}{each},"
    if all(move.old > 0 and abs(move.new - move.old) >= _VISIBLE * move.old for move in moves):
        ratios = [move.new / move.old for move in moves]
        low, high = units.ratio(min(ratios)), units.ratio(max(ratios))
        return f"{'grew' if grew else 'shrank to'} {low if low == high else f'{low} to {high}'}"
    by = _span([abs(move.new - move.old) for move in moves])
    return f"{'grew' if grew else 'shrank'} by {by}{each}"


def _span(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    ends = units.integer(low) if low == high else f"{units.integer(low)} to {units.integer(high)}"
    return f"{ends} byte{'' if high == 1 else 's'}"


def _place(found: Culprit) -> str:
    if found.where == "every":
        return "in every block"
    if found.where == "all but one":
        return "in every block but one"
    if found.where == "some":
        return "in some blocks"
    ranges = dict.fromkeys((move.first, move.last) for move in found.moves)
    named = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"in block{'s' if len(named) > 1 or '-' in named[0] else ''} {', '.join(named)}"


def _lines(change: Change, above: Change | None) -> Iterator[Line]:
    of = Cell(units.change(change.old, change.new), _tone(change.bytes))
    yield Line((Cell(f"  {change.metric}"), *_ends(change.old, change.new), of, Cell("")))
    if change.parts is None:
        yield _words("    no breakdown on a side")
        return
    if above is not None and above.moves == change.moves:
        yield _words(f"    the same parts as of {above.metric}")
        return
    for move in change.moves[:PLACES]:
        by = Cell(values.moved_by(move), _tone(move.bytes))
        share = units.percent(move.bytes / change.bytes if change.bytes else None)
        yield Line((Cell(f"    {move.where}"), *_ends(move.old, move.new), by, Cell(share)))
    if change.moves[PLACES:]:
        yield _words(f"    {len(change.moves) - PLACES} smaller moves")


def _ends(old: int, new: int) -> tuple[Cell, Cell]:
    return Cell(units.integer(old)), Cell(units.integer(new))


def _words(text: str, *, opens: bool = False) -> Line:
    return Line((Cell(text, "plain" if opens else "muted"), *(Cell("") for _ in range(4))), opens=opens)


def _tone(by: int) -> Tone:
    return "bad" if by > 0 else "good" if by < 0 else "muted"


def _law(of: law.Law) -> str:
    return units.bits(of.bits_per_activation) + (" (no line)" if of.linear is False else "")


def _floor(of: law.Law) -> str:
    return "" if of.floor_bits is None else f"; the floor is {units.integer(of.floor_bits)}"
