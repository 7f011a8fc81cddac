"""Two runs side by side: pure functions from two lists of records to one verdict a case and metric.

Memory is nearly deterministic, so it is compared in bytes: exactly, unless a tolerance says otherwise. Where bytes
moved, the verdict names the parts and blocks. Imports no torch.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, Protocol

import msgspec

from bench import law, parts
from bench.case import Case
from bench.parts import Parts
from bench.record import FAILED, Record, Status
from bench.tolerance import BYTES, Metric, Tolerances

Verdict = Literal["same", "better", "worse", "missing", "new", "newly failing", "newly passing"]
REGRESSIONS: Final[frozenset[Verdict]] = frozenset({"worse", "missing", "newly failing"})
IMPROVEMENTS: Final[frozenset[Verdict]] = frozenset({"better", "newly passing"})
NOT_A_LINE: Final = "activation_bytes is no longer a straight line in depth"
_NAMED: Final = 3
"""How many of the places that moved `Comparison.where` names."""

Value = int | float | bool | Status | None


class Measured(Protocol):
    """What is compared: a record of a run, or an entry of a baseline."""

    @property
    def status(self) -> Status: ...
    @property
    def verify(self) -> bool: ...
    @property
    def activation_bytes(self) -> int | None: ...
    @property
    def peak_bytes(self) -> int | None: ...
    @property
    def side_bytes(self) -> int | None: ...
    @property
    def bit_exact(self) -> bool | None: ...
    @property
    def gradient_error(self) -> float | None: ...
    @property
    def rounding_error(self) -> float | None: ...
    @property
    def activation_parts(self) -> Parts | None: ...
    @property
    def peak_parts(self) -> Parts | None: ...
    @property
    def blocks(self) -> int | None: ...
    @property
    def stream_elements(self) -> int | None: ...
    @property
    def stream_dtype(self) -> str | None: ...
    def case(self) -> Case:
        """The case it is of."""


@dataclass(frozen=True)
class Comparison:
    """One verdict: a metric of a case or, where `metric` is None, the case as a whole and its status."""

    case: Case
    """Of the memory law, the case of its points with `depth` None."""
    metric: Metric | None
    verdict: Verdict
    old: Value
    new: Value
    moves: tuple[parts.Move, ...] = ()
    """Of bytes and of the memory law, where they are worse or better: which parts and blocks moved, the largest
    first; empty where one of the two has no breakdown."""
    block: int | None = None
    """Of what is not exact: the block where the backward, or the rounding, goes wrong first; None of a baseline, which
    does not remember it."""
    note: str = ""
    """What the two values do not say: why a case newly fails, or that there is no line any more."""

    @property
    def regression(self) -> bool:
        """Whether the gate closes on it."""
        return self.verdict in REGRESSIONS

    @property
    def improvement(self) -> bool:
        """Whether the baseline should be renewed to hold the gain."""
        return self.verdict in IMPROVEMENTS

    @property
    def what(self) -> str:
        """What was compared: a metric, or the status of the case."""
        return self.metric or "status"

    @property
    def named(self) -> tuple[parts.Move, ...]:
        """The moves that account for the verdict, at most three: those in the direction of the change, first of the
        parts that changed most over all their blocks. A peak that has moved to another block takes the working set of
        one along, which is large, and no news."""
        sign = 1 if self.verdict == "worse" else -1
        sums: Counter[parts.PartName] = Counter()
        for move in self.moves:
            sums[move.part] += sign * move.bytes
        along = [move for move in self.moves if sign * move.bytes > 0]
        telling = [move for move in along if sums[move.part] > 0] or along
        return tuple(sorted(telling, key=lambda move: -sums[move.part])[:_NAMED])

    @property
    def where(self) -> str:
        """The places that moved, or the block that goes wrong: `side_bits of blocks 1-11`, `block 3`, or nothing."""
        if self.block is not None:
            return f"block {self.block}"
        return ", ".join(move.where for move in self.named)

    def __str__(self) -> str:
        """One line: the verdict, the case, and old -> new, as they are."""
        what = "" if self.metric is None else f" {self.metric}"
        return f"{self.verdict}: {self.case.label()}:{what} {self._shown(self.old)} -> {self._shown(self.new)}"

    def _shown(self, value: Value) -> str:
        if value is None:
            return "nothing"
        if isinstance(value, bool):
            return "exact" if value else "not exact"
        return f"{value} bytes" if self.metric in BYTES else str(value)


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


def by_case(measured: Iterable[Measured]) -> dict[Case, Measured]:
    """The last of each case. Of many records, making and hashing cases is most of the work: it is done once."""
    return {one.case(): one for one in measured}


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
    return comparisons + _laws(old_of, new_of, tolerances)


def regressions(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those on which the gate closes."""
    return [comparison for comparison in comparisons if comparison.regression]


def counted(comparisons: Iterable[Comparison]) -> str:
    """How many of each verdict, the commonest first, such as `44 same, 1 worse`; empty where there is none."""
    counts = Counter(comparison.verdict for comparison in comparisons)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def series(case: Case) -> Case:
    """The case with `depth` None: what the cases of one memory law share."""
    return msgspec.structs.replace(case, depth=None)


def rerun_command(suite: str, case: Case, *, depths: Sequence[int] = (), verify: bool = False) -> str:
    """The command that measures this one case again, into a folder of its own; of a series, at these `depths`."""
    words = ["bdia-bench", "run", suite]
    for name in case.__struct_fields__:
        value = getattr(case, name)
        if name == "depth" and value is None and depths:
            value = ",".join(map(str, depths))
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--verify"] if verify else words)


def _pair(case: Case, old: Measured, new: Measured, tolerances: Tolerances, rates: Rates | None) -> list[Comparison]:
    before, after = _rank(old.status), _rank(new.status)
    if after > before:
        said = new.message if isinstance(new, Record) else None
        note = " ".join((said or "").split())
        return [Comparison(case, None, "newly failing", old.status, new.status, note=note)]
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
    was, now = _size(old, metric), _size(new, metric)
    if was is None and now is None:
        return None
    if was is None or now is None:
        return Comparison(case, metric, "new" if was is None else "missing", was, now)
    if tolerances.of(metric).allows(was, now):
        return Comparison(case, metric, "same", was, now)
    moves = _moves(old, new, metric)
    return Comparison(case, metric, "worse" if now > was else "better", was, now, moves)


def _size(measured: Measured, metric: Metric) -> int | None:
    if metric == "activation_bytes":
        return measured.activation_bytes
    return measured.peak_bytes if metric == "peak_bytes" else measured.side_bytes


def _moves(old: Measured, new: Measured, metric: Metric) -> tuple[parts.Move, ...]:
    """Which parts and blocks moved; of side information only its own."""
    was, now = old.activation_parts, new.activation_parts
    if metric == "peak_bytes":
        was, now = old.peak_parts, new.peak_parts
    if was is None or now is None:
        return ()
    moved = parts.moves(was, now)
    return tuple(move for move in moved if metric != "side_bytes" or move.part == "side_bits")


def _exactness(case: Case, old: Measured, new: Measured) -> Comparison | None:
    was, now = old.bit_exact, new.bit_exact
    if was is None:
        return None
    if now is None:
        return Comparison(case, "bit_exact", "missing", was, now)
    if was == now:
        return Comparison(case, "bit_exact", "same", was, now)
    # The backward goes down from the last block, so the highest one that differs is where it goes wrong.
    rebuilt = (new.reconstruction if isinstance(new, Record) else None) or []
    wrong = max((error.block for error in rebuilt if error.mismatched), default=None)
    return Comparison(case, "bit_exact", "worse" if was else "better", was, now, block=wrong)


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


def laws(old_of: Mapping[Case, Measured], new_of: Mapping[Case, Measured]) -> list[tuple[law.Law, law.Law]]:
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


def _laws(old_of: Mapping[Case, Measured], new_of: Mapping[Case, Measured], tolerances: Tolerances) -> list[Comparison]:
    """What is no line has no slope to compare, and what no longer is one is worse."""
    return [
        _law(before, now, old_of, new_of, tolerances)
        for before, now in laws(old_of, new_of)
        if before.linear is not False
    ]


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
        moves = _moves(old_of[moved], new_of[moved], "activation_bytes")
    note = NOT_A_LINE if new.linear is False else ""
    return Comparison(
        old.series, "bits_per_activation", verdict, old.bits_per_activation, new.bits_per_activation, moves, note=note
    )


def _bits(fitted: law.Law) -> Fraction:
    return fitted.slope_bytes * 8 / fitted.stream_elements


def _grown(old: Measured, new: Measured) -> int:
    return abs((new.activation_bytes or 0) - (old.activation_bytes or 0))
