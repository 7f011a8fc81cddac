"""The verdict of the gate for programs: annotations of GitHub's, and one line of JSON.

`docs/ci.md` documents both; names in the JSON line are kept.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from bench.case import Case
from bench.check import Verdicts
from bench.comparison import Comparison, Value, Verdict
from bench.errors import EXIT_OK, EXIT_REGRESSION
from bench.parts import Move
from reports import checked, phrases
from reports.values import LAW

VERSION: Final = 1
"""Of the JSON line; another only where a field that is there means something else."""
ANNOTATIONS: Final = 10
"""GitHub shows so many of each kind a step, and drops the rest."""
TITLE: Final = "bdia-bench check"


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """One part of memory that changed, over a range of blocks that changed alike."""

    part: str
    first_block: int | None
    """None for what lies in no block."""
    last_block: int | None
    old_bytes: int
    """In each of the blocks."""
    new_bytes: int
    bytes: int
    """The change over all the blocks."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison."""

    case: dict[str, Any]
    """The axes of the case; of the memory law, `depth` is None."""
    label: str
    metric: str | None
    """None for the case as a whole and its status."""
    verdict: str
    old: Value
    new: Value
    where: str
    """The parts and blocks that moved, or the block that goes wrong, in words; empty where there are none to name."""
    moves: list[Moved]
    block: int | None
    note: str
    rerun: str | None
    """The command that measures it again, of a regression."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The one line: of a check that came to no verdict, all but `error` and `exit_code` is empty."""

    schema_version: int = VERSION
    verdict: Literal["passed", "failed", "error"]
    exit_code: int
    error: str | None = None
    run: str | None = None
    baseline: str | None = None
    suite: str | None = None
    counts: dict[str, int] = {}
    """Comparisons by verdict, those that do not occur as 0."""
    mismatch: list[str] = []
    """In what the two environments differ, where that was allowed."""
    ungated: list[str] = []
    """What is not compared: what the run tells and the baseline does not, and the memory law of a series whose points
    are on no line in the baseline, `bits_per_activation of` its label."""
    comparisons: list[Compared] = []


def line(verdicts: Verdicts) -> str:
    """The verdict as one line of JSON, in ASCII."""
    counts = Counter(comparison.verdict for comparison in verdicts.comparisons)
    return _encoded(
        Line(
            verdict="passed" if verdicts.passed else "failed",
            exit_code=EXIT_OK if verdicts.passed else EXIT_REGRESSION,
            run=verdicts.run,
            baseline=verdicts.baseline,
            suite=verdicts.suite,
            counts={name: counts[name] for name in get_args(Verdict)},
            mismatch=list(verdicts.mismatch),
            ungated=[*verdicts.ungated, *(f"{LAW} of {series.label()}" for series in verdicts.lineless)],
            comparisons=[
                _compared(comparison, axes, label, verdicts.reruns)
                for case, found in itertools.groupby(verdicts.comparisons, key=lambda comparison: comparison.case)
                for axes, label in [(msgspec.structs.asdict(case), case.label())]
                for comparison in found
            ],
        )
    )


def error_line(error: str, exit_code: int) -> str:
    """The line of a check that came to no verdict."""
    return _encoded(Line(verdict="error", exit_code=exit_code, error=error))


def annotate(verdicts: Verdicts, *, advice: str = "") -> list[str]:
    """The lines that make GitHub show an error for each regression, and a notice where there are improvements. Where
    they are more than GitHub shows, the last one counts those that are left out.

    Args:
        advice: what to do about improvements.
    """
    bad = verdicts.regressions
    shown = bad if len(bad) <= ANNOTATIONS else bad[: ANNOTATIONS - 1]
    lines = [
        annotation(
            "error",
            f"{comparison.what} {comparison.verdict}" if comparison.metric else f"case {comparison.verdict}",
            phrases.text(comparison, verdicts.reruns.get(comparison.case)),
        )
        for comparison in shown
    ]
    if len(bad) > len(shown):
        lines.append(annotation("error", TITLE, f"{len(bad) - len(shown)} more regressions are in the log"))
    good = verdicts.improvements
    if good:
        first = good[: ANNOTATIONS - 1]
        said = [phrases.printable(checked.line(comparison)) for comparison in first]
        said += [f"and {len(good) - len(first)} more"] if len(good) > len(first) else []
        said += [phrases.printable(advice)] if advice else []
        lines.append(annotation("notice", "Better than the baseline", "\n".join(said)))
    return lines


def annotation(level: Literal["error", "notice"], title: str, message: str) -> str:
    """One workflow command, escaped by GitHub's rules."""
    return f"::{level} title={_property(title)}::{_message(message)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _compared(comparison: Comparison, axes: dict[str, Any], label: str, reruns: Mapping[Case, str]) -> Compared:
    return Compared(
        case=axes,
        label=label,
        metric=comparison.metric,
        verdict=comparison.verdict,
        old=comparison.old,
        new=comparison.new,
        where=comparison.where,
        moves=[_moved(move) for move in comparison.moves],
        block=comparison.block,
        note=comparison.note,
        rerun=reruns.get(comparison.case) if comparison.regression else None,
    )


def _moved(move: Move) -> Moved:
    return Moved(
        part=move.part, first_block=move.first, last_block=move.last, old_bytes=move.old, new_bytes=move.new,
        bytes=move.bytes,
    )  # fmt: skip


def _encoded(whole: Line) -> str:
    # ASCII, so that no encoding of a CI's log can spoil it; names of files may hold bytes that are no UTF-8.
    return json.dumps(msgspec.to_builtins(whole), allow_nan=False)
