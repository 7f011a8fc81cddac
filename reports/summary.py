"""The verdict of the gate as Markdown, for `$GITHUB_STEP_SUMMARY`.

What comes from outside, the names of cases among it, is code in which every character that Markdown or HTML gives a
meaning is an entity, so that no name can end a cell, a table or an element.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import words
from bench.check import Verdicts
from bench.comparison import Comparison
from bench.tolerance import BYTES
from reports import phrases, units, values

LIMIT_BYTES: Final = 1_000_000
"""GitHub throws a step's whole summary away where it is larger than 1 MiB."""
_RESERVE_BYTES: Final = 2_000
"""For the line that says what was left out."""
_ENDS_BYTES: Final = 300
"""How much of the name of a run or a baseline the headline has room for."""
_HEAD: Final = (
    "| verdict | case | metric | old | new | change | part | block |\n"
    "| --- | --- | --- | ---: | ---: | ---: | --- | --- |\n"
)  # fmt: skip


@dataclass(frozen=True)
class _Section:
    """A part of the page that may be cut between its rows, and stays whole all the same."""

    what: str
    """Of what it has rows."""
    head: str
    count: int
    rows: Iterable[str]
    """So many; made as they are taken, as a page has no room for those of a large suite."""
    foot: str = "\n"


def markdown(verdicts: Verdicts, *, advice: str = "", limit_bytes: int = LIMIT_BYTES) -> str:
    """The whole page, of at most `limit_bytes`: what does not fit is left out from the end, and counted in a last line.

    Args:
        advice: what to do about improvements.
    """
    page = _headline(verdicts)
    left_out: list[str] = []
    for section in _sections(verdicts, advice):
        room = limit_bytes - _RESERVE_BYTES - _size(page, section.head, section.foot)
        kept = list(_fitting(section.rows, room))
        if kept:
            page += section.head + "".join(kept) + section.foot
        if len(kept) < section.count:
            left_out.append(f"{section.count - len(kept)} of {section.count} {section.what}")
    if left_out:
        page += f"\nLeft out, since GitHub takes no larger summary: {', '.join(left_out)}. The log has them all.\n"
    return page


def append(path: Path, verdicts: Verdicts, *, advice: str = "") -> None:
    """Adds the page to a summary, within the limit that holds for all that a step writes there.

    Raises: OSError where it cannot be appended to, or is full.
    """
    held = path.stat().st_size if path.exists() else 0
    least = _size(_headline(verdicts)) + _RESERVE_BYTES
    if held + least > LIMIT_BYTES:
        raise OSError(f"{path} holds {units.size(held)} already, and GitHub takes no more")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if held else "") + markdown(verdicts, advice=advice, limit_bytes=LIMIT_BYTES - held - 1))


def _headline(verdicts: Verdicts) -> str:
    count = len(verdicts.regressions)
    title = "passed" if verdicts.passed else words.counted(count, "regression")
    run, baseline = (_code(_shortened(name)) for name in (verdicts.run, verdicts.baseline))
    page = f"## Memory gate: {title}\n\n{run} against {baseline}: {verdicts.counted or 'nothing to compare'}.\n\n"
    if verdicts.mismatch:
        differing = _code(_shortened("; ".join(verdicts.mismatch)))
        page += f"> The environments differ, which was allowed: {differing}\n\n"
    if verdicts.ungated:
        page += f"Not in the baseline yet, so not compared: {_code(', '.join(verdicts.ungated))}\n\n"
    if verdicts.lineless:
        told = _code(_shortened(values.series(verdicts.lineless, 1)))
        page += f"On no line in depth in the baseline, so `{values.LAW}` is not compared: {told}\n\n"
    return page


def _sections(verdicts: Verdicts, advice: str) -> Iterable[_Section]:
    """The parts of the page, what matters most first."""
    bad, good = verdicts.regressions, verdicts.improvements
    new = [comparison for comparison in verdicts.comparisons if comparison.verdict == "new"]
    same = [comparison for comparison in verdicts.comparisons if comparison.verdict == "same"]
    yield _Section("regressions", "### Regressions\n\n" + _HEAD, len(bad), map(_row, bad))
    commands = dict.fromkeys(
        verdicts.reruns[comparison.case] for comparison in bad if comparison.case in verdicts.reruns
    )
    lines = [f"{phrases.printable(command)}\n" for command in commands]
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", "".join(lines)) or ["``"]))
    head = f"Measure {'it' if len(lines) == 1 else 'them'} again:\n\n{fence}console\n"
    yield _Section("commands", head, len(lines), lines, f"{fence}\n\n")
    said = f"\n{_escaped(phrases.printable(advice))}\n\n" if advice else "\n"
    yield _Section("improvements", "### Improvements\n\n" + _HEAD, len(good), map(_row, good), said)
    yield _Section("new", "### New, with nothing to compare with\n\n" + _HEAD, len(new), map(_row, new))
    summary = f"<details><summary>{len(same)} unchanged</summary>\n\n| case | metric | value |\n| --- | --- | --- |\n"
    yield _Section("unchanged", summary, len(same), map(_short_row, same), "\n</details>\n")


def _row(comparison: Comparison) -> str:
    named = comparison.named if comparison.regression or comparison.improvement else ()
    part = "<br>".join(move.part for move in named)
    block = "<br>".join(phrases.blocks(move) for move in named)
    if comparison.block is not None:
        block = str(comparison.block)
    verdict = f"{comparison.verdict}; {comparison.note}" if comparison.note else comparison.verdict
    old, new = (_escaped(values.value(comparison.metric, end)) for end in (comparison.old, comparison.new))
    case = _code(phrases.printable(comparison.case.label()))
    cells = (verdict, case, comparison.what, old, new, _escaped(_change(comparison)), part, block)
    return f"| {' | '.join(cells)} |\n"


def _short_row(comparison: Comparison) -> str:
    """What counts as the same: one value, or two within the tolerance."""
    equal = comparison.old == comparison.new
    value = values.value(comparison.metric, comparison.new) if equal else values.change(comparison)
    case = _code(phrases.printable(comparison.case.label()))
    return f"| {case} | {comparison.what} | {_escaped(value)} |\n"


def _change(comparison: Comparison) -> str:
    """By how much, where that is a number."""
    old, new = comparison.old, comparison.new
    if comparison.metric in BYTES and isinstance(old, int) and isinstance(new, int):
        return units.change(old, new)
    if comparison.metric == "bits_per_activation" and isinstance(old, float) and isinstance(new, float):
        return units.difference(new - old)
    return ""


def _code(text: str) -> str:
    """`text` as code. The element rather than backticks: within a table's backticks a pipe still ends the cell."""
    return f"<code>{_escaped(text)}</code>"


def _escaped(text: str) -> str:
    """Every punctuation mark that could mean something as an entity, which can begin and end nothing."""
    return re.sub(r"[!\"#$&'*:;<>?@\[\\\]^_`{|}~]", lambda found: f"&#{ord(found[0])};", text)


def _shortened(name: str) -> str:
    shown = phrases.printable(name)
    return shown if _size(shown) <= _ENDS_BYTES else shown[: _ENDS_BYTES // 4] + "…"


def _fitting(rows: Iterable[str], room: int) -> Iterator[str]:
    """The first rows that take at most `room` bytes together."""
    for row in rows:
        room -= _size(row)
        if room < 0:
            return
        yield row


def _size(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)
