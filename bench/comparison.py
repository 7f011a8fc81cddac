"""What is compared, and what a comparison comes to: a verdict on a metric of a case, and where it comes from.

Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol

from bench import law, parts
from bench.case import Case
from bench.parts import Parts
from bench.record import Status
from bench.tolerance import BYTES, Metric

Verdict = Literal["same", "better", "worse", "missing", "new", "newly failing", "newly passing"]
REGRESSIONS: Final[frozenset[Verdict]] = frozenset({"worse", "missing", "newly failing"})
IMPROVEMENTS: Final[frozenset[Verdict]] = frozenset({"better", "newly passing"})
_NAMED: Final = 3
"""How many of the places that moved `Comparison.where` names."""

Value = int | float | bool | Status | None


class Measured(law.Measured, Protocol):
    """What is compared: a record of a run, or an entry of a baseline."""

    @property
    def status(self) -> Status: ...
    @property
    def verify(self) -> bool: ...
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
    """Of what is not exact, and of a case that newly fails and was exact: the block where the backward, or the
    rounding, goes wrong first, where it was measured; None of a baseline, which does not remember it."""
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


def by_case(measured: Iterable[Measured]) -> dict[Case, Measured]:
    """The last of each case. Of many records, making and hashing cases is most of the work: it is done once."""
    return {one.case(): one for one in measured}


def counted(comparisons: Iterable[Comparison], words: Mapping[str, str] = MappingProxyType({})) -> str:
    """How many of each verdict, the commonest first, such as `44 same, 1 worse`; empty where there is none. `words` has
    other words for verdicts."""
    counts = Counter(comparison.verdict for comparison in comparisons)
    return ", ".join(f"{count} {words.get(verdict, verdict)}" for verdict, count in counts.most_common())


def size(measured: Measured, metric: Metric) -> int | None:
    """Its value of a metric of bytes."""
    if metric == "activation_bytes":
        return measured.activation_bytes
    return measured.peak_bytes if metric == "peak_bytes" else measured.side_bytes


def breakdown(measured: Measured, metric: Metric) -> Parts | None:
    """The parts of a metric of bytes; of side information those of the activations, which it is one of."""
    return measured.peak_parts if metric == "peak_bytes" else measured.activation_parts


def moves(old: Measured, new: Measured, metric: Metric) -> tuple[parts.Move, ...]:
    """Which parts and blocks moved; of side information only its own. Empty where one of the two has no breakdown."""
    was, now = breakdown(old, metric), breakdown(new, metric)
    if was is None or now is None:
        return ()
    moved = parts.moves(was, now)
    return tuple(move for move in moved if metric != "side_bytes" or move.part == "side_bits")
