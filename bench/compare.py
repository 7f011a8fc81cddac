"""Two runs side by side: pure functions from two lists of records to one verdict a case and metric.

Memory is nearly deterministic, so it is compared in bytes: exactly, unless a tolerance says otherwise. Where bytes
moved, the verdict names the parts and blocks. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench import slopes
from bench.case import Case
from bench.comparison import Comparison, Measured, Verdict, by_case, moves, size
from bench.errors import one_line
from bench.record import FAILED, Record, Status
from bench.tolerance import BYTES, Metric, Tolerances


@dataclass(frozen=True)
class Rates:
    """The rate ratios of two runs, by case: what is compared of speed, on request."""

    old: Mapping[Case, float]
    new: Mapping[Case, float]


def compare(
    base: Iterable[Measured],
    head: Iterable[Measured],
    tolerances: Tolerances | None = None,
    rates: Rates | None = None,
) -> list[Comparison]:
    """Every case of `base` in its order, then what only `head` has: a verdict a metric, or one for the case where it
    is missing, new, or ended otherwise than before; then the memory law of each method. Where a case occurs twice,
    the last counts. Bytes that only `head` has are new; of anything else that `base` lacks there is no verdict."""
    return between(by_case(base), by_case(head), Tolerances() if tolerances is None else tolerances, rates)


def between(
    old_of: Mapping[Case, Measured], new_of: Mapping[Case, Measured], tolerances: Tolerances, rates: Rates | None = None
) -> list[Comparison]:
    """As `compare`, of what `by_case` found."""
    comparisons: list[Comparison] = []
    for case, old in old_of.items():
        new = new_of.get(case)
        if new is None:
            comparisons.append(Comparison(case, None, "missing", old.status, None))
        else:
            comparisons += _pair(case, old, new, tolerances, rates)
    comparisons += [
        Comparison(case, None, "new", None, new.status) for case, new in new_of.items() if case not in old_of
    ]
    return comparisons + slopes.between(old_of, new_of, tolerances)


def _pair(case: Case, old: Measured, new: Measured, tolerances: Tolerances, rates: Rates | None) -> list[Comparison]:
    before, after = _rank(old.status), _rank(new.status)
    if after > before:
        said = new.message if isinstance(new, Record) else None
        note, block = one_line(said or ""), _fails_at(old, new)
        return [Comparison(case, None, "newly failing", old.status, new.status, block=block, note=note)]
    if after < before:
        # What failed and is now known to be beyond the method still does not run.
        verdict: Verdict = "newly passing" if new.status == "ok" else "same"
        return [Comparison(case, None, verdict, old.status, new.status)]
    found = [_bytes(case, metric, old, new, tolerances) for metric in BYTES]
    found += [_exactness(case, old, new), _gradients(case, old, new, tolerances), _rounding(case, old, new, tolerances)]
    if rates is not None:
        found.append(_rate(case, rates.old.get(case), rates.new.get(case), tolerances))
    measured = [comparison for comparison in found if comparison is not None]
    return measured or [Comparison(case, None, "same", old.status, new.status)]


def _rank(status: Status) -> int:
    """0 measured, 1 knowingly beyond the method, 2 failed. A case is skipped because a smaller one ran out of memory,
    so skipping it is no better than failing, and no worse."""
    if status == "ok":
        return 0
    return 2 if status in FAILED or status == "skipped" else 1


def _bytes(case: Case, metric: Metric, old: Measured, new: Measured, tolerances: Tolerances) -> Comparison | None:
    was, now = size(old, metric), size(new, metric)
    if was is None and now is None:
        return None
    if was is None or now is None:
        return Comparison(case, metric, "new" if was is None else "missing", was, now)
    if tolerances.of(metric).allows(was, now):
        return Comparison(case, metric, "same", was, now)
    verdict: Verdict = "worse" if now > was else "better"
    return Comparison(case, metric, verdict, was, now, moves(old, new, metric))


def _exactness(case: Case, old: Measured, new: Measured) -> Comparison | None:
    was, now = old.bit_exact, new.bit_exact
    if was is None:
        return None
    if now is None:
        return Comparison(case, "bit_exact", "missing", was, now)
    if was == now:
        return Comparison(case, "bit_exact", "same", was, now)
    return Comparison(case, "bit_exact", "worse" if was else "better", was, now, block=_rebuilt_wrongly(new))


def _rebuilt_wrongly(of: Measured) -> int | None:
    """The backward goes down from the last block, so the highest one that differs is where it goes wrong."""
    rebuilt = (of.reconstruction if isinstance(of, Record) else None) or []
    return max((error.block for error in rebuilt if error.mismatched), default=None)


def _fails_at(old: Measured, new: Measured) -> int | None:
    """Where a case that fails goes wrong: what is measured of it all the same tells, if it used to be exact."""
    block = _rebuilt_wrongly(new) if old.bit_exact else None
    if block is None and old.gradient_error == 0 and isinstance(new, Record):
        block = new.gradient_block
    return block


def _gradients(case: Case, old: Measured, new: Measured, tolerances: Tolerances) -> Comparison | None:
    verdict = _judged(old.gradient_error, new.gradient_error, "gradient_error", tolerances)
    if verdict is None:
        return None
    block = new.gradient_block if verdict == "worse" and isinstance(new, Record) else None
    return Comparison(case, "gradient_error", verdict, old.gradient_error, new.gradient_error, block=block)


def _rounding(case: Case, old: Measured, new: Measured, tolerances: Tolerances) -> Comparison | None:
    verdict = _judged(old.rounding_error, new.rounding_error, "rounding_error", tolerances)
    if verdict is None:
        return None
    block = new.rounding_block if verdict == "worse" and isinstance(new, Record) else None
    return Comparison(case, "rounding_error", verdict, old.rounding_error, new.rounding_error, block=block)


def _rate(case: Case, old: float | None, new: float | None, tolerances: Tolerances) -> Comparison | None:
    if old is not None and new is not None:
        verdict: Verdict = "same"
        if not tolerances.of("rate_ratio").allows(old, new):
            verdict = "worse" if new < old else "better"
        return Comparison(case, "rate_ratio", verdict, old, new)
    return None if old is None else Comparison(case, "rate_ratio", "missing", old, new)


def _judged(old: float | None, new: float | None, metric: Metric, tolerances: Tolerances) -> Verdict | None:
    """Of a value of which less is better; None where there is nothing to hold it against."""
    if old is None:
        return None
    if new is None:
        return "missing"
    if tolerances.of(metric).allows(old, new):
        return "same"
    return "worse" if new > old else "better"
