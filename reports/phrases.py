"""One comparison of the gate in words: what its summary, its annotations and its JUnit file share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeGuard

from bench.compare import Comparison, Value
from bench.parts import Move
from bench.tolerance import BYTES
from reports import units

ABSENT: Final = "absent"


@dataclass(frozen=True)
class Ends:
    """What was compared, before and after, and the change in words; `change` is empty where there is none to give."""

    old: str
    new: str
    change: str


def ends(comparison: Comparison) -> Ends:
    """Both values as people read them: whole bytes, and of other numbers the digits that tell them apart."""
    old, new = comparison.old, comparison.new
    if _is_number(old) and _is_number(new):
        if comparison.metric in BYTES:
            was, now = int(old), int(new)
            change = f"{units.signed(now - was)}, {units.change(was, now)}" if was != now else "="
            return Ends(units.integer(was), units.integer(now), change)
        texts = units.apart(old, new)
        change = units.difference(new - old) if comparison.metric == "bits_per_activation" else ""
        return Ends(*texts, "=" if old == new else change)
    return Ends(_alone(old), _alone(new), "")


def subject(comparison: Comparison) -> str:
    """The case that it is about; of the memory law, the series."""
    label = comparison.case.label()
    return printable(f"{label} over depth" if comparison.metric == "bits_per_activation" else label)


def moved(comparison: Comparison) -> str:
    """What was compared, old → new: `activation_bytes 1000 → 1024 bytes (+24, +2.40%)`, `status ok → oom`."""
    both = ends(comparison)
    unit = {"bits_per_activation": " bits"}.get(comparison.what, " bytes" if comparison.metric in BYTES else "")
    change = f" ({both.change})" if both.change not in ("", "=") else ""
    return f"{comparison.what} {both.old} → {both.new}{unit}{change}"


def sentence(comparison: Comparison) -> str:
    """The whole of it in one line, without the case."""
    where = f", in {comparison.where}" if comparison.where else ""
    note = f"; {comparison.note}" if comparison.note else ""
    return printable(f"{comparison.verdict}: {moved(comparison)}{where}{note}")


def text(comparison: Comparison, rerun: str | None) -> str:
    """All that is known of it, several lines: the case, what changed, each part and block that moved, how to measure
    it again."""
    lines = [subject(comparison), sentence(comparison)]
    lines += [f"  {move_line(move)}" for move in comparison.moves]
    if rerun is not None:
        lines.append(f"measure it again: {printable(rerun)}")
    return "\n".join(lines)


def move_line(move: Move) -> str:
    """Where, and what it holds: `side_bits of blocks 1-11: 128 → 1,024 bytes each (+9,856)`."""
    each = " each" if move.first != move.last else ""
    old, new = units.integer(move.old), units.integer(move.new)
    return f"{move.where}: {old} → {new} bytes{each} ({units.signed(move.bytes)})"


def blocks(move: Move) -> str:
    """The blocks of a move, `1-11` or `3`; an em dash for what lies in none."""
    if move.first is None:
        return units.MISSING
    return str(move.first) if move.first == move.last else f"{move.first}-{move.last}"


def printable(text: str) -> str:
    """`text` with whatever a reader, a terminal or XML could not show, such as control characters in a file's name, as
    Python spells it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _alone(value: Value) -> str:
    """A value beside which there is none to tell it apart from, or that is no number."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "exact" if value else "not exact"
    if isinstance(value, int):
        return units.integer(value)
    return units.apart(value, value)[0] if isinstance(value, float) else value
