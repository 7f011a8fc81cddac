"""What a run tells as it goes, and what it comes to. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench import errors
from bench.case import Case
from bench.protocol import Kind
from bench.record import FAILED, Record


@dataclass(frozen=True)
class RunStarted:
    """Before the first child. `reused` are the stored records that stand; `stale` counts those of cases of this
    run that rest on other code, data, settings or another environment, and are measured again. `timed_again` of
    the reused ones get new times, beside a member of their group that has none yet."""

    cases: int
    reused: tuple[Record, ...]
    stale: int
    timed_again: int = 0


@dataclass(frozen=True)
class JobStarted:
    """A child begins. `remaining_seconds` is None until there is something to estimate it from."""

    kind: Kind
    cases: tuple[Case, ...]
    remaining_seconds: float | None


@dataclass(frozen=True)
class RecordDone:
    """A record was stored; `done` of `cases` now are, the reused ones included."""

    record: Record
    done: int
    cases: int
    elapsed_seconds: float
    remaining_seconds: float | None


RunEvent = RunStarted | JobStarted | RecordDone


@dataclass(frozen=True)
class Summary:
    """What a run came to: the records of its plans, in the order of the plans."""

    records: tuple[Record, ...]
    measured: int
    reused: int
    elapsed_seconds: float

    @property
    def failed(self) -> tuple[Record, ...]:
        """The records whose status makes the command exit with 3."""
        return tuple(record for record in self.records if record.status in FAILED)

    @property
    def exit_code(self) -> int:
        """The command's."""
        if self.failed:
            return errors.EXIT_FAILED_CASE
        measured = any(record.status == "ok" for record in self.records)
        return errors.EXIT_OK if measured else errors.EXIT_NOTHING_MEASURED
