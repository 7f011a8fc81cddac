"""What `check` prints for people: a line a verdict that is not `same`, where it moved, and how to measure it again."""

from __future__ import annotations

import itertools
import shlex
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from bench import words
from bench.baseline import Update
from bench.case import Case
from bench.check import Verdicts
from bench.comparison import Comparison, counted
from reports import settings, units, values
from reports.values import LAW

WIDTH: Final = 100
"""Columns of a line of settings where there is no terminal to ask."""
_RENEWED: Final[Mapping[str, str]] = {"missing": "dropped"}
"""What a verdict is called where the baseline is renewed."""


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


def told(
    comparisons: Iterable[Comparison], reruns: Mapping[Case, str], called: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """What holds for every case that is told of, and then a line a verdict that is not `same`; further ones of a case,
    where it moved and how to measure it again below. `called` has other words for verdicts."""
    changed = [comparison for comparison in comparisons if comparison.verdict != "same"]
    if not changed:
        return
    rows = {case: msgspec.structs.asdict(case) for case in dict.fromkeys(comparison.case for comparison in changed)}
    axes = settings.varying(list(rows.values()))
    yield from _wrapped(settings.sentence(list(rows.values())))
    for case, of_case in itertools.groupby(changed, key=lambda comparison: comparison.case):
        name = settings.which(rows[case], axes)
        for verdict, alike in itertools.groupby(of_case, key=lambda comparison: comparison.verdict):
            yield from _group(list(alike), f"{called.get(verdict, verdict)}: {name}")
        if case in reruns:
            yield f"  again: {reruns[case]}"


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


def line(of: Comparison, begin: str | None = None) -> str:
    """One verdict: `worse: bdia depth=12: activation_bytes 6,731,776 → 7,518,208 bytes (+11.68%)`. Without another
    beginning it has the whole label of the case."""
    over = " over depth" if of.metric == "bits_per_activation" else ""
    return f"{begin or f'{of.verdict}: {of.case.label()}'}{over}: {_change(of)}"


def updated(path: str, done: Update) -> Iterator[str]:
    """What `--update` changed, and which cases the baseline has as failing."""
    failed = [Comparison(one.case(), None, "new", None, one.status) for one in done.failed]
    yield from told(failed if done.created else done.changes, {}, _RENEWED)
    said = [f"{path}: {units.cases(done.cases)} written"]
    said += [f"{len(done.failed)} of them failed"] if done.failed else []
    said += [counted(done.changes, _RENEWED)] if done.changes else []
    if done.lines:
        more = "more " if done.changes else ""
        said.append(f"{words.counted(done.lines, more + 'line')} changed, nothing worse or better")
    if done.others:
        others = words.counted(done.others, "other environment")
        said.append(f"{others} left as {'it is' if done.others == 1 else 'they are'}")
    yield ", ".join(said)


def _wrapped(sentence: str) -> Iterator[str]:
    """Settings in lines of a terminal's width, broken only between two of them."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    unbroken = sentence.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}", " · ")
    yield from (part.replace("\N{NO-BREAK SPACE}", " ") for part in textwrap.wrap(unbroken, max(width, WIDTH // 2)))


def _group(alike: Sequence[Comparison], begin: str) -> Iterator[str]:
    """The verdicts of one kind on one case, the first with that beginning; what they say alike is said once, below the
    last."""
    said = [tuple(details(comparison)) for comparison in alike]
    for number, comparison in enumerate(alike):
        yield line(comparison, begin) if number == 0 else f"  and {_change(comparison)}"
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
