"""Which stored records stand, and need not be measured again. Pure functions; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from bench import private, skipping
from bench.case import Plan
from bench.record import FAILED, Record

Rerun = Literal["none", "failed", "all"]
"""Which records are not used again though nothing has changed."""


def standing(prints: Mapping[Plan, str], records: Sequence[Record], *, rerun: Rerun, skip: bool) -> dict[Plan, Record]:
    """The records that stand, by their plans.

    What was left out stands as long as that for which it was left out; without `skip` it never does.

    Args:
        prints: the fingerprint of each plan.
    """
    if rerun == "all":
        return {}
    refused = FAILED if rerun == "failed" else ()
    held = {record.fingerprint: record for record in records if record.status not in refused}
    found = {plan: held[digest] for plan, digest in prints.items() if digest in held}
    exhausted = skipping.exhausted(found) if skip else []
    return {
        plan: record
        for plan, record in found.items()
        if record.status != "skipped" or skipping.lacking(plan, record) <= skipping.left_out(plan, exhausted).measure
    }


def stale(prints: Mapping[Plan, str], records: Sequence[Record]) -> int:
    """How many stored records of these cases are of no use any more."""
    cases = {private.case(plan.case) for plan in prints}
    fresh = set(prints.values())
    return sum(record.case() in cases and record.fingerprint not in fresh for record in records)
