"""The parent: takes plans group by group through child processes, and stores a record of each case.

For each group (cases that differ only in method, bits and gamma): one child times all members in paired rounds, then
each member that has its memory measured gets a fresh child; the others share one. A child that fails, whatever
the way, makes a record that says so, and the run goes on. Imports no torch, and shows nothing: it tells `on_event`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench import children, fingerprint, limits, skipping, standing, supervise
from bench.case import Measurement, Plan
from bench.children import Heard
from bench.estimate import Pace, work
from bench.events import JobStarted, RecordDone, RunEvent, RunStarted, Summary
from bench.limits import Limit
from bench.outcome import Outcome, of_end, worst
from bench.protocol import Job, Kind
from bench.record import Record
from bench.skipping import LeftOut
from bench.standing import Rerun
from bench.store import Store

TIMES = ("step_seconds", "rounds_id", "tokens_per_second", "samples_per_second")


@dataclass(frozen=True)
class Settings:
    """How to measure. `rerun` says which stored records not to use again: none of them, the failed, or all."""

    suite: str
    rounds: int
    warmup: int
    environment: str
    """A text that is equal where measurements may be compared; part of every fingerprint."""
    timeout_seconds: float | None = None
    """How long one case may take; a child with several cases has as many times that."""
    threads: int = 2
    rerun: Rerun = "none"
    skip: bool = True
    """Whether cases larger than one that ran out of memory are left out."""
    memory_limit: Limit | None = None
    """What each child may have."""
    predicted: bool = False
    """Predict what would be measured."""
    worker: Path = supervise.WORKER


def run(plans: Sequence[Plan], store: Store, settings: Settings, on_event: Callable[[RunEvent], None]) -> Summary:
    """Measures `plans` and appends a record of each to `store`, but for those it holds already.

    Raises: UsageError where data cannot be read or the store not be written; KeyboardInterrupt is passed on once
    the children are gone. What was stored before stays.
    """
    return _Run(plans, store, settings, on_event).go()


def groups(plans: Iterable[Plan]) -> list[list[Plan]]:
    """The plans that differ only in method, bits and gamma together, in the order of each group's first."""
    found: dict[tuple[object, ...], list[Plan]] = {}
    for plan in plans:
        found.setdefault(plan.case.group(), []).append(plan)
    return list(found.values())


class _Run:
    def __init__(
        self, plans: Sequence[Plan], store: Store, settings: Settings, on_event: Callable[[RunEvent], None]
    ) -> None:
        self._plans = plans
        self._store = store
        self._settings = settings
        self._tell = on_event
        self._start = time.monotonic()
        self._pace = Pace()
        self._code = fingerprint.code_digest()
        self._prints = fingerprint.of_all(
            plans, environment=settings.environment, code=self._code, rounds=settings.rounds,
            warmup=settings.warmup, threads=settings.threads,
        )  # fmt: skip
        self._stored = standing.standing(self._prints, store.records(), rerun=settings.rerun, skip=settings.skip)
        self._done = dict(self._stored)
        self._ran_out = skipping.exhausted(self._stored)
        self._left: dict[Plan, LeftOut] = {}
        self._ahead: list[Job] = []

    def go(self) -> Summary:
        grouped = groups(self._plans)
        ahead = [self._jobs(group) for group in grouped]
        timed = [plan for jobs in ahead for job in jobs if job.kind == "time" for plan in job.members]
        again = sum(plan in self._stored for plan in timed)
        stale = standing.stale(self._prints, self._store.records())
        self._tell(RunStarted(len(self._plans), tuple(self._stored.values()), stale, again))
        for number, group in enumerate(grouped, 1):
            # What ran out of memory by now may leave fewer than were planned.
            jobs = self._jobs(group)
            self._ahead = [*jobs, *(job for later in ahead[number:] for job in later)]
            self._group(group, jobs)
        return Summary(
            records=tuple(self._done[plan] for plan in self._plans),
            measured=len(self._plans) - len(self._stored),
            reused=len(self._stored),
            elapsed_seconds=self._elapsed(),
        )

    def _jobs(self, group: list[Plan]) -> list[Job]:
        """The children that a group takes, if none fails: timing first."""
        todo = [plan for plan in group if plan not in self._stored]
        if self._settings.skip:
            self._left.update((plan, skipping.left_out(plan, self._ran_out)) for plan in todo)
        if self._settings.predicted:
            found = [plan for plan in todo if self._asked(plan)]
            return [self._job("predict", found)] if found else []
        jobs = []
        if any("throughput" in self._asked(plan) for plan in todo):
            jobs.append(self._job("time", [plan for plan in group if self._is_timed(plan)]))
        jobs += [self._job("measure", [plan]) for plan in todo if "memory" in self._asked(plan)]
        rest = [plan for plan in todo if "memory" not in self._asked(plan) and self._asked(plan) - {"throughput"}]
        return [*jobs, self._job("measure", rest)] if rest else jobs

    def _asked(self, plan: Plan) -> frozenset[Measurement]:
        """What is measured of a plan."""
        return plan.measure - self._left.get(plan, skipping.NOTHING).measure

    def _is_timed(self, plan: Plan) -> bool:
        """Whether a member takes part in its group's rounds; a stored one that has no times would fail again."""
        stored = self._stored.get(plan)
        return "throughput" in self._asked(plan) and (stored is None or stored.step_seconds is not None)

    def _job(self, kind: Kind, members: list[Plan]) -> Job:
        own = self._settings
        return Job(
            kind=kind, members=tuple(members), rounds=own.rounds, warmup=own.warmup, threads=own.threads, events=-1,
            memory_limit=None if own.memory_limit is None else own.memory_limit.size,
        )  # fmt: skip

    def _group(self, group: list[Plan], jobs: Sequence[Job]) -> None:
        times: dict[Plan, Outcome] = {}
        for job in jobs:
            self._ahead.remove(job)
            if job.kind == "time":
                times = children.timed(job, lambda some: self._child(some, lambda plan, outcome: None))
                self._renew(times)
            else:
                self._measure(job, times)
        for plan in group:
            if plan not in self._done:
                refused = Outcome(status="unsupported", message=plan.unsupported)
                self._record(plan, refused if plan.unsupported else times.get(plan, Outcome()))

    def _renew(self, times: dict[Plan, Outcome]) -> None:
        """Gives the stored members of a group that was timed again their new times."""
        for plan, outcome in times.items():
            if plan in self._stored and outcome.status == "ok":
                fresh = {name: outcome.fields.get(name) for name in TIMES}
                self._done[plan] = self._store.append(msgspec.structs.replace(self._stored[plan], **fresh))

    def _measure(self, job: Job, times: dict[Plan, Outcome]) -> None:
        """Measures the members of a job and stores a record of each as it is done. Where the child dies, the
        member it was at has failed, and the rest go to another child."""
        members = list(job.members)

        def store(plan: Plan, outcome: Outcome) -> None:
            self._record(plan, times.get(plan, Outcome()), outcome)

        while members:
            heard = self._child(msgspec.structs.replace(job, members=tuple(members)), store)
            members = [plan for plan in members if plan not in heard.outcomes]
            if members:
                lost = heard.at if heard.at in members else members[0]
                store(lost, of_end(heard.end, heard.measured.get(lost)))
                members.remove(lost)

    def _child(self, job: Job, on_finished: Callable[[Plan, Outcome], None]) -> Heard:
        """Runs one child to its end."""
        cases = tuple(plan.case for plan in job.members)
        self._tell(JobStarted(job.kind, cases, self._remaining(job)))
        own = self._settings
        sent = [msgspec.structs.replace(plan, measure=self._asked(plan)) for plan in job.members]
        todo = msgspec.structs.replace(job, members=tuple(sent))
        heard = children.run(todo, job.members, on_finished, timeout_seconds=own.timeout_seconds, worker=own.worker)
        if heard.end.status == "ok":
            self._pace.add(work(job), heard.end.seconds)
        return heard

    def _record(self, plan: Plan, *outcomes: Outcome) -> None:
        """Stores the record of a case from what became of it in its children."""
        left = self._left.get(plan, skipping.NOTHING)
        if left.measure:
            outcomes = (*outcomes, Outcome(status="skipped", message=left.why(plan)))
        gravest = worst(outcomes)
        message, limit = gravest.message, self._settings.memory_limit
        if gravest.status == "oom" and limit is not None:
            message = f"{message}; held to {limit.text} by {limits.OPTION}"
        values: dict[str, Any] = msgspec.to_builtins(plan.case)
        for outcome in outcomes:
            values.update(outcome.fields)
        values.update(
            suite=self._settings.suite, fingerprint=self._prints[plan], code=self._code[:16], status=gravest.status,
            message=message, threads=self._settings.threads, verify=plan.verify,
            predicted=self._settings.predicted,
        )  # fmt: skip
        record = self._store.append(msgspec.convert(values, Record))
        self._done[plan] = record
        self._ran_out += skipping.exhausted({plan: record})
        self._tell(RecordDone(record, len(self._done), len(self._plans), self._elapsed(), self._remaining()))

    def _remaining(self, *begun: Job) -> float | None:
        ahead = [self._pace.seconds(work(job)) for job in (*begun, *self._ahead)]
        known = [seconds for seconds in ahead if seconds is not None]
        return sum(known) if len(known) == len(ahead) else None

    def _elapsed(self) -> float:
        return time.monotonic() - self._start
