"""The baseline of the CI gate: a small JSON file, one case a line, sorted, to be committed and reviewed.

It holds for one environment: what decides the bytes (device, card, torch, threads), never the host or its
CPU. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench import compare, store
from bench.case import Case
from bench.environment import Environment
from bench.environment import key as environment_key
from bench.errors import BaselineError, NothingMeasuredError, UsageError
from bench.record import SCHEMA_VERSION, Record, Status

EnvironmentKey = Mapping[str, str | int | None]
"""What two environments must share for their bytes to be compared."""


class Entry(Case, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gate remembers of one case."""

    status: Status
    activation_bytes: int | None
    peak_bytes: int | None
    side_bytes: int | None

    def case(self) -> Case:
        """The case this entry is of."""
        return Case(**{name: getattr(self, name) for name in Case.__struct_fields__})


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    schema_version: int = SCHEMA_VERSION
    environment: dict[str, str | int | None]
    cases: tuple[Entry, ...]

    def text(self) -> str:
        """The file's text. The same run gives the same text, and a changed case is one changed line."""
        cases = ",\n".join(json.dumps(msgspec.to_builtins(entry)) for entry in self.cases)
        environment = json.dumps(self.environment, sort_keys=True)
        version = f'"schema_version": {self.schema_version}'
        return f'{{\n{version},\n"environment": {environment},\n"cases": [\n{cases}\n]\n}}\n'


@dataclass(frozen=True)
class StoredRun:
    """A run's directory, as far as it is compared."""

    records: list[Record]
    about: dict[str, Any]
    """What its `run.json` says."""
    environment: EnvironmentKey
    suite: str
    """The word that names its suite on the command line."""
    messages: list[str]
    """One line for each line of its results that had to be left out, and for each way in which a later start was
    in another environment."""

    @property
    def verified(self) -> bool:
        """Whether it was run with `--verify`."""
        return any(record.verify for record in self.records)


@dataclass(frozen=True)
class EnvironmentChange:
    """One thing in which the environment of a baseline becomes another."""

    name: str
    old: str | int | None
    new: str | int | None

    @property
    def verdict(self) -> str:
        """What it counts as."""
        return "environment changed"

    def __str__(self) -> str:
        """One line, as a `Comparison` has it."""
        return f"{self.verdict}: {self.name} {self.old} -> {self.new}"


@dataclass(frozen=True)
class Update:
    """What writing a baseline did."""

    created: bool
    """There was no baseline before."""
    cases: int
    changes: tuple[compare.Comparison | EnvironmentChange, ...]
    """The old one against the new one, without what stays the same; empty where `created`. Of a baseline of another
    environment, what makes it another: its bytes cannot be compared."""


def load(directory: Path) -> StoredRun:
    """The run in `directory`.

    Raises: UsageError where there is none, or not all of it; NothingMeasuredError where it holds no record.
    """
    stored, run = store.read(directory), store.read_run(directory)
    if run is None:
        raise UsageError(f"{directory}: no {store.RUN} there, so what it ran on is not known; give a run's --out")
    if not stored.records:
        raise NothingMeasuredError(f"{directory} holds no record yet: go on with it by run --out DIR --resume")
    try:
        ran_on = msgspec.convert(run.environment, Environment)
    except msgspec.ValidationError as error:
        raise UsageError(f"{directory / store.RUN}: not a run's environment ({error}); measure again") from error
    suite = next((word for word in run.arguments if word.endswith(".toml")), run.suite)
    key = environment_key(ran_on)
    messages = [*stored.messages, *_mixed(directory, run, key)]
    return StoredRun(stored.records, msgspec.to_builtins(run), key, suite, messages)


def of_run(records: Iterable[compare.Measured], environment: EnvironmentKey) -> Baseline:
    """The baseline that a run makes, sorted by case. Where a case occurs twice, the last record counts.

    Raises: NothingMeasuredError where the run holds no record.
    """
    entries = {record.case(): _entry(record) for record in records}
    if not entries:
        raise NothingMeasuredError("the run holds no record, so there is nothing to compare: measure first")
    return Baseline(environment=dict(environment), cases=tuple(sorted(entries.values(), key=_order)))


def read(path: Path) -> Baseline:
    """The baseline in `path`.

    Raises: BaselineError where there is none, or it is not one that this version reads.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BaselineError(f"no baseline {path} ({error.strerror}): write one with --update") from error
    try:
        version = msgspec.json.decode(raw, type=_Versioned).schema_version
        if version == SCHEMA_VERSION:
            return msgspec.json.decode(raw, type=Baseline)
    except msgspec.DecodeError as error:
        raise BaselineError(
            f"{path} is not a baseline ({error}): name another file, or remove it and write one with --update"
        ) from error
    raise BaselineError(
        f"baseline {path} has schema version {version}, expected {SCHEMA_VERSION}: "
        "remove it and write one with --update"
    )


def check(
    path: Path,
    records: Iterable[compare.Measured],
    environment: EnvironmentKey,
    tolerance: compare.Tolerance = compare.EXACT,
) -> list[compare.Comparison]:
    """The run against the baseline in `path`: one verdict a case and metric.

    Raises: BaselineError where there is no baseline, or one of another environment; NothingMeasuredError for
    an empty run.
    """
    baseline = read(path)
    run = of_run(records, environment)
    differing = differences(baseline.environment, run.environment)
    if differing:
        raise BaselineError(
            f"baseline {path} is of another environment ({'; '.join(differing)}): "
            "measure in that one, or write a baseline for this one with --update to a file of its own"
        )
    return compare.compare(baseline.cases, run.cases, tolerance)


def update(path: Path, records: Iterable[compare.Measured], environment: EnvironmentKey) -> Update:
    """Makes the run the baseline in `path`, in one step: a reader sees the old file or the new one.

    Raises: BaselineError where the file there is no baseline, so that a slip of the pen overwrites nothing;
    NothingMeasuredError for an empty run; UsageError where the file cannot be written.
    """
    renewed = of_run(records, environment)
    old = read(path) if path.exists() else None
    _replace(path, renewed.text())
    if old is None:
        return Update(created=True, cases=len(renewed.cases), changes=())
    moved = tuple(EnvironmentChange(*values) for values in _differing(old.environment, renewed.environment))
    if moved:
        return Update(created=False, cases=len(renewed.cases), changes=moved)
    comparisons = compare.compare(old.cases, renewed.cases)
    changes = tuple(comparison for comparison in comparisons if comparison.verdict != "same")
    return Update(created=False, cases=len(renewed.cases), changes=changes)


def differences(old: EnvironmentKey, new: EnvironmentKey, where: tuple[str, str] = ("there", "here")) -> list[str]:
    """Where two environments differ, one phrase a name; empty where they can be compared."""
    return [f"{name} {was} {where[0]}, {now} {where[1]}" for name, was, now in _differing(old, new)]


def _differing(old: EnvironmentKey, new: EnvironmentKey) -> list[tuple[str, str | int | None, str | int | None]]:
    """The names of which two environments say different things, and what each says."""
    names = sorted(old.keys() | new.keys())
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def _mixed(directory: Path, run: store.Run, key: EnvironmentKey) -> list[str]:
    """What is to be said of a run that was gone on with where bytes cannot be compared with its first ones."""
    said: dict[str, None] = {}
    for later in run.resumed:
        other = environment_key(msgspec.convert(run.environment | later.environment, Environment))
        for difference in differences(key, other, ("at first", "later")):
            said[f"{directory} was measured in more than one environment: {difference}"] = None
    return list(said)


class _Versioned(msgspec.Struct, frozen=True):
    schema_version: int


def _entry(measured: compare.Measured) -> Entry:
    return Entry(
        **msgspec.structs.asdict(measured.case()),
        status=measured.status,
        activation_bytes=measured.activation_bytes,
        peak_bytes=measured.peak_bytes,
        side_bytes=measured.side_bytes,
    )


def _order(entry: Entry) -> tuple[tuple[bool, object], ...]:
    """By the case's axes in turn; a case without an axis comes before one that has it."""
    values = (getattr(entry, name) for name in Case.__struct_fields__)
    return tuple((value is not None, value) for value in values)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write the baseline {path} ({error.strerror}): name a file in a folder you can write"
        ) from error
