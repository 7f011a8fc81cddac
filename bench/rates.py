"""Speed as ratios within one run: a method's steps against those of `standard`, round by round. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Final

from bench.case import Case
from bench.record import Record

REFERENCE: Final = "standard"
"""The method that ratios are against."""


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
    references = {record.case().group(): record for record in found if record.method == REFERENCE}
    medians: dict[Case, float] = {}
    for record in found:
        if record.method != REFERENCE and record.step_seconds:
            case = record.case()
            if pairs := paired(record, references.get(case.group())):
                medians[case] = statistics.median(pairs)
    return medians
