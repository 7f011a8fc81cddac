"""What `check` prints for people: a line a verdict that is not `same`, where it moved, and how to measure it again."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.baseline import Update
from bench.case import Case
from bench.check import Verdicts
from bench.comparison import Comparison, counted
from reports import units, values
from reports.values import LAW


def lines(verdicts: Verdicts, *, renewable: bool = True) -> Iterator[str]:
    """The report of one check; what is the same is only counted. A baseline that is a file is renewable."""
    yield from told(verdicts.comparisons, verdicts.reruns)
    if verdicts.mismatch:
        yield f"compared all the same with another environment: {'; '.join(verdicts.mismatch)}"
    if verdicts.ungated:
        where, cure = ("the baseline", "; --update adds it") if renewable else (verdicts.baseline, "")
        yield f"not in {where} yet, so not compared: {', '.join(verdicts.ungated)}{cure}"
    if verdicts.lineless:
        where = "the baseline" if renewable else verdicts.baseline
        yield f"on no line in depth in {where}, so {LAW} is not compared: {values.series(verdicts.lineless)}"
    yield f"{verdicts.run} against {verdicts.baseline}: {verdicts.counted}"


def told(comparisons: Iterable[Comparison], reruns: Mapping[Case, str]) -> Iterator[str]:
    """A line a verdict that is not `same`; further ones of a case, where it moved and how to measure it again below."""
    changed = (comparison for comparison in comparisons if comparison.verdict != "same")
    for case, of_case in itertools.groupby(changed, key=lambda comparison: comparison.case):
        for _, alike in itertools.groupby(of_case, key=lambda comparison: comparison.verdict):
            yield from _group(list(alike))
        if case in reruns:
            yield f"  measure it again: {reruns[case]}"


def gains(verdicts: Verdicts, *, rated: bool = False) -> Iterator[str]:
    """How to keep what is better than the baseline. Where something is worse, an update would keep that as well."""
    if not verdicts.improvements:
        return
    if not verdicts.passed:
        yield "There are gains over the baseline as well; renew it when nothing is worse"
        return
    words = ["bdia-bench", "check", verdicts.run, "--baseline", verdicts.baseline, "--update"]
    renewed = shlex.join([*words, "--rates"] if rated else words)
    yield f"There are gains over the baseline; keep them with `{renewed}`"


def line(of: Comparison) -> str:
    """One verdict: `worse: bdia gpt depth=12 …: activation_bytes 6,731,776 → 7,518,208 bytes (+11.68%)`."""
    return f"{of.verdict}: {of.case.label()}: {_change(of)}"


def updated(path: str, done: Update) -> Iterator[str]:
    """What `--update` changed."""
    yield from told(done.changes, {})
    said = [f"{path}: {units.cases(done.cases)} written"]
    said += [counted(done.changes)] if done.changes else []
    if done.lines:
        more = "more " if done.changes else ""
        said.append(f"{done.lines} {more}line{'' if done.lines == 1 else 's'} changed, nothing worse or better")
    if done.others:
        others = f"{done.others} other environment{'' if done.others == 1 else 's'}"
        said.append(f"{others} left as {'it is' if done.others == 1 else 'they are'}")
    yield ", ".join(said)


def _group(alike: Sequence[Comparison]) -> Iterator[str]:
    """The verdicts of one kind on one case; what they say alike is said once, below the last."""
    said = [tuple(details(comparison)) for comparison in alike]
    for number, comparison in enumerate(alike):
        yield line(comparison) if number == 0 else f"  and {_change(comparison)}"
        if number + 1 == len(said) or said[number] != said[number + 1]:
            yield from (f"  {detail}" for detail in said[number])


def _change(of: Comparison) -> str:
    return f"{of.metric} {values.change(of)}" if of.metric else values.change(of)


def details(of: Comparison) -> Iterator[str]:
    """Where it moved, or goes wrong, and what else there is to say."""
    yield from (values.moved(move) for move in of.named)
    if of.block is not None:
        yield f"goes wrong first in block {of.block}"
    if of.note:
        yield of.note
