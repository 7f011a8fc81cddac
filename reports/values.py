"""What a comparison says, in words and formatted numbers: the same wherever it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.case import Case
from bench.comparison import Comparison, Value
from bench.parts import Move
from bench.tolerance import BYTES, Metric
from reports import units

LAW: Final[Metric] = "bits_per_activation"
"""The memory law's."""
_TIMES: Final = 2


def value(metric: Metric | None, of: Value) -> str:
    """One value of a metric without its unit; of the case as a whole, its status."""
    if of is None or isinstance(of, str):
        return of or units.MISSING
    if isinstance(of, bool):
        return units.yes_no(of)
    if metric in BYTES:
        return units.integer(int(of))
    if metric == LAW:
        return units.bits(of)
    if metric == "rate_ratio":
        return units.ratio(of)
    return units.rounding(of) if metric == "rounding_error" else units.error(of)


def change(of: Comparison) -> str:
    """Old and new, the unit, and by how much: `6,731,776 → 7,518,208 bytes (+11.68%)`, `ok → oom`."""
    ends = f"{value(of.metric, of.old)} → {value(of.metric, of.new)}"
    if of.metric in BYTES:
        by = _percent(of.old, of.new)
        return f"{ends} bytes{f' ({by})' if by else ''}"
    if of.metric == LAW and isinstance(of.old, float) and isinstance(of.new, float):
        return f"{ends} bits per activation and block ({units.difference(of.new - of.old)})"
    return f"{ends} · 2^-l" if of.metric == "rounding_error" else ends


def series(of: Sequence[Case], shown: int = 3) -> str:
    """Their labels, the first few of them, and how many more there are."""
    rest = len(of) - shown
    more = [f"and {units.integer(rest)} more"] if rest > 0 else []
    return "; ".join([*(case.label() for case in of[:shown]), *more])


def moved(of: Move) -> str:
    """One part that moved: `side_bits of blocks 1-11: 32,768 → 262,144 bytes each (8.00×)`."""
    each = " each" if of.first != of.last else ""
    return f"{of.where}: {units.integer(of.old)} → {units.integer(of.new)} bytes{each} ({moved_by(of)})"


def moved_by(of: Move) -> str:
    """By how much a part moved: in times from twice on, else in percent; `new` and `gone` where it was not there, and
    bytes where `other` is below 0."""
    if of.old == 0 or of.new == 0:
        return "new" if of.old == 0 else "gone"
    if of.old < 0 or of.new < 0:
        return units.added(of.new - of.old)
    times = of.new / of.old
    return units.ratio(times) if times >= _TIMES or 0 < times <= 1 / _TIMES else units.change(of.old, of.new)


def _percent(old: Value, new: Value) -> str:
    return units.change(old, new) if isinstance(old, int) and isinstance(new, int) else ""
