"""What a frontier tells of as it goes on, and what it came to. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.case import Case
from bench.errors import EXIT_FAILED_CASE, EXIT_NOTHING_MEASURED, EXIT_OK
from bench.frontier import Largest
from bench.record import Record


@dataclass(frozen=True)
class Doing:
    """A child begins: the probe of one case, number `number` of its search, or what comes after."""

    kind: Literal["probe", "confirm", "time"]
    cases: tuple[Case, ...]
    number: int | None = None


@dataclass(frozen=True)
class Done:
    """A probe, or a confirmation, has been stored."""

    record: Record
    kind: Literal["probe", "confirm"]
    number: int | None = None


FrontierEvent = Doing | Done


@dataclass(frozen=True)
class Summary:
    """What a frontier came to."""

    records: tuple[Record, ...]
    largests: tuple[Largest, ...]

    @property
    def exit_code(self) -> int:
        """The command's. That memory ran out is what was looked for, and no failure."""
        if any(record.status in ("error", "timeout") for record in self.records):
            return EXIT_FAILED_CASE
        return EXIT_OK if any(one.value is not None for one in self.largests) else EXIT_NOTHING_MEASURED
