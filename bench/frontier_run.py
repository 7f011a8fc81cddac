"""The parent of a frontier: probes method by method, confirms the largest, times it, and stores all of it.

A probe is a fresh child that measures the memory of one case and nothing else. Imports no torch, and shows nothing: it
tells `on_event`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import children, files, fingerprint, frontier, obstacles, resolve, supervise
from bench import data as datasets
from bench.case import Case, Plan
from bench.errors import UsageError
from bench.frontier import Largest
from bench.frontier_events import Doing, Done, FrontierEvent, Summary
from bench.frontier_search import Reading, Search
from bench.outcome import Outcome
from bench.protocol import Job, Kind
from bench.record import SCHEMA_VERSION, Record
from bench.runner import TIMES
from bench.store import Store

OUTCOMES: Final = "frontier.json"
_FURTHEST: Final = 10_000
"""So many steps are looked through for the first value that a method can have."""


@dataclass(frozen=True)
class Settings:
    """What is looked for, and how to measure."""

    suite: str
    over: str
    step: int
    most: int
    """The largest value to try."""
    limit: int
    """In bytes."""
    limit_text: str
    rounds: int
    warmup: int
    environment: str
    """A text that is equal where measurements may be compared; part of every fingerprint."""
    on_card: bool = False
    """Whether the limit is enforced on a CUDA card."""
    process_limit: int | None = None
    """Bytes that a child may have on a CPU: well above the limit, so that what is far too large takes no machine
    along."""
    timeout_seconds: float | None = None
    threads: int = 2
    worker: Path = supervise.WORKER


def run(plans: Sequence[Plan], store: Store, settings: Settings, on_event: Callable[[FrontierEvent], None]) -> Summary:
    """Looks for the largest value of each of `plans`, whose own value of what is looked for plays no part.

    Raises: UsageError where the store holds another frontier or cannot be written, data cannot be read, and where
    memory does not depend on what is looked for; KeyboardInterrupt is passed on once the children are gone.
    """
    return _Frontier(store, settings, on_event).go(plans)


@dataclass
class _Frontier:
    store: Store
    settings: Settings
    tell: Callable[[FrontierEvent], None]
    code: str = field(default_factory=fingerprint.code_digest)
    found: dict[str, Record] = field(default_factory=dict)
    """What this frontier rests on, by fingerprint, in the order in which it was asked for."""
    values: dict[Case, int] = field(default_factory=dict)
    """The largest value of each case that has one."""
    data: dict[str | None, str] = field(default_factory=dict)

    def go(self, plans: Sequence[Plan]) -> Summary:
        self._refuse_others()
        for plan in plans:
            self._search(plan)
        self._compare(plans)
        self._describe()
        return Summary(tuple(self.found.values()), tuple(self._largests()))

    def _refuse_others(self) -> None:
        own = (self.settings.over, self.settings.step, self.settings.limit)
        for record in self.store.records():
            theirs = (record.frontier_over, record.frontier_step, record.limit_bytes)
            if theirs != own:
                over, step, limit = theirs
                other = f"over {over} by {step} within {limit} bytes" if limit is not None else "that is none"
                raise UsageError(
                    f"--out {str(self.store.directory)!r} holds a frontier {other}, and this one is over {own[0]} by "
                    f"{own[1]} within {own[2]}; ask the same, or give another --out"
                )

    def _search(self, plan: Plan) -> None:
        """Finds the largest value of one method, and confirms it."""
        own = self.settings
        low = self._lowest(plan.case)
        if plan.unsupported is not None or low is None:
            self._refuse(plan, low)
            return
        search = Search(own.limit, low=low, step=own.step, most=max(low, own.most - own.most % own.step))
        confirmed = None
        while confirmed is None:
            while (value := search.next()) is not None:
                record = self._probe(self._at(plan.case, value), search.used + 1)
                search.tell(value, _reading(record))
            if search.flat:
                tried = f"{low} and {search.largest}"
                raise UsageError(
                    f"--over {own.over}: {plan.case.model} takes the same memory at {tried}, so it does not follow its "
                    f"{own.over}; take another --over"
                )
            largest = search.largest
            if largest is None:
                break
            if frontier.fits(record := self._confirm(self._at(plan.case, largest))):
                confirmed = record
            else:
                search.tell(largest, Reading(fits=False))
        self._describe()
        if search.largest is not None:
            self.values[plan.case] = search.largest

    def _lowest(self, case: Case) -> int | None:
        """The smallest value that the method can have with its settings; None where there is none to try."""
        method, own = resolve.method(case.method), self.settings
        values = range(own.step, min(own.most, own.step * _FURTHEST) + 1, own.step)
        return next((value for value in values if obstacles.find(method, self._at(case, value)) is None), None)

    def _refuse(self, plan: Plan, low: int | None) -> None:
        """A row that says why a method cannot be probed at all."""
        own = self.settings
        case = self._at(plan.case, low or own.step)
        obstacle = obstacles.find(resolve.method(case.method), case)
        why = plan.unsupported or (obstacle.reason if obstacle else f"no {own.over} up to {own.most} will do")
        self._record(case, Outcome(status="unsupported", message=why))

    def _probe(self, case: Case, number: int | None) -> Record:
        """The record of a probe; one that stands already is not made again."""
        if (stored := self._standing(case)) is not None:
            return stored
        self.tell(Doing("probe", (case,), number))
        record = self._record(case, self._child("probe", case))
        self.tell(Done(record, "probe", number))
        return record

    def _confirm(self, case: Case) -> Record:
        """The record of a case that fits, once it has trained for some steps; one that then does not says so."""
        record = self._probe(case, None)
        if record.confirmed_steps is not None or not frontier.fits(record):
            return record
        self.tell(Doing("confirm", (case,)))
        outcome = self._child("confirm", case)
        fields: dict[str, Any] = outcome.fields
        if outcome.status != "ok":
            fields = {"status": outcome.status, "message": outcome.message}
        record = self._keep(case, msgspec.structs.replace(record, **fields))
        self.tell(Done(record, "confirm"))
        return record

    def _compare(self, plans: Sequence[Plan]) -> None:
        """Times the methods of a group side by side at the largest value that all of them have, and each at its own."""
        groups: dict[tuple[object, ...], list[Case]] = {}
        for case in (plan.case for plan in plans if plan.case in self.values):
            shared = msgspec.structs.replace(case, **{self.settings.over: None})
            groups.setdefault(shared.group(), []).append(case)
        for cases in groups.values():
            equal = min(self.values[case] for case in cases)
            together = [self._at(case, equal) for case in cases if self._possible(case, equal)]
            self._time([case for case in together if frontier.fits(self._probe(case, None))])
            for case in cases:
                if self.values[case] != equal:
                    self._time([self._at(case, self.values[case])])
            self._describe()

    def _possible(self, case: Case, value: int) -> bool:
        return obstacles.find(resolve.method(case.method), self._at(case, value)) is None

    def _time(self, cases: Sequence[Case]) -> None:
        """Times cases side by side, unless they have been."""
        records = [self.found[self._print(case)] for case in cases]
        if not cases or (
            len({record.rounds_id for record in records}) == 1 and all(record.step_seconds for record in records)
        ):
            return
        self.tell(Doing("time", tuple(cases)))
        by_plan = {self._plan(case): case for case in cases}
        job = self._job("time", tuple(by_plan))
        outcomes = children.timed(job, self._hear)
        for plan, outcome in outcomes.items():
            case = by_plan[plan]
            record = self.found[self._print(case)]
            fields: dict[str, Any] = {"message": outcome.message}
            if outcome.status == "ok":
                fields = {name: outcome.fields.get(name) for name in TIMES}
                if (record.message or "").startswith(children.TIMING):  # of an earlier start, and true no more
                    fields["message"] = None
            self._keep(case, msgspec.structs.replace(record, **fields))

    def _child(self, kind: Kind, case: Case) -> Outcome:
        """What became of one case in a fresh child."""
        plan = self._plan(case)
        return children.alone(self._hear(self._job(kind, (plan,))), plan)

    def _hear(self, job: Job) -> children.Heard:
        own = self.settings
        return children.run(
            job, job.members, lambda plan, outcome: None, timeout_seconds=own.timeout_seconds, worker=own.worker
        )

    def _job(self, kind: Kind, members: tuple[Plan, ...]) -> Job:
        own = self.settings
        return Job(
            kind=kind, members=members, rounds=own.rounds, warmup=own.warmup, threads=own.threads, events=-1,
            memory_limit=None if kind == "time" else own.process_limit, card_limit=own.limit if own.on_card else None,
            step_limit=own.limit,
        )  # fmt: skip

    def _at(self, case: Case, value: int) -> Case:
        return msgspec.structs.replace(case, **{self.settings.over: value})

    def _plan(self, case: Case) -> Plan:
        return Plan(case=case, measure=frozenset(("memory", "throughput")))

    def _print(self, case: Case) -> str:
        own = self.settings
        if case.data not in self.data:
            self.data[case.data] = datasets.digest(case.data)
        return fingerprint.of(
            self._plan(case), environment=own.environment, code=self.code, data=self.data[case.data],
            rounds=own.rounds, warmup=own.warmup, threads=own.threads,
        )  # fmt: skip

    def _standing(self, case: Case) -> Record | None:
        """The record of a case, where it has been measured. One that failed is measured again by a later start."""
        digest = self._print(case)
        if digest not in self.found:
            stored = next((one for one in self.store.records() if one.fingerprint == digest), None)
            if stored is None or stored.status in ("error", "timeout"):
                return None
            self.found[digest] = stored
        return self.found[digest]

    def _record(self, case: Case, outcome: Outcome) -> Record:
        """Stores what became of a probe."""
        own = self.settings
        values: dict[str, Any] = msgspec.to_builtins(case) | outcome.fields
        values.update(
            suite=own.suite, fingerprint=self._print(case), code=self.code[:16], status=outcome.status,
            message=outcome.message, threads=own.threads, limit_bytes=own.limit, frontier_over=own.over,
            frontier_step=own.step,
        )  # fmt: skip
        return self._keep(case, msgspec.convert(values, Record))

    def _keep(self, case: Case, record: Record) -> Record:
        record = self.store.append(record)
        self.found[self._print(case)] = record
        return record

    def _largests(self) -> list[Largest]:
        return frontier.largests(self.found.values())

    def _describe(self) -> None:
        """Writes what is known by now, for other programs."""
        own = self.settings
        shares = frontier.removable(self.found.values())
        outcomes = self._largests()
        content = {
            "schema_version": SCHEMA_VERSION,
            "over": own.over,
            "step": own.step,
            "limit": own.limit_text,
            "limit_bytes": own.limit,
            "largest": [
                {**msgspec.to_builtins(one), "removable_share": shares.get(frontier.group(one))} for one in outcomes
            ],
        }
        path = self.store.directory / OUTCOMES
        try:
            files.replace(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; make room, then go on with --resume") from error


def _reading(record: Record) -> Reading:
    """What the search makes of a probe."""
    static, activation = record.static_bytes, record.activation_bytes
    level = None if static is None or activation is None else static + activation
    return Reading(frontier.fits(record), record.peak_bytes, level)
