"""What is alive at a case's peaks, and the Python lines that allocated it: a case run once more, line by line.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bench import supervise
from bench.case import Case, Plan
from bench.errors import EXIT_FAILED_CASE, BenchError
from bench.parts import PartName
from bench.protocol import Event, Finished, Job


class StacksError(BenchError):
    """The case could not be run again."""

    exit_code = EXIT_FAILED_CASE


class Site(msgspec.Struct, frozen=True):
    """What one line allocated for one part, all blocks together, and is alive at a peak."""

    part: PartName
    line: str | None
    """`FILE:LINE`, in a backward that of the forward's operator. None for what was there before the step, and for the
    few things that are made by no function of torch's, such as a generator's state."""
    blocks: tuple[int, ...]
    """Those it belongs to; empty for what lies in none."""
    bytes: int
    count: int
    """How many allocations."""


class Stacks(msgspec.Struct, frozen=True):
    """Both peaks of a case. The bytes of its sites add up to each figure."""

    activation_bytes: int
    activation: tuple[Site, ...]
    """Largest first."""
    peak_bytes: int
    peak: tuple[Site, ...]
    uncompiled: bool = False
    """Something of the case is compiled by torch.compile, and was run as it is written, since compiled code has no
    lines: the bytes are those of that."""


def trace(case: Case, *, threads: int, verify: bool = False) -> Stacks:
    """Has a child process run `case` and tell what is alive at its peaks.

    Raises: StacksError where it cannot be built or run, or the child dies.
    """
    answers: list[Finished] = []

    def hear(event: Event) -> None:
        if isinstance(event, Finished):
            answers.append(event)

    plan = Plan(case, frozenset({"memory"}), verify)
    end = supervise.run(
        Job(kind="stacks", members=(plan,), rounds=0, warmup=0, threads=threads, events=-1), hear, timeout_seconds=None
    )
    failure = end if not answers else answers[0]
    if failure.status != "ok" or not answers:
        raise StacksError(f"{case.label()}: {failure.message or 'the child process ended without an answer'}")
    return msgspec.convert(answers[0].fields, Stacks)


def largest_first(sites: Iterable[Site]) -> tuple[Site, ...]:
    """In the order in which they are told."""
    return tuple(sorted(sites, key=lambda site: (-abs(site.bytes), site.part, site.line or "")))
