"""The starts of a run, as its `run.json` tells of them. Pure functions; no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from bench import private
from bench.case import Case
from bench.record import SCHEMA_VERSION


class Resumption(msgspec.Struct, frozen=True, kw_only=True):
    """A later start that measured something."""

    started: str
    arguments: list[str]
    environment: dict[str, Any]
    """What of it differs from the run's; empty where nothing does."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What `run.json` says: the first start, as long as something that it measured stands, and those that followed."""

    schema_version: int = SCHEMA_VERSION
    suite: str
    title: str = ""
    question: str = ""
    expect: str = ""
    started: str
    """ISO 8601 in UTC."""
    arguments: list[str]
    """The command line after the program's name."""
    environment: dict[str, Any]
    """`bench.environment.Environment` as plain values."""
    resumed: list[Resumption] = []
    planned: list[str] = []
    """As long as a start has not come to its end: the cases that it was to measure, as `Case.text` has them."""
    predicted: bool = False
    """Nothing was measured: what its records hold is predicted."""
    tolerance: dict[str, str] = {}
    """What the suite said of how far its figures may lie from a baseline, as `bench.tolerance` reads it."""


def planned(cases: Iterable[Case]) -> list[str]:
    """`Run.planned` of a start that is to measure `cases`."""
    return [private.case(case).text() for case in cases]


def absent(run: Run, held: Iterable[Case]) -> list[str]:
    """Those of the planned cases that have no record among `held`."""
    if not run.planned:
        return []
    measured = {case.text() for case in held}
    return [text for text in run.planned if text not in measured]


def ended(run: Run, held: Iterable[Case]) -> Run:
    """`run` once its latest start has come to its end: what an earlier one was to measure may be left to do."""
    return msgspec.structs.replace(run, planned=absent(run, held))


def continued(run: Run, latest: Run, *, alone: bool) -> Run:
    """`run`, gone on with by `latest`; `alone` where nothing stands of what earlier starts have measured."""
    planned = list(dict.fromkeys([*run.planned, *latest.planned]))
    if alone:
        return msgspec.structs.replace(latest, planned=planned)
    names = [*latest.environment, *(name for name in run.environment if name not in latest.environment)]
    differing = {
        name: latest.environment.get(name)
        for name in names
        if latest.environment.get(name) != run.environment.get(name)
    }
    resumption = Resumption(started=latest.started, arguments=latest.arguments, environment=differing)
    return msgspec.structs.replace(run, resumed=[*run.resumed, resumption], planned=planned)
