"""What `check` prints for people: a line a verdict that is not `same`, where it moved, and how to measure it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from bench.baseline import Update
from bench.check import Verdicts
from bench.compare import Comparison, counted
from reports import units, values


def lines(verdicts: Verdicts) -> Iterator[str]:
    """The report of one check; what is the same is only counted."""
    told = [comparison for comparison in verdicts.comparisons if comparison.verdict != "same"]
    for comparison, following in zip(told, [*told[1:], None], strict=True):
        yield line(comparison)
        yield from (f"  {detail}" for detail in _details(comparison))
        again = verdicts.reruns.get(comparison.case)
        if again is not None and (following is None or following.case != comparison.case):
            yield f"  measure it again: {again}"
    if verdicts.mismatch:
        yield f"compared all the same with another environment: {'; '.join(verdicts.mismatch)}"
    if verdicts.ungated:
        yield f"not in the baseline yet, so not compared: {', '.join(verdicts.ungated)}; --update adds it"
    yield f"{verdicts.run} against {verdicts.baseline}: {verdicts.counted}"


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
    what = "" if of.metric is None else f"{of.metric} "
    return f"{of.verdict}: {of.case.label()}: {what}{values.change(of)}"


def updated(path: str, done: Update) -> Iterator[str]:
    """What `--update` changed."""
    yield from (line(change) for change in done.changes)
    said = [f"{path}: {units.cases(done.cases)} written"]
    if done.others and done.created:
        said.append("an environment of their own")
    said += [counted(done.changes)] if done.changes else []
    if done.lines:
        more = "more " if done.changes else ""
        said.append(f"{done.lines} {more}line{'' if done.lines == 1 else 's'} changed, nothing worse or better")
    if done.others:
        others = f"{done.others} other environment{'' if done.others == 1 else 's'}"
        said.append(f"{others} left as {'it is' if done.others == 1 else 'they are'}")
    yield ", ".join(said)


def _details(of: Comparison) -> Iterator[str]:
    yield from (values.moved(move) for move in of.named)
    if of.block is not None:
        yield f"goes wrong first in block {of.block}"
    if of.note:
        yield of.note
