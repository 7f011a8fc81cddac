"""Speed as ratios within one run: a method's steps against those of `standard`, round by round. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterable
from typing import Final, TypeVar

from bench.case import Case
from bench.record import Record

REFERENCE: Final = "standard"
"""The method that ratios are against."""

Group = TypeVar("Group", bound=Hashable)


def references(groups: Iterable[Group], records: Iterable[Record]) -> dict[Group, Record]:
    """Of each group the `standard` that ratios are against: the one of the whole batch, or else of the fewest parts. A
    step in parts is a rival and no yardstick. `groups` has the group of each record."""
    found: dict[Group, Record] = {}
    for group, record in zip(groups, records, strict=True):
        if record.method == REFERENCE and (group not in found or record.accumulate <= found[group].accumulate):
            found[group] = record
    return found


def paired(record: Record, reference: Record | None) -> list[float]:
    """Round by round, the reference's seconds over this record's: above 1 is faster than the reference.

    Empty unless both come from the same rounds: else they were not timed side by side."""
    if reference is None or record.rounds_id is None or record.rounds_id != reference.rounds_id:
        return []
    ours, theirs = record.step_seconds, reference.step_seconds
    if not ours or not theirs:
        return []
    return [their / our for our, their in zip(ours, theirs, strict=True)]


def ratios(records: Iterable[Record]) -> dict[Case, float]:
    """The median of `paired` for each case that has one; the reference itself has none."""
    found = list(records)
    cases = [record.case() for record in found]
    held_to = references([case.group() for case in cases], found)
    medians: dict[Case, float] = {}
    for case, record in zip(cases, found, strict=True):
        reference = held_to.get(case.group())
        if reference is not None and reference.case() != case and (pairs := paired(record, reference)):
            medians[case] = statistics.median(pairs)
    return medians
