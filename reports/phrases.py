"""One comparison of the gate in words: what its summary, its annotations and its JUnit file share."""

from __future__ import annotations

from bench.comparison import Comparison
from bench.parts import Move
from reports import checked, units, values


def sentence(of: Comparison) -> str:
    """The verdict in one line, without the case: `worse: activation_bytes 1000 → 1024 bytes (+2.40%), in block 3`."""
    where = f", in {of.where}" if of.where else ""
    what = "" if of.metric is None else f"{of.metric} "
    return printable(f"{of.verdict}: {what}{values.change(of)}{where}")


def text(of: Comparison, rerun: str | None) -> str:
    """All that people are told of it, several lines: the case and what changed, the parts and blocks that moved, how
    to measure it again."""
    lines = [checked.line(of), *(f"  {detail}" for detail in checked.details(of))]
    if rerun is not None:
        lines.append(f"  measure it again: {rerun}")
    return "\n".join(map(printable, lines))


def blocks(move: Move) -> str:
    """The blocks of a move, `1-11` or `3`; an em dash for what lies in none."""
    if move.first is None:
        return units.MISSING
    return str(move.first) if move.first == move.last else f"{move.first}-{move.last}"


def printable(text: str) -> str:
    """`text` with whatever a reader, a terminal or XML could not show, such as control characters in a file's name, as
    Python spells it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
