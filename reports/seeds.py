"""Do two arms differ by more than their seeds do? Welch's t-test, with its interval, and what can be said of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

SIGNIFICANT: Final = 0.05
"""The p-value under which a difference is called one."""
Finding = Literal["same weights", "same", "one seed", "differ", "within the spread", "not told apart"]


@dataclass(frozen=True)
class Welch:
    """Welch's t-test of two means, two-sided."""

    t: float
    freedom: float
    """Degrees of freedom, by Welch and Satterthwaite."""
    p: float
    low: float
    """The 95% interval of the difference."""
    high: float


@dataclass(frozen=True)
class Difference:
    """How far an arm lies from another, over seeds."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    by_seed: tuple[float, ...]
    """Of each seed that both have: the same seed is the same initial weights and the same batches."""
    same_weights: bool
    """Every one of these ended with the same weights, bit for bit."""

    @property
    def mean(self) -> float:
        """The difference of the means."""
        return statistics.fmean(self.ours) - statistics.fmean(self.theirs)

    @property
    def spread(self) -> float | None:
        """The sample deviation over seeds, pooled: the root of the mean variance. None where either has one seed."""
        if min(len(self.ours), len(self.theirs)) < 2:
            return None
        return math.sqrt((statistics.variance(self.ours) + statistics.variance(self.theirs)) / 2)

    @property
    def welch(self) -> Welch | None:
        """The test; None where either has one seed, or no seed makes a difference."""
        return welch(self.ours, self.theirs)

    @property
    def paired(self) -> float | None:
        """The p-value of Student's t-test on the differences seed by seed; None of one seed, and where they are all
        the same."""
        count = len(self.by_seed)
        if count < 2:
            return None
        deviation = statistics.stdev(self.by_seed)
        if not deviation:
            return None
        return _both_tails(statistics.fmean(self.by_seed) / (deviation / math.sqrt(count)), count - 1)

    @property
    def finding(self) -> Finding:
        """What can be said. `within the spread`: the means lie no further apart than one sample deviation. `not told
        apart`: further, and p is not under 0.05 all the same, as it may well be of three seeds."""
        if self.same_weights:
            return "same weights"
        if self.ours == self.theirs:
            return "same"
        spread, test = self.spread, self.welch
        if spread is None:
            return "one seed"
        if test is None or test.p < SIGNIFICANT:
            return "differ"
        return "within the spread" if abs(self.mean) <= spread else "not told apart"


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], *, same_weights: bool) -> Difference | None:
    """Of two arms' values by seed; None where either has none."""
    if not ours or not theirs:
        return None
    both = sorted(ours.keys() & theirs.keys())
    return Difference(
        tuple(ours.values()), tuple(theirs.values()), tuple(ours[seed] - theirs[seed] for seed in both), same_weights
    )


def welch(ours: Sequence[float], theirs: Sequence[float]) -> Welch | None:
    """t = (m₁ − m₂)/√(s₁²/n₁ + s₂²/n₂), its p-value and the 95% interval of m₁ − m₂ (Welch, Biometrika 34, 1947).

    None where a sample has less than two values, or neither varies."""
    if min(len(ours), len(theirs)) < 2:
        return None
    from scipy import special

    errors = [statistics.variance(values) / len(values) for values in (ours, theirs)]
    error = math.sqrt(sum(errors))
    if not error:
        return None
    shrunk = [one**2 / (len(values) - 1) for one, values in zip(errors, (ours, theirs), strict=True)]
    freedom = sum(errors) ** 2 / sum(shrunk)
    mean = statistics.fmean(ours) - statistics.fmean(theirs)
    reach = float(special.stdtrit(freedom, 0.975)) * error
    return Welch(mean / error, freedom, _both_tails(mean / error, freedom), mean - reach, mean + reach)


def _both_tails(t: float, freedom: float) -> float:
    from scipy import special  # as slow to import as matplotlib, and needed for arms of several seeds alone

    return 2 * float(special.stdtr(freedom, -abs(t)))
