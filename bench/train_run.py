"""The parent of a training run: takes arms and seeds one by one through child processes, and stores a record of each.

Of an arm's first seed a fresh child measures the memory of one step before another trains. Imports no torch, and shows
nothing: it tells `on_event`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench import children, fingerprint, supervise
from bench.case import Plan
from bench.data import splits
from bench.estimate import step_work
from bench.events import RecordDone, RunStarted, Summary
from bench.outcome import Outcome, worst
from bench.protocol import Job, Kind, Stepped
from bench.record import UNMEASURED, Record
from bench.standing import stale
from bench.store import Store
from bench.train_events import ArmStarted, Trained, TrainEvent
from bench.training import folders


@dataclass(frozen=True)
class Settings:
    """How to train. What is trained is in the plans."""

    suite: str
    """What the records say they are of."""
    environment: str
    """A text that is equal where measurements may be compared; part of every fingerprint."""
    timeout_seconds: float | None = None
    """How long one arm may take at one seed."""
    threads: int = 2
    worker: Path = supervise.WORKER


def run(plans: Sequence[Plan], store: Store, settings: Settings, on_event: Callable[[TrainEvent], None]) -> Summary:
    """Trains `plans` and appends a record of each to `store`, but for those it holds already. One that failed is gone
    on with where its last checkpoint was taken, as is one that was cut off.

    Raises: UsageError where data cannot be read or the store not be written; KeyboardInterrupt is passed on once the
    children are gone. What was stored before stays.
    """
    return _Run(plans, store, settings, on_event).go()


class _Run:
    def __init__(
        self, plans: Sequence[Plan], store: Store, settings: Settings, on_event: Callable[[TrainEvent], None]
    ) -> None:
        self._plans = plans
        self._store = store
        self._settings = settings
        self._tell = on_event
        self._start = time.monotonic()
        self._code = fingerprint.code_digest()
        digests = {path: splits.digest(path) for path in {plan.case.data for plan in plans}}
        self._prints = {
            plan: fingerprint.of(
                plan, environment=settings.environment, code=self._code, data=digests[plan.case.data], rounds=0,
                warmup=0, threads=settings.threads,
            )
            for plan in plans
        }  # fmt: skip
        held = {record.fingerprint: record for record in store.records() if record.status not in UNMEASURED}
        self._done = {plan: held[digest] for plan, digest in self._prints.items() if digest in held}
        self._reused = len(self._done)
        self._pace = _Pace()

    def go(self) -> Summary:
        again = stale(self._prints, self._store.records())
        self._tell(RunStarted(len(self._plans), tuple(self._done.values()), again))
        for plan in self._plans:
            if plan not in self._done:
                there = folders.checkpoints(folders.folder(self._store.directory, plan.case))
                found = there[0][0] if there else None
                self._tell(ArmStarted(plan.case, len(self._done) + 1, len(self._plans), found))
                self._record(plan, *self._outcomes(plan))
        return Summary(
            records=tuple(self._done[plan] for plan in self._plans),
            measured=len(self._plans) - self._reused,
            reused=self._reused,
            elapsed_seconds=time.monotonic() - self._start,
        )

    def _outcomes(self, plan: Plan) -> list[Outcome]:
        if plan.unsupported is not None:
            return [Outcome(status="unsupported", message=plan.unsupported)]
        found = []
        if "memory" in plan.measure:
            found.append(self._child("probe", plan))
            if found[0].status != "ok":
                return found
        return [*found, self._child("train", plan)]

    def _child(self, kind: Kind, plan: Plan) -> Outcome:
        """What became of a plan in a fresh child."""
        own = self._settings
        job = Job(
            kind=kind, members=(plan,), rounds=0, warmup=0, threads=own.threads, events=-1,
            directory=str(self._store.directory.absolute()), fingerprint=self._prints[plan],
        )  # fmt: skip
        self._pace.begin()
        heard = children.run(
            job, (plan,), lambda plan, outcome: None, timeout_seconds=own.timeout_seconds, worker=own.worker,
            on_stepped=self._stepped,
        )  # fmt: skip
        return children.alone(heard, plan)

    def _stepped(self, plan: Plan, event: Stepped) -> None:
        self._pace.hear(event.step, step_work(plan.case))
        begun_at = self._pace.begun_at
        told = Trained(plan.case, event.step, begun_at, tuple(event.points), self._remaining(plan, event.step))
        self._tell(told)

    def _record(self, plan: Plan, *outcomes: Outcome) -> None:
        """Stores the record of what became of a plan in its children."""
        assert plan.training is not None
        gravest = worst(outcomes)
        message = next((one.message for one in outcomes if one.message is not None), None)
        values: dict[str, Any] = msgspec.to_builtins(plan.case)
        for outcome in outcomes:
            values.update(outcome.fields)
        values.update(
            suite=self._settings.suite, fingerprint=self._prints[plan], code=self._code[:16], status=gravest.status,
            message=message if gravest.status == "ok" else gravest.message, threads=self._settings.threads,
            experiment=plan.training.experiment, recipe=plan.training.recipe.flat(),
        )  # fmt: skip
        record = self._store.append(msgspec.convert(values, Record))
        self._done[plan] = record
        if record.status not in UNMEASURED:
            folders.clear(folders.folder(self._store.directory, plan.case))
        self._tell(
            RecordDone(
                record, len(self._done), len(self._plans), time.monotonic() - self._start, self._remaining(plan, None)
            )
        )

    def _remaining(self, at: Plan, step: int | None) -> float | None:
        """Seconds that are left, with `step` steps taken of the plan `at`, or all it is to take."""
        work = 0.0
        for plan in self._plans:
            steps = plan.case.train_steps
            if plan == at and step is not None:
                steps -= step
            elif plan in self._done:
                continue
            if plan.unsupported is None:
                work += steps * step_work(plan.case)
        return self._pace.seconds(work)


class _Pace:
    """Seconds a unit of work, over all that this start has trained. What comes first in a process, imports and the look
    at initial weights, is left out."""

    def __init__(self) -> None:
        self._work = 0.0
        self._seconds = 0.0
        self._last: tuple[int, float] | None = None
        self.begun_at = 0

    def begin(self) -> None:
        """A process begins."""
        self._last = None

    def hear(self, step: int, work: float) -> None:
        """So many steps are taken, of so much work each."""
        now = time.monotonic()
        if self._last is None:
            self.begun_at = step
        else:
            self._work += (step - self._last[0]) * work
            self._seconds += now - self._last[1]
        self._last = step, now

    def seconds(self, work: float) -> float | None:
        """What so much work will take; None where nothing is done yet."""
        return work * self._seconds / self._work if self._work else None
