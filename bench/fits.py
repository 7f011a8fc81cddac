"""How large each case of a session may be within a limit to memory, stored beside its records as each is found. Imports
no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import errors, files, fingerprint, private, rerun, session, signals, supervise, words
from bench.case import Plan
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
    prints = fingerprint.of_all(
        prepared.plans, environment=f"within {limit.size} {session.basis(prepared.environment)}",
        code=fingerprint.code_digest(), rounds=0, warmup=0, threads=THREADS,
    )  # fmt: skip
    kept = _Kept(
        prepared.directory, frozenset(prints.values()), {fit.fingerprint: fit for fit in read(prepared.directory)}
    )
    asked: list[Plan] = []
    for plan in prepared.plans:
        if plan.unsupported is not None:
            kept.add(_fit(plan, limit, prints, status="unsupported", message=plan.unsupported))
        elif not kept.stands(prints[plan]):
            asked.append(plan)
    try:
        with signals.heeded():
            _ask(asked, limit, prints, worker, on_message, kept.add)
    except KeyboardInterrupt as interrupt:
        done = sum(kept.stands(prints[plan]) for plan in prepared.plans if plan.unsupported is None)
        of = words.counted(sum(plan.unsupported is None for plan in prepared.plans), "case")
        command = rerun.going_on(prepared.request.arguments, prepared.directory)
        so_far = f"what fits in {limit.text} is known of {done} of {of} in {prepared.directory}; go on with: {command}"
        raise session.RunInterruptedError(interrupt, so_far) from None
    return [kept.of[prints[plan]] for plan in prepared.plans]


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


@dataclass
class _Kept:
    """What a directory holds, by fingerprints, as two cases may be stored by one name. The file is whole after each
    `add`."""

    directory: Path
    current: frozenset[str]
    """Fingerprints of this session's cases: what is of one of these cases, and of another code, gives way."""
    of: dict[str, Fit]

    def stands(self, digest: str) -> bool:
        """Whether nothing has to be asked of the case that has this fingerprint."""
        held = self.of.get(digest)
        return held is not None and held.status not in FAILED

    def add(self, fit: Fit) -> None:
        """Raises: UsageError where it cannot be written."""
        self.of = {
            digest: one
            for digest, one in self.of.items()
            if digest in self.current or (one.case, one.limit_bytes) != (fit.case, fit.limit_bytes)
        }
        self.of[fit.fingerprint] = fit
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
