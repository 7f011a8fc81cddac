"""The gate: a run against a baseline, and the verdict that every output is made from. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from bench import baseline, comparison, rates, rerun, slopes, suite, tolerance
from bench import environment as environments
from bench.baseline import Section
from bench.case import Case
from bench.compare import Rates, between
from bench.comparison import Comparison, Measured
from bench.environment import EnvironmentKey
from bench.errors import BaselineError
from bench.stored_run import StoredRun
from bench.tolerance import Tolerances

Ungated = Literal["bit_exact", "gradient_error", "rounding_error", "stream_elements", "activation_parts", "peak_parts"]
UNGATED: Final[Mapping[Ungated, str]] = {
    "bit_exact": "bit_exact",
    "gradient_error": "gradient_error",
    "rounding_error": "rounding_error",
    "stream_elements": "bits_per_activation",
    "activation_parts": "where activation_bytes are",
    "peak_parts": "where peak_bytes are",
}
"""What an older baseline may lack, by the field that it takes; in words, what is not compared without it."""


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
    ungated: tuple[str, ...] = ()
    """What the run tells and the baseline does not, so that it is not compared until the baseline is renewed."""
    lineless: tuple[Case, ...] = ()
    """Series, with `depth` None, whose points are on no line in the baseline, so that no slope of them is compared."""

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
        return comparison.counted(self.comparisons)


def check(
    name: str,
    run: StoredRun,
    path: Path,
    tolerances: Tolerances,
    *,
    rated: bool = False,
    any_environment: bool = False,
) -> Verdicts:
    """The run, called `name`, against the baseline in `path`.

    Args:
        rated: compare rate ratios as well.
        any_environment: where the baseline has none like the run's, compare with the one most like it all the same.

    Raises: BaselineError where there is no baseline, or none that the run can be compared with; NothingMeasuredError
    for an empty run.
    """
    section, mismatch = _comparable(path, run.environment, any_environment)
    if section.tells_verification:
        _refuse_mixed(path, name, section.cases, run.records)
    paired = None
    if rated:
        paired = Rates(section.rates(), rates.ratios(run.records))
        if not paired.old:
            raise BaselineError(f"--rates: baseline {path} holds no rate_ratio; add them with --update --rates")
    return judge(
        name, str(path), run.suite, section.cases, run.records, tolerances, rates=paired, mismatch=mismatch,
    )  # fmt: skip


def judge(
    run: str,
    against: str,
    suite: str,
    base: Sequence[Measured],
    head: Sequence[Measured],
    tolerances: Tolerances,
    *,
    rates: Rates | None = None,
    mismatch: Sequence[str] = (),
) -> Verdicts:
    """The verdicts on `head` against `base`; `run` and `against` are what people know them as, and `suite` is the word
    that names the suite in a command."""
    old_of, new_of = comparison.by_case(base), comparison.by_case(head)
    comparisons = tuple(between(old_of, new_of, tolerances, rates))
    return Verdicts(
        run, against, suite, comparisons,
        reruns=rerun.commands(suite, comparisons, old_of | new_of),
        mismatch=tuple(mismatch),
        ungated=_ungated([(old, new_of[case]) for case, old in old_of.items() if case in new_of]),
        lineless=tuple(slopes.lineless(old_of, new_of)),
    )  # fmt: skip


def tolerances(run: StoredRun | None, words: Iterable[str] = ()) -> Tolerances:
    """The tolerances that a run is judged by: those of its suite's file as it is now or, where that is not to be
    found, as it was; then those of the command line.

    The file counts, not what was true when the run was measured: what is tolerated is said in the tree that is under
    review, beside the baseline, and an edit must not ask for a new measurement. Without a run there is no suite.

    Raises: UsageError where one of them is none.
    """
    if run is None:
        return Tolerances().overlaid(words)
    now = suite.tolerance(run.suite)
    return tolerance.of_table(run.tolerance if now is None else now).overlaid(words)


def _comparable(path: Path, environment: EnvironmentKey, anyhow: bool) -> tuple[Section, list[str]]:
    held = baseline.read(path)
    if not held.sections:
        raise BaselineError(f"baseline {path} holds no environment: write one with --update")
    nearest = held.nearest(environment)
    differing = environments.differences(nearest.environment, environment)
    if differing and not anyhow:
        of = "is of another environment" if len(held.sections) == 1 else "has no such environment, the most like it"
        raise BaselineError(
            f"baseline {path} {of} ({'; '.join(differing)}): measure in that one, add this one to it with --update, "
            "or compare all the same with --allow-environment-mismatch"
        )
    return nearest, differing


def _refuse_mixed(path: Path, name: str, base: Iterable[Measured], head: Iterable[Measured]) -> None:
    """What `--verify` keeps is in the bytes, so a run with it and a baseline without differ in nothing but that."""
    base, head = list(base), list(head)
    if not any(one.verify for one in (*base, *head)):
        return
    verified = {one.case(): one.verify for one in base if one.status == "ok"}
    mixed = [one for one in head if one.status == "ok" and verified.get(one.case(), one.verify) != one.verify]
    if not mixed:
        return
    first = mixed[0]
    ours, theirs, cure = ("with", "without", "without it") if first.verify else ("without", "with", "with it")
    raise BaselineError(
        f"{name} was measured {ours} --verify and baseline {path} {theirs} (such as {first.case().label()}): what it "
        f"costs is in the bytes; measure {cure}, or renew the baseline with --update"
    )


def _ungated(pairs: Sequence[tuple[Measured, Measured]]) -> tuple[str, ...]:
    return tuple(
        words
        for name, words in UNGATED.items()
        if any(getattr(old, name) is None and getattr(new, name) is not None for old, new in pairs)
    )
