"""What became of one member of a job: what its child said of it, or what the child's end says. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from bench.case import Case
from bench.errors import one_line
from bench.pipes import printable
from bench.protocol import Finished, Measured
from bench.record import Record, Status
from bench.supervise import End

MEASURED: Final = (
    frozenset(Record.__struct_fields__)
    - frozenset(Case.__struct_fields__)
    - {"schema_version", "suite", "fingerprint", "code", "status", "message", "threads", "verify", "predicted"}
    - {"limit_bytes", "frontier_over", "frontier_step", "experiment", "recipe"}
)
"""The fields of a record that a child may fill in."""

LONGEST_MESSAGE: Final = 2000
"""Characters of what a child says; what a user's model raises may be a page."""
_TYPES: Final = {info.name: info.type for info in msgspec.structs.fields(Record)}
_WEIGHT: Final[tuple[Status, ...]] = ("error", "oom", "timeout", "unsupported", "skipped", "ok")


@dataclass(frozen=True)
class Outcome:
    """Fields of the record by name, and how it went."""

    fields: dict[str, Any] = field(default_factory=dict)
    status: Status = "ok"
    message: str | None = None


def said(event: Finished) -> Outcome:
    """What a child says of a member, if a record can hold it; else an error that says what it cannot hold."""
    try:
        _check(event.fields)
    except msgspec.ValidationError as error:
        return Outcome(status="error", message=f"its answer is not readable: {error}")
    message = None if event.message is None else one_line(printable(event.message))[:LONGEST_MESSAGE]
    return Outcome(event.fields, event.status, message)


def of_end(end: End, measured: Measured | None = None) -> Outcome:
    """What the end of a child says of a member that it left unanswered, `measured` being what it had told of it."""
    status, message = end.status, end.message
    if status == "ok":
        status, message = "error", "the child process ended without an answer"
    if measured is None:
        return Outcome(status=status, message=message)
    try:
        _check(measured.fields)
    except msgspec.ValidationError as error:
        return Outcome(status="error", message=f"its answer is not readable: {error}")
    return Outcome(measured.fields, status, f"while {measured.doing}: {message}")


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that a record's status and message are taken from: the gravest, of several the first that says
    anything."""
    return min(outcomes, key=lambda outcome: (_WEIGHT.index(outcome.status), outcome.message is None))


def _check(fields: dict[str, Any]) -> None:
    """Raises: ValidationError for what no record can hold."""
    for name, value in fields.items():
        if name not in MEASURED:
            raise msgspec.ValidationError(f"there is no field {name!r}")
        msgspec.convert(value, _TYPES[name])
