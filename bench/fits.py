"""How large each case of a session may be within a limit to memory, stored beside its records as each is found. Imports
no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import errors, files, fingerprint, private, rerun, session, signals, supervise, words
from bench.case import Case, Plan
from bench.errors import UsageError, one_line
from bench.fit import AXES, Fit, Found
from bench.limits import Limit
from bench.outcome import of_end
from bench.pipes import printable
from bench.protocol import Event, Finished, Job, Started
from bench.record import FAILED, UNREADABLE
from bench.session import THREADS, Session

FITS: Final = "fits.jsonl"
"""Beside a run's results: what fits within a limit, a case a line."""


def find(
    prepared: Session, limit: Limit, on_message: Callable[[str], None], worker: Path = supervise.WORKER
) -> list[Fit]:
    """How deep, and how large a batch, each of the session's cases may be within `limit`. What its directory holds of
    that stands, but for what failed, or rests on other code or another environment. `on_message` hears of each case
    that is turned to.

    Raises: UsageError where they cannot be stored; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
    """
    kept = _Kept(prepared.directory, {_key(fit.case, fit.limit_bytes): fit for fit in read(prepared.directory)})
    prints = fingerprint.of_all(
        prepared.plans, environment=f"within {limit.size} {session.basis(prepared.environment)}",
        code=fingerprint.code_digest(), rounds=0, warmup=0, threads=THREADS,
    )  # fmt: skip
    asked: list[Plan] = []
    for plan in prepared.plans:
        if plan.unsupported is not None:
            kept.add(_fit(plan, limit, prints, status="unsupported", message=plan.unsupported))
        elif not kept.stands(plan, limit, prints[plan]):
            asked.append(plan)
    try:
        with signals.heeded():
            _ask(asked, limit, prints, worker, on_message, kept.add)
    except KeyboardInterrupt as interrupt:
        done = sum(kept.stands(plan, limit, prints[plan]) for plan in prepared.plans if plan.unsupported is None)
        of = words.counted(sum(plan.unsupported is None for plan in prepared.plans), "case")
        command = rerun.going_on(prepared.request.arguments, prepared.directory)
        so_far = f"what fits in {limit.text} is known of {done} of {of} in {prepared.directory}; go on with: {command}"
        raise session.RunInterruptedError(interrupt, so_far) from None
    return [kept.of[_key(plan.case, limit.size)] for plan in prepared.plans]


def read(directory: Path) -> list[Fit]:
    """What `find` stored there, of any limit; nothing where it stored nothing.

    Raises: UsageError for a file that is none of these.
    """
    file = directory / FITS
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return []
    try:
        return [msgspec.json.decode(line, type=Fit) for line in lines]
    except UNREADABLE as error:
        raise UsageError(f"{file}: not what predict --memory writes ({error}); remove it") from error


def exit_code(fits: Iterable[Fit]) -> int:
    """The command's, as far as these go."""
    return errors.EXIT_FAILED_CASE if any(fit.status in FAILED for fit in fits) else errors.EXIT_OK


Key = tuple[Case, int]
"""A case as it is stored, and bytes of a limit."""


def _key(case: Case, limit_bytes: int) -> Key:
    return private.case(case), limit_bytes


@dataclass(frozen=True)
class _Kept:
    """What a directory holds: the file is whole after each `add`."""

    directory: Path
    of: dict[Key, Fit] = field(default_factory=dict)

    def stands(self, plan: Plan, limit: Limit, digest: str) -> bool:
        """Whether nothing has to be asked of `plan`."""
        held = self.of.get(_key(plan.case, limit.size))
        return held is not None and held.fingerprint == digest and held.status not in FAILED

    def add(self, fit: Fit) -> None:
        """Raises: UsageError where it cannot be written."""
        self.of[fit.case, fit.limit_bytes] = fit
        file = self.directory / FITS
        try:
            with signals.deferred():
                files.replace(file, b"".join(msgspec.json.encode(one) + b"\n" for one in self.of.values()))
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}; make room, then go on with --resume") from error


def _ask(
    plans: Sequence[Plan], limit: Limit, prints: Mapping[Plan, str], worker: Path, on_message: Callable[[str], None],
    on_found: Callable[[Fit], None],
) -> None:  # fmt: skip
    """Asks one child, as what is counted for one size serves others; where it dies, the case it was at has failed, and
    the rest go to another."""
    left = list(plans)
    while left:
        members = tuple(left)
        at = [members[0]]

        def hear(event: Event, members: tuple[Plan, ...] = members, at: list[Plan] = at) -> None:
            if isinstance(event, Started):
                at[0] = members[event.member]
                on_message(f"what fits in {limit.text}: {at[0].case.label()}")
            elif isinstance(event, Finished):
                plan = members[event.member]
                left.remove(plan)
                told = {axis: msgspec.convert(event.fields[axis], Found) for axis in AXES if axis in event.fields}
                on_found(_fit(plan, limit, prints, status=event.status, message=event.message, **told))

        job = Job(
            kind="fit", members=members, rounds=0, warmup=0, threads=THREADS, events=-1, limit_bytes=limit.size,
        )  # fmt: skip
        end = supervise.run(job, hear, timeout_seconds=None, worker=worker)
        if left:
            lost = at[0] if at[0] in left else left[0]
            left.remove(lost)
            ended = of_end(end)
            on_found(_fit(lost, limit, prints, status=ended.status, message=ended.message))


def _fit(plan: Plan, limit: Limit, prints: Mapping[Plan, str], *, message: str | None, **fields: Any) -> Fit:
    said = None if message is None else private.message(one_line(printable(message)))
    return Fit(
        case=private.case(plan.case), limit_bytes=limit.size, fingerprint=prints[plan], message=said, **fields,
    )  # fmt: skip
