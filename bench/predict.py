"""From what was asked for to a run whose memory is predicted, and the measured cases beside it. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bench import axes, probe, resolve, session, store, stored_run, suite
from bench.case import Case, Plan
from bench.errors import UsageError
from bench.record import Record
from bench.session import THREADS, Session
from bench.stored_run import StoredRun


@dataclass(frozen=True)
class Pair:
    """One case, predicted and measured."""

    predicted: Record
    measured: Record


def prepare(request: session.Request) -> Session:
    """Everything that can go wrong before anything is predicted or written. A directory of a run in place of a suite
    stands for the cases that were measured there.

    Raises: as `session.prepare` does; UsageError as well where there is no case whose memory could be predicted.
    """
    with session.preparing("nothing was predicted yet"):
        return _prepare(replace(request, predicted=True))


def _prepare(request: session.Request) -> Session:
    if request.out is None and request.resume:
        raise UsageError("--resume goes on with a run: name its directory with --out")
    overrides, asked = session.parsed(request.axes)
    # No card is needed to predict what is for one.
    environment = probe.probe("auto" if asked == "cuda" else asked, threads=THREADS)
    device = environment.device if asked == "auto" else asked
    if is_run(request.suite):
        chosen, found = _of_run(request)
    else:
        chosen = suite.load(request.suite, replaced=request.axes)
        introduced = probe.introduce(chosen.models(overrides))
        found = chosen.plans(overrides, device, request.data, introduced)
    plans = [_of_memory_alone(plan) for plan in _apart(found)]
    if not plans:
        raise UsageError(f"{chosen.file} measures no memory, so there is none to predict; choose another suite")
    default = Path("results") / f"{chosen.name}-predicted-{time.strftime('%Y%m%d-%H%M%S')}"
    return Session(request, chosen, environment, plans, request.out or default)


def is_run(name: str) -> bool:
    """Whether what stands in a suite's place is the directory of a run."""
    return (Path(name) / store.RUN).is_file()


def _of_run(request: session.Request) -> tuple[suite.Suite, list[Plan]]:
    if request.axes:
        option = axes.get(next(iter(request.axes))).option
        raise UsageError(f"{option}: {request.suite} is a run, whose cases are what they are; name a suite instead")
    directory = Path(request.suite)
    run = stored_run.load(directory)
    described = store.read_run(directory)
    assert described is not None
    chosen = suite.Suite(
        name=described.suite, file=str(directory), title=described.title, question=described.question,
        expect=described.expect, rounds=1, warmup=1, cpu=(), gpu=(), blocks=(), tolerance=dict(described.tolerance),
    )  # fmt: skip
    if any(record.experiment is not None for record in run.records):
        raise UsageError(
            f"{directory} is a training run, whose arms have recipes that no prediction follows; name a suite instead"
        )
    measured = [record for record in run.records if record.activation_bytes is not None]
    return chosen, [Plan(record.case(), frozenset({"memory"}), record.verify) for record in measured]


def _of_memory_alone(plan: Plan) -> Plan:
    """What is predicted of it; why nothing can be, of a method whose saving is made on a card."""
    needs = resolve.method(plan.case.method).needs
    if needs is None or plan.unsupported is not None:
        return msgspec.structs.replace(plan, measure=plan.measure & {"memory"})
    reason = f"what {plan.case.method} moves off a card's memory is known on one alone; measure it there by run"
    return msgspec.structs.replace(plan, measure=frozenset(), unsupported=reason)


def _apart(plans: Iterable[Plan]) -> list[Plan]:
    """The plans whose memory can differ: of those that differ in nothing that memory depends on, the first."""
    first: dict[Case, Plan] = {}
    for plan in plans:
        if "memory" in plan.measure or plan.unsupported:
            first.setdefault(_of_memory(plan.case), plan)
    return list(first.values())


def _of_memory(case: Case) -> Case:
    return msgspec.structs.replace(case, seed=0, train_steps=0, data=None)


def pairs(predicted: Iterable[Record], measured: Iterable[Record]) -> list[Pair]:
    """The cases that both have figures of, in the order of the predictions. Seeds, training and data play no part."""
    of = {_of_memory(record.case()): record for record in measured if record.peak_bytes is not None}
    return [
        Pair(record, of[_of_memory(record.case())])
        for record in predicted
        if record.peak_bytes is not None and _of_memory(record.case()) in of
    ]


def measured_in(against: Path | None, request: session.Request) -> StoredRun | None:
    """The run to compare with: what was asked for, or the run whose cases are predicted.

    Raises: UsageError where there is none; BaselineError where it is predicted itself.
    """
    if against is None:
        return stored_run.load(Path(request.suite)) if is_run(request.suite) else None
    return stored_run.load(against)
