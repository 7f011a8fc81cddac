"""A run that is done, as it is read back to be reported, compared or predicted. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench import rerun, starts, store
from bench.environment import Environment, EnvironmentKey, differences
from bench.environment import key as environment_key
from bench.errors import BaselineError, NothingMeasuredError, UsageError
from bench.record import Record


@dataclass(frozen=True)
class StoredRun:
    """A run's directory, as far as it is compared."""

    records: list[Record]
    about: dict[str, Any]
    """What its `run.json` says."""
    environment: EnvironmentKey
    suite: str
    """The word that names its suite on the command line."""
    tolerance: Mapping[str, str]
    """What that suite said when it was run."""
    messages: list[str]
    """One line for each line of its results that had to be left out, for each way in which a later start was in
    another environment, and one where not all is measured."""
    absent: Sequence[str] = ()
    """The cases that are still to be measured, as `Case.text` has them."""
    going_on: str = ""
    """The command that does so."""


def load(directory: Path, *, predicted: bool = False) -> StoredRun:
    """The run in `directory`; with `predicted` also one whose figures are.

    Raises: UsageError where there is none, or not all of it; NothingMeasuredError where it holds no record;
    BaselineError for figures that are predicted, where measured ones are meant.
    """
    if directory.exists() and not directory.is_dir() and directory.name != store.RESULTS:
        where = f"here {directory.parent}" if directory.name == store.RUN else f"the folder with its {store.RESULTS}"
        raise UsageError(f"{directory} is a file: expected the directory of a run, its --out; give {where}")
    stored, run = store.read(directory), store.read_run(directory)
    if run is None:
        raise UsageError(f"{directory}: no {store.RUN} there, so what it ran on is not known; give a run's --out")
    if not predicted and (run.predicted or any(record.predicted for record in stored.records)):
        raise BaselineError(
            f"{directory} holds what was predicted, and nothing measured: see both by predict SUITE --against RUN"
        )
    if not stored.records:
        raise NothingMeasuredError(f"{directory} holds no record yet: go on with it by run --out DIR --resume")
    try:
        ran_on = msgspec.convert(run.environment, Environment)
    except msgspec.ValidationError as error:
        raise UsageError(f"{directory / store.RUN}: not a run's environment ({error}); measure again") from error
    suite = next((word for word in run.arguments if word.endswith(".toml")), run.suite)
    key = environment_key(ran_on)
    absent = starts.absent(run, stored.records)
    going_on = rerun.going_on((run.resumed[-1] if run.resumed else run).arguments, directory)
    messages = [*stored.messages, *_mixed(directory, run, key)]
    if absent:
        messages.append(f"{directory} lacks {len(absent)} of the cases that it is of; go on with: {going_on}")
    about = msgspec.to_builtins(run)
    return StoredRun(stored.records, about, key, suite, run.tolerance, messages, absent, going_on)


def _mixed(directory: Path, run: store.Run, key: EnvironmentKey) -> list[str]:
    """What is to be said of a run that was gone on with where bytes cannot be compared with its first ones."""
    said: dict[str, None] = {}
    for later in run.resumed:
        other = environment_key(msgspec.convert(run.environment | later.environment, Environment))
        for difference in differences(key, other, ("at first", "later")):
            said[f"{directory} was measured in more than one environment: {difference}"] = None
    return list(said)
