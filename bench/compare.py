"""Two runs side by side: pure functions from two lists of records to one verdict a case and metric.

Memory is nearly deterministic, so it is compared in bytes: exactly, unless a `Tolerance` says otherwise.
Imports no torch.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol, cast

from bench.case import Case
from bench.errors import UsageError
from bench.record import FAILED, Status

Metric = Literal["activation_bytes", "peak_bytes", "side_bytes"]
METRICS: tuple[Metric, ...] = ("activation_bytes", "peak_bytes", "side_bytes")
"""What is compared: the method's own memory, a whole step's, the side information. Less is better."""

Verdict = Literal["same", "better", "worse", "missing", "new", "newly failing", "newly passing"]
REGRESSIONS: frozenset[Verdict] = frozenset({"worse", "missing", "newly failing"})
IMPROVEMENTS: frozenset[Verdict] = frozenset({"better", "newly passing"})


class Measured(Protocol):
    """What is compared: a record of a run, or an entry of a baseline."""

    @property
    def status(self) -> Status: ...
    @property
    def activation_bytes(self) -> int | None: ...
    @property
    def peak_bytes(self) -> int | None: ...
    @property
    def side_bytes(self) -> int | None: ...
    def case(self) -> Case:
        """The case it is of."""


@dataclass(frozen=True)
class Tolerance:
    """How far two byte counts may lie apart and still be the same: a share of the old one, or bytes."""

    share: Fraction = Fraction(0)
    absolute_bytes: int = 0

    def allows(self, old: int, new: int) -> bool:
        """Whether `new` bytes count as `old` bytes. Exact arithmetic: nothing hangs on a rounding."""
        return abs(new - old) <= max(self.share * old, Fraction(self.absolute_bytes))


EXACT = Tolerance()

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_TOLERANCE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|[A-Za-z]*)")


def parse_tolerance(text: str) -> Tolerance:
    """The tolerance that `0.5%`, `64KiB` or `0` means.

    Raises: UsageError for anything else.
    """
    match = _TOLERANCE.fullmatch(text.strip())
    if match is not None and match["unit"] == "%":
        return Tolerance(share=Fraction(match["number"]) / 100)
    if match is not None and match["unit"] in _UNITS:
        return Tolerance(absolute_bytes=int(Fraction(match["number"]) * _UNITS[match["unit"]]))
    raise UsageError(f"tolerance {text!r}: expected a share such as 0.5%, or bytes such as 64KiB; 0 for the same bytes")


@dataclass(frozen=True)
class Comparison:
    """One verdict: a metric of a case or, where `metric` is None, the case as a whole and its status."""

    case: Case
    metric: Metric | None
    verdict: Verdict
    old: int | Status | None
    new: int | Status | None

    @property
    def regression(self) -> bool:
        """Whether the gate closes on it."""
        return self.verdict in REGRESSIONS

    @property
    def improvement(self) -> bool:
        """Whether the baseline should be renewed to hold the gain."""
        return self.verdict in IMPROVEMENTS

    def __str__(self) -> str:
        """One line: the verdict, the case, and old -> new, bytes as they are."""
        what = "" if self.metric is None else f" {self.metric}"
        return f"{self.verdict}: {self.case.label()}:{what} {_shown(self.old)} -> {_shown(self.new)}"


def compare(base: Iterable[Measured], head: Iterable[Measured], tolerance: Tolerance = EXACT) -> list[Comparison]:
    """Every case of `base` in its order, then what only `head` has: a verdict a metric, or one for the case
    where it is missing, new, or ended otherwise than before. Where a case occurs twice, the last counts."""
    old_of = {measured.case(): measured for measured in base}
    new_of = {measured.case(): measured for measured in head}
    comparisons: list[Comparison] = []
    for case, old in old_of.items():
        new = new_of.get(case)
        if new is None:
            comparisons.append(Comparison(case, None, "missing", old.status, None))
        else:
            comparisons += _pair(case, old, new, tolerance)
    comparisons += [
        Comparison(case, None, "new", None, new.status) for case, new in new_of.items() if case not in old_of
    ]
    return comparisons


def regressions(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those on which the gate closes."""
    return [comparison for comparison in comparisons if comparison.regression]


class Judged(Protocol):
    """What has a verdict."""

    @property
    def verdict(self) -> str: ...


def counted(comparisons: Iterable[Judged]) -> str:
    """How many of each verdict, the commonest first, such as `44 same, 1 worse`; empty where there is none."""
    counts = Counter(comparison.verdict for comparison in comparisons)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def rerun_command(suite: str, case: Case, *, verify: bool = False) -> str:
    """The command that measures this one case again, into a folder of its own."""
    words = ["bdia-bench", "run", suite]
    for name in case.__struct_fields__:
        value = getattr(case, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--verify"] if verify else words)


def _pair(case: Case, old: Measured, new: Measured, tolerance: Tolerance) -> list[Comparison]:
    before, after = _rank(old.status), _rank(new.status)
    if after != before:
        verdict: Verdict = "newly failing" if after > before else "newly passing"
        return [Comparison(case, None, verdict, old.status, new.status)]
    values = [(metric, _value(old, metric), _value(new, metric)) for metric in METRICS]
    measured = [
        Comparison(case, metric, _judge(was, now, tolerance), was, now)
        for metric, was, now in values
        if was is not None or now is not None
    ]
    return measured or [Comparison(case, None, "same", old.status, new.status)]


def _rank(status: Status) -> int:
    """0 measured, 1 knowingly not measured, 2 failed."""
    if status == "ok":
        return 0
    return 2 if status in FAILED else 1


def _value(measured: Measured, metric: Metric) -> int | None:
    return cast("int | None", getattr(measured, metric))


def _judge(old: int | None, new: int | None, tolerance: Tolerance) -> Verdict:
    if old is None:
        return "new"
    if new is None:
        return "missing"
    if tolerance.allows(old, new):
        return "same"
    return "worse" if new > old else "better"


def _shown(value: int | str | None) -> str:
    if value is None:
        return "nothing"
    return f"{value} bytes" if isinstance(value, int) else value
