"""The baseline of the CI gate: a small JSON file, one case a line, sorted, to be committed and reviewed.

It may hold several environments: what decides the bytes (device, card, torch, threads), never the host or its CPU. A
run renews the cases of its own and leaves the others as they are, byte for byte. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench import compare, files
from bench.case import Case
from bench.comparison import Comparison, Measured, by_case
from bench.entry import Entry, entry, order, renewed
from bench.environment import EnvironmentKey, differences
from bench.errors import BaselineError, NothingMeasuredError, UsageError
from bench.record import SCHEMA_VERSION, UNMEASURED, UNREADABLE
from bench.tolerance import Tolerances

_BY_WEIGHT: Final = ("schema_version", "device", "gpu_name", "torch", "threads")
"""What keeps environments apart, the weightiest first."""


@dataclass(frozen=True)
class Section:
    """The cases of one environment."""

    environment: EnvironmentKey
    cases: tuple[Entry, ...]
    text: str
    """As it stands in the file: a case a line."""
    tells_verification: bool = True
    """False of a file from before entries said whether every rebuilt activation was checked."""

    def rates(self) -> dict[Case, float]:
        """The rate ratios it holds."""
        return {one.case(): one.rate_ratio for one in self.cases if one.rate_ratio is not None}


@dataclass(frozen=True)
class Baseline:
    """The whole file."""

    sections: tuple[Section, ...]

    def of(self, environment: EnvironmentKey) -> Section | None:
        """The section whose bytes can be compared with those of `environment`."""
        return next((one for one in self.sections if not differences(one.environment, environment)), None)

    def nearest(self, environment: EnvironmentKey) -> Section:
        """The section of that environment or, where there is none, of the one most like it."""

        def distance(section: Section) -> tuple[bool, ...]:
            return tuple(section.environment.get(name) != environment.get(name) for name in _BY_WEIGHT)

        return min(self.sections, key=distance)

    def text(self) -> str:
        """The file's text. The same run gives the same text, and a changed case is one changed line."""
        ordered = sorted(self.sections, key=lambda section: _heading(section.environment))
        sections = ",\n".join(section.text for section in ordered)
        return f'{{\n"schema_version": {SCHEMA_VERSION},\n"environments": [\n{sections}\n]\n}}\n'


@dataclass(frozen=True)
class Update:
    """What writing a baseline did."""

    created: bool
    """There was no baseline of this environment before."""
    cases: int
    failed: tuple[Entry, ...]
    """Its cases that failed, and will pass as long as they do."""
    changes: tuple[Comparison, ...]
    """The old one against the new one, without what stays the same; empty where `created`."""
    lines: int
    """Lines that change though no verdict does: a breakdown that is new, say."""
    others: int
    """Environments in the file beside this one, which are left as they are."""


def of_run(
    measured: Iterable[Measured], environment: EnvironmentKey, rates: Mapping[Case, float] | None = None
) -> Section:
    """The section that a run makes, sorted by case. Where a case occurs twice, the last one counts.

    Raises: NothingMeasuredError where the run holds no record.
    """
    entries = {case: entry(one, None if rates is None else rates.get(case)) for case, one in by_case(measured).items()}
    if not entries:
        raise NothingMeasuredError("the run holds no record, so there is nothing to compare: measure first")
    return _section(environment, sorted(entries.values(), key=order))


def read(path: Path) -> Baseline:
    """The baseline in `path`, also one of the older format, which held one environment.

    Raises: BaselineError where there is none, or it is not one that this version reads.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BaselineError(f"no baseline {path} ({error.strerror}): write one with --update") from error
    try:
        version = msgspec.json.decode(raw, type=_Versioned).schema_version
        sections = _sections(raw) if version == SCHEMA_VERSION else ()
    except UNREADABLE as error:
        raise BaselineError(
            f"{path} is not a baseline ({error}): name another file, or write a new one with --update"
        ) from error
    if version != SCHEMA_VERSION:
        raise BaselineError(
            f"baseline {path} has schema version {version}, expected {SCHEMA_VERSION}: "
            "remove it and write one with --update"
        )
    _refuse_twins(path, sections)
    return Baseline(sections)


def update(
    path: Path,
    records: Iterable[Measured],
    environment: EnvironmentKey,
    rates: Mapping[Case, float] | None = None,
) -> Update:
    """Makes the run the baseline of its environment in `path`, in one step: a reader sees the old file or the new one.

    Rate ratios are renewed where `rates` are given, and kept where they are not. An error that is the same but for the
    noise of rounding is kept as well, so that only lines change of which something can be said.

    Raises: BaselineError where the file there is no baseline, so that a slip of the pen overwrites nothing;
    NothingMeasuredError for an empty run; UsageError where the file cannot be written.
    """
    new = of_run(records, environment, rates)
    before = read(path).sections if path.exists() else ()
    old = Baseline(before).of(environment)
    others = tuple(one for one in before if one is not old)
    failed = tuple(one for one in new.cases if one.status in UNMEASURED)
    if old is None:
        _replace(path, Baseline((*others, new)).text())
        return Update(True, len(new.cases), failed, changes=(), lines=0, others=len(others))
    was = {one.case(): one for one in old.cases}
    now = {one.case(): one for one in new.cases}
    now = {case: renewed(was.get(case), one, rates is not None) for case, one in now.items()}
    new = _section(environment, list(now.values()))
    _replace(path, Baseline((*others, new)).text())
    compared = compare.between(was, now, Tolerances(), compare.Rates(old.rates(), new.rates()))
    changes = tuple(comparison for comparison in compared if comparison.verdict != "same")
    told = {comparison.case for comparison in changes}
    changed = sum(one != was.get(case) for case, one in now.items() if case not in told)
    return Update(False, len(new.cases), failed, changes=changes, lines=changed, others=len(others))


class _Versioned(msgspec.Struct, frozen=True):
    schema_version: int


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema_version: int
    environments: list[msgspec.Raw]


class _Cases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    environment: dict[str, str | int | None]
    cases: tuple[Entry, ...]


class _OlderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema_version: int
    environment: dict[str, str | int | None]
    cases: list[msgspec.Raw]


def _sections(raw: bytes) -> tuple[Section, ...]:
    """The sections of a file. What is not touched is written back as it was, so their texts are kept."""
    if "environments" not in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]):
        older = msgspec.json.decode(raw, type=_OlderFile)
        cases = tuple(msgspec.json.decode(one, type=Entry) for one in older.cases)
        text = _text(older.environment, (bytes(one).decode() for one in older.cases))
        return (Section(older.environment, cases, text, tells_verification=False),)
    texts = [bytes(one) for one in msgspec.json.decode(raw, type=_File).environments]
    found = [(msgspec.json.decode(text, type=_Cases), text.decode()) for text in texts]
    return tuple(Section(one.environment, one.cases, text) for one, text in found)


def _section(environment: EnvironmentKey, entries: Sequence[Entry]) -> Section:
    lines = (msgspec.json.format(msgspec.json.encode(one), indent=0).decode() for one in entries)
    return Section(environment, tuple(entries), _text(environment, lines))


def _text(environment: EnvironmentKey, lines: Iterable[str]) -> str:
    cases = ",\n".join(lines)
    return f'{{"environment": {_heading(environment)}, "cases": [\n{cases}\n]}}'


def _heading(environment: EnvironmentKey) -> str:
    return json.dumps(dict(environment), sort_keys=True)


def _refuse_twins(path: Path, sections: Sequence[Section]) -> None:
    """A merge that kept both sides leaves an environment or a case twice, and only one of them would count."""
    cure = "remove one of the two"
    headings: set[str] = set()
    for one in sections:
        heading = _heading(one.environment)
        if heading in headings:
            raise BaselineError(f"baseline {path} holds the environment {heading} twice: {cure}")
        headings.add(heading)
        cases: set[Case] = set()
        for case in (held.case() for held in one.cases):
            if case in cases:
                raise BaselineError(f"baseline {path} holds {case.label()} twice: {cure}")
            cases.add(case)


def _replace(path: Path, text: str) -> None:
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        files.replace(target, text.encode())
    except OSError as error:
        raise UsageError(
            f"cannot write the baseline {path} ({error.strerror}): name a file in a folder you can write"
        ) from error
