"""One plain sentence on a frontier: how far it goes with which method, what that costs, and whether to bother."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench import frontier
from bench.frontier import Largest
from bench.rates import REFERENCE
from bench.record import Record
from reports import settings, units
from reports.frontier import noun

WORTH: Final = 0.1
"""Where blocks hold less than this share of a step's peak, no method is worth it."""
_GAIN: Final = 1.05
"""And where none goes further than by this factor, neither is any."""


def verdict(found: Sequence[Largest], records: Sequence[Record]) -> str:
    """The sentence. Of several settings it speaks of the last one that has a result."""
    groups: dict[tuple[object, ...], list[Largest]] = {}
    for one in found:
        groups.setdefault(frontier.group(one), []).append(one)
    having = [members for members in groups.values() if any(one.value is not None for one in members)]
    limit = units.size(found[0].limit_bytes)
    if not having:
        return f"Nothing fits {limit}{_lowest(found)}."
    members = having[-1]
    share = frontier.removable(records).get(frontier.group(members[0]))
    return f"{_sentence(members, limit, share)}{_others(len(groups))}"


def _sentence(members: Sequence[Largest], limit: str, share: float | None) -> str:
    reference = frontier.references(members).get(frontier.group(members[0]))
    able = [one for one in members if one.value is not None]
    best = max(able, key=lambda one: (one.value or 0, one.samples_per_second or 0.0))
    removable = "" if share is None else f"at most {units.percent(share)} of {REFERENCE}'s peak is removable"
    if share is not None and share < WORTH:
        return f"Don't bother: {removable}, as the blocks hold no more of it{_beside(best, reference, limit)}."
    if reference and (best is reference or (reference.value and _factor(best, reference) < _GAIN)):
        far = noun(best.over, best.value or 0)
        said = f"Don't bother: within {limit} no method goes much further than {REFERENCE}, {far}"
        return f"{said}; {removable}." if removable else f"{said}."
    parts = [f"within {limit}, {_name(best, members)} trains {_at(best)}{_where(reference)}"]
    # What standard itself can do with its step in parts, and the best of what is neither.
    own = [one for one in able if one.case.method == REFERENCE and one is not reference and one is not best]
    rivals = [one for one in able if one.case.method not in (best.case.method, REFERENCE)]
    for others in (own, rivals):
        if others:
            rival = max(others, key=lambda one: one.value or 0)
            parts.append(f"{_name(rival, members)} {_at(rival)}")
    said = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    rates = []
    if best.rate_ratio is not None:
        rates.append(f"at {units.ratio(best.rate_ratio)} {REFERENCE}'s rate")
    if best.equal_rate_ratio is not None and best.equal_value is not None:
        rates.append(f"at {units.ratio(best.equal_rate_ratio)} where both train {noun(best.over, best.equal_value)}")
    costs = f", {' and '.join(rates)}" if rates else ""
    tail = f"; {removable}" if removable else ""
    return f"{said[0].upper()}{said[1:]}{costs}{tail}."


def _factor(one: Largest, reference: Largest) -> float:
    return (one.value or 0) / (reference.value or 1)


def _at(one: Largest) -> str:
    return f"{'at least ' if one.ending == 'at least' else ''}{noun(one.over, one.value or 0)}"


def _where(reference: Largest | None) -> str:
    """What standard does instead."""
    if reference is None:
        return ""
    if reference.value is None:
        return f" where {REFERENCE} does not fit at all"
    return f" where {REFERENCE} trains {_at(reference)}"


def _beside(best: Largest, reference: Largest | None, limit: str) -> str:
    if reference is None or reference.value is None or best is reference:
        return ""
    return f"; within {limit} {REFERENCE} trains {_at(reference)}, {best.case.method} {_at(best)}"


def _name(one: Largest, members: Sequence[Largest]) -> str:
    """The method, with what tells it from others of its name."""
    same = [_row(other) for other in members if other.case.method == one.case.method]
    told = settings.values(_row(one), settings.of_the_method(same)) if len(same) > 1 else []
    return f"{one.case.method} ({', '.join(told)})" if told else one.case.method


def _row(one: Largest) -> settings.Row:
    return {name: getattr(one.case, name) for name in one.case.__struct_fields__}


def _lowest(found: Sequence[Largest]) -> str:
    """At what value nothing fits, where it is one."""
    values = {(one.over, one.beyond) for one in found if one.ending == "none" and one.beyond is not None}
    return f", not even {noun(*values.pop())}" if len(values) == 1 else ""


def _others(groups: int) -> str:
    return f" There are {groups} settings: the table has the others." if groups > 1 else ""
