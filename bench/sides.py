"""The two sides of a comparison: directories of runs, or files of baselines, in any mix. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import baseline, rates, store, stored_run
from bench import environment as environments
from bench.baseline import Baseline
from bench.case import Case
from bench.comparison import Measured
from bench.environment import EnvironmentKey
from bench.errors import BaselineError
from bench.stored_run import StoredRun


@dataclass(frozen=True)
class Side:
    """One side."""

    name: str
    """As it was given."""
    measured: Sequence[Measured]
    environment: EnvironmentKey
    run: StoredRun | None
    """None of a baseline."""
    messages: Sequence[str]
    """A line each for what had to be left out."""
    rates: Mapping[Case, float]


def pair(base: Path, head: Path) -> tuple[Side, Side]:
    """Both sides. Of a baseline of several environments, the one that the other side is of or is most like.

    Raises: UsageError where there is neither a run nor a file; NothingMeasuredError for a run without records;
    BaselineError for a file that is no baseline.
    """
    old, new = _read(base), _read(head)
    if isinstance(old, Baseline) and isinstance(new, Baseline):
        first = next((one for one in old.sections if new.of(one.environment)), old.sections[0])
        return _of_baseline(base, old, first.environment), _of_baseline(head, new, first.environment)
    if isinstance(old, Baseline):
        assert isinstance(new, StoredRun)
        return _of_baseline(base, old, new.environment), _of_run(head, new)
    if isinstance(new, Baseline):
        return _of_run(base, old), _of_baseline(head, new, old.environment)
    return _of_run(base, old), _of_run(head, new)


def remarks(old: Side, new: Side) -> list[str]:
    """What had to be left out of both, and in what their environments differ, a line each."""
    differing = environments.differences(old.environment, new.environment, (f"in {old.name}", f"in {new.name}"))
    return [*old.messages, *new.messages, *(f"not the same environment: {difference}" for difference in differing)]


def _read(path: Path) -> Baseline | StoredRun:
    if not path.is_file() or path.name == store.RESULTS:
        return stored_run.load(path)
    found = baseline.read(path)
    if not found.sections:
        raise BaselineError(f"baseline {path} holds no environment: write one with check --update")
    return found


def _of_run(path: Path, run: StoredRun) -> Side:
    return Side(str(path), run.records, run.environment, run, run.messages, rates.ratios(run.records))


def _of_baseline(path: Path, found: Baseline, like: EnvironmentKey) -> Side:
    section = found.nearest(like)
    others = len(found.sections) - 1
    said = ", ".join(f"{name} {value}" for name, value in section.environment.items() if value is not None)
    messages = [f"{path} holds {others + 1} environments; taken: {said}"] if others else []
    return Side(str(path), section.cases, section.environment, None, messages, section.rates())
