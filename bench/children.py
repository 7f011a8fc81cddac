"""Child processes and what they say of their members. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from bench import supervise
from bench.case import Plan
from bench.outcome import Outcome, of_end, said
from bench.protocol import Event, Finished, Job, Measured, Started, Stepped


@dataclass
class Heard:
    """What became of one child: what it said of members that it was done with and of others, the member it was last
    at, how it ended."""

    end: supervise.End
    outcomes: dict[Plan, Outcome] = field(default_factory=dict)
    measured: dict[Plan, Measured] = field(default_factory=dict)
    at: Plan | None = None


def run(
    job: Job,
    members: Sequence[Plan],
    on_finished: Callable[[Plan, Outcome], None],
    *,
    timeout_seconds: float | None,
    worker: Path = supervise.WORKER,
    on_stepped: Callable[[Plan, Stepped], None] = lambda plan, event: None,
) -> Heard:
    """Runs one child to its end. `members` are the plans that those of the job stand for, under which they are heard.

    It may take `timeout_seconds` for each of them.
    """
    heard = Heard(supervise.End("ok", None, 0.0))

    def hear(event: Event) -> None:
        if not 0 <= event.member < len(members):
            return
        plan = members[event.member]
        match event:
            case Started():
                heard.at = plan
            case Measured():
                heard.measured[plan] = event
            case Stepped():
                on_stepped(plan, event)
            case Finished() if plan not in heard.outcomes:
                heard.outcomes[plan] = said(event)
                on_finished(plan, heard.outcomes[plan])

    heard.end = supervise.run(job, hear, timeout_seconds=timeout_seconds, worker=worker)
    return heard


TIMING: Final = "while timing: "
"""Before the message of what failed in its rounds."""


def alone(heard: Heard, plan: Plan) -> Outcome:
    """What became of the one member of a child."""
    return heard.outcomes.get(plan) or of_end(heard.end, heard.measured.get(plan))


def timed(job: Job, child: Callable[[Job], Heard]) -> dict[Plan, Outcome]:
    """Times the members of a job together, by a `child` for each attempt. Who fails is left out, and the others begin
    again, so that all rounds are shared by all."""
    failed: dict[Plan, Outcome] = {}
    members = list(job.members)
    while members:
        heard = child(msgspec.structs.replace(job, members=tuple(members)))
        bad = {plan: outcome for plan, outcome in heard.outcomes.items() if outcome.status != "ok"}
        if not bad and len(heard.outcomes) == len(members):
            return {**failed, **heard.outcomes}
        if not bad:
            blame = [heard.at] if heard.at is not None and heard.end.status != "timeout" else members
            bad = dict.fromkeys(blame, of_end(heard.end))
        failed.update((plan, replace(bad[plan], message=f"{TIMING}{bad[plan].message}")) for plan in bad)
        members = [plan for plan in members if plan not in bad]
    return failed
