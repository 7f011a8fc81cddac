"""What `explain` shows: the parts and blocks that moved, case by case, and the culprit in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from bench import law
from bench.explain import Change, Culprit, Explanation
from bench.parts import Move
from reports import settings, units, values
from reports.frame import grid_order, method_rank
from reports.sheets import Cell, Column, Line, Sheet, Tone, axis_cell

SHOWN: Final = 40
"""Changes that one table shows."""
PLACES: Final = 8
"""Moves that are shown of one change."""
_VISIBLE: Final = 0.05
"""A part that changed by a smaller share is told in bytes, not in times."""


def sheet(found: Explanation) -> Sheet | None:
    """A row a case and metric that moved and, below it, one a part that did: bytes before and after, and its share of
    the change. None where nothing moved."""
    if not found.changes:
        return None
    ordered = sorted(found.changes, key=lambda change: grid_order(change.case))
    shown = ordered[:SHOWN]
    rows = [_axes(change) for change in shown]
    axes = settings.varying(rows)
    lines: list[Line] = []
    for number, change in enumerate(shown):
        row = rows[number]
        keys = (*(axis_cell(row, axis) for axis in axes), Cell(change.case.method))
        repeats = number > 0 and shown[number - 1].case == change.case
        lines += _lines(change, keys, shown[number - 1] if repeats else None)
    notes = [f"{len(ordered) - SHOWN} more not shown; pick cases with --method, --depth, …"] if ordered[SHOWN:] else []
    return Sheet(
        title=settings.sentence(rows),
        columns=(
            *(Column(settings.name_of(axis)) for axis in axes),
            Column("method", numeric=False),
            Column("what moved", numeric=False),
            Column("bytes"),
            Column("→ head"),
            Column("change"),
            Column("share"),
        ),
        lines=tuple(lines),
        keys=len(axes) + 1,
        notes=tuple(notes),
    )


def lines(found: Explanation, sides: str) -> Iterator[str]:
    """The memory laws that changed, what cannot be told, and the culprit; `sides` names what was compared."""
    series = [before.series for before, _ in found.laws]
    axes = settings.varying([msgspec.structs.asdict(case) for case in series])
    for before, after in found.laws:
        which = settings.which(msgspec.structs.asdict(before.series), axes)
        yield f"{which}: {_law(before)} → {_law(after)} bits per activation and block{_floor(after)}"
    if found.blind:
        yield (
            f"{found.blind} of {len(found.changes)} changes cannot be located: a side has no breakdown, as records of "
            "older versions; measure it again"
        )
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
        return f"is new, {_span([move.new for move in moves])} bytes{each},"
    if all(move.new == 0 for move in moves):
        return f"is gone, {_span([move.old for move in moves])} bytes{each},"
    if all(move.old > 0 and abs(move.new - move.old) >= _VISIBLE * move.old for move in moves):
        ratios = [move.new / move.old for move in moves]
        low, high = units.ratio(min(ratios)), units.ratio(max(ratios))
        return f"{'grew' if grew else 'shrank to'} {low if low == high else f'{low} to {high}'}"
    by = _span([abs(move.new - move.old) for move in moves])
    return f"{'grew' if grew else 'shrank'} by {by} bytes{each}"


def _span(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return units.integer(low) if low == high else f"{units.integer(low)} to {units.integer(high)}"


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


def _axes(change: Change) -> dict[str, Any]:
    return msgspec.structs.asdict(change.case)


def _lines(change: Change, keys: tuple[Cell, ...], above: Change | None) -> Iterator[Line]:
    tone = _tone(change.bytes)
    of = Cell(units.change(change.old, change.new), tone)
    ends = (Cell(units.integer(change.old)), Cell(units.integer(change.new)))
    yield Line((*keys, Cell(change.metric), *ends, of, Cell("")), opens=above is None)
    if change.parts is None:
        yield _below(keys, "no breakdown on a side")
        return
    if above is not None and above.moves == change.moves:
        yield _below(keys, f"the same parts as of {above.metric}")
        return
    for move in change.moves[:PLACES]:
        each = " each" if move.first != move.last else ""
        share = units.percent(move.bytes / change.bytes) if change.bytes else units.MISSING
        cells = (
            Cell(f"  {move.where}{each}"),
            Cell(units.integer(move.old)),
            Cell(units.integer(move.new)),
            Cell(values.moved_by(move), _tone(move.bytes)),
            Cell(share),
        )
        yield Line((*keys, *cells))
    if change.moves[PLACES:]:
        yield _below(keys, f"{len(change.moves) - PLACES} smaller moves")


def _below(keys: tuple[Cell, ...], text: str) -> Line:
    return Line((*keys, Cell(f"  {text}", "muted"), *(Cell("") for _ in range(4))))


def _tone(by: int) -> Tone:
    return "bad" if by > 0 else "good" if by < 0 else "muted"


def _law(of: law.Law) -> str:
    return units.bits(of.bits_per_activation) + (" (no line)" if of.linear is False else "")


def _floor(of: law.Law) -> str:
    return "" if of.floor_bits is None else f"; the floor is {units.integer(of.floor_bits)}"
