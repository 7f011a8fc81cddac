"""The gate: a run against a baseline, and the verdict that every output is made from. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench import compare
from bench.case import Case
from bench.compare import Comparison


@dataclass(frozen=True)
class Verdicts:
    """The outcome of one check."""

    run: str
    """What was checked, as shown to people."""
    baseline: str
    """What against."""
    suite: str
    comparisons: tuple[Comparison, ...]
    reruns: Mapping[Case, str] = field(default_factory=dict)
    """The command that measures a case again, for each case with a regression."""
    mismatch: tuple[str, ...] = ()
    """In what the two environments differ, where that was allowed."""

    @property
    def regressions(self) -> tuple[Comparison, ...]:
        """Those on which the gate closes."""
        return tuple(comparison for comparison in self.comparisons if comparison.regression)

    @property
    def improvements(self) -> tuple[Comparison, ...]:
        """Those for which the baseline should be renewed."""
        return tuple(comparison for comparison in self.comparisons if comparison.improvement)

    @property
    def passed(self) -> bool:
        """Whether the gate stays open."""
        return not self.regressions

    @property
    def counted(self) -> str:
        """How many of each verdict, such as `44 same, 1 worse`."""
        return compare.counted(self.comparisons)
