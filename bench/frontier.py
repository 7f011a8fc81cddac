"""The frontier: the largest batch, depth or number of tokens that fits a limit, method by method, and the rates there.

Everything follows from the records of the probes, so that a report can tell it again. Pure functions; no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from bench import parts, rates
from bench.case import Case
from bench.rates import REFERENCE
from bench.record import Record

Over = Literal["batch", "seq", "depth"]
OVERS: Final[tuple[Over, ...]] = ("batch", "seq", "depth")
STEPS: Final[Mapping[str, int]] = {"batch": 1, "seq": 64, "depth": 1}
"""To how much the largest value is found, unless it is said."""
BLOCK_PARTS: Final = ("residual_states", "side_bits", "rng_states", "block")
"""What a step holds for its blocks: more than this no method can do without."""

Ending = Literal["found", "at least", "open", "stopped", "none"]
"""How a search ended: the largest is known; nothing larger was allowed; there were no probes left; an error, and not
memory, was in the way; not even the smallest fits."""


class Largest(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one method and its settings. `case` has None for what is looked for."""

    case: Case
    over: str
    step: int
    limit_bytes: int
    ending: Ending
    value: int | None
    """The largest that was measured to fit."""
    beyond: int | None
    """The smallest above it that was measured not to."""
    probes: int
    """Cases that were probed, those measured for comparison among them."""
    peak_bytes: int | None
    confirmed_steps: int | None
    tokens_per_second: float | None
    samples_per_second: float | None
    """The rate at `value`."""
    rate_ratio: float | None
    """Over `standard`'s at its own largest value; each was timed alone."""
    equal_value: int | None
    """The largest value that all methods have that are compared with one another: there a step has as many samples, and
    as much work, for each."""
    equal_tokens_per_second: float | None
    equal_samples_per_second: float | None
    equal_rate_ratio: float | None
    """Over `standard`'s, the median of paired rounds."""
    message: str | None
    """Why nothing larger, or nothing at all, was measured."""


def fits(record: Record) -> bool:
    """Whether a probe found that its case fits."""
    peak, limit = record.peak_bytes, record.limit_bytes
    return record.status == "ok" and peak is not None and limit is not None and peak <= limit


def hindered(record: Record) -> bool:
    """Whether what kept it from fitting was something else than memory."""
    return record.status in ("error", "timeout", "unsupported", "skipped")


def arm(record: Record) -> Case:
    """What the probes of one search share: the case without what is looked for."""
    case = record.case()
    return case if record.frontier_over is None else msgspec.structs.replace(case, **{record.frontier_over: None})


def largests(records: Iterable[Record]) -> list[Largest]:
    """What was found, method by method in the order of their first probes, of all records that are probes."""
    arms: dict[tuple[Case, str | None], list[Record]] = {}
    for record in records:
        if record.limit_bytes is not None:
            arms.setdefault((arm(record), record.frontier_over), []).append(record)
    found = [_largest(case, probes) for (case, _), probes in arms.items()]
    return _compared(found, [record for probes in arms.values() for record in probes])


def equal_values(found: Iterable[Largest]) -> dict[tuple[object, ...], int]:
    """For methods that are compared with one another, by what `group` says they share, the largest value that all of
    them have. Those that have none have no say."""
    values: dict[tuple[object, ...], int] = {}
    for one in found:
        if one.value is not None:
            key = group(one)
            values[key] = min(values.get(key, one.value), one.value)
    return values


def group(one: Largest) -> tuple[object, ...]:
    """What the methods share that are compared with one another."""
    return (one.over, *one.case.group())


def references(found: Iterable[Largest]) -> dict[tuple[object, ...], Largest]:
    """Of each group the `standard` that others are beside: that of the whole batch, or else of the fewest parts. A step
    in parts is a rival, as in `bench.rates`."""
    chosen: dict[tuple[object, ...], Largest] = {}
    for one in found:
        key = group(one)
        if one.case.method == REFERENCE and (key not in chosen or one.case.accumulate < chosen[key].case.accumulate):
            chosen[key] = one
    return chosen


def value_of(record: Record) -> int:
    """The value of what is looked for at which a probe was made."""
    assert record.frontier_over is not None
    value = getattr(record, record.frontier_over)
    assert isinstance(value, int)
    return value


def removable(records: Iterable[Record]) -> dict[tuple[object, ...], float]:
    """For each group in which `standard` was measured, in as few parts as it was: the share of its peak that its blocks
    hold, at the largest value that fits or, where none does, the smallest. No method can take away more of it."""
    chosen: dict[tuple[object, ...], Record] = {}
    for record in records:
        if record.method != REFERENCE or record.frontier_over is None or not record.peak_parts:
            continue
        key = (record.frontier_over, *arm(record).group())
        chosen[key] = max(chosen.get(key, record), record, key=_telling)
    shares = {}
    for key, record in chosen.items():
        held = parts.totals(record.peak_parts or {})
        shares[key] = sum(held.get(name, 0) for name in BLOCK_PARTS) / max(1, sum(held.values()))
    return shares


def _telling(record: Record) -> tuple[int, bool, int]:
    fitting = fits(record)
    return -record.accumulate, fitting, value_of(record) if fitting else -value_of(record)


def _largest(case: Case, probes: Sequence[Record]) -> Largest:
    first = probes[0]
    assert first.frontier_over is not None
    assert first.frontier_step is not None
    assert first.limit_bytes is not None
    refused = [record for record in probes if not fits(record)]
    lowest = min(map(value_of, refused), default=None)
    # Where more turns out to fit than less, the lower end counts, as in the search.
    fitting = [record for record in probes if fits(record) and (lowest is None or value_of(record) < lowest)]
    at = max(fitting, key=value_of, default=None)
    beyond = min(refused, key=value_of, default=None)
    return Largest(
        case=case,
        over=first.frontier_over,
        step=first.frontier_step,
        limit_bytes=first.limit_bytes,
        ending=_ending(at, beyond, first.frontier_step),
        value=None if at is None else value_of(at),
        beyond=lowest,
        probes=len(probes),
        peak_bytes=None if at is None else at.peak_bytes,
        confirmed_steps=None if at is None else at.confirmed_steps,
        tokens_per_second=None if at is None else at.tokens_per_second,
        samples_per_second=None if at is None else at.samples_per_second,
        rate_ratio=None,
        equal_value=None,
        equal_tokens_per_second=None,
        equal_samples_per_second=None,
        equal_rate_ratio=None,
        message=next((one.message for one in (beyond, at) if one is not None and _worth_saying(one)), None),
    )


def _worth_saying(record: Record) -> bool:
    """Not that memory ran out, which is what was looked for."""
    return record.message is not None and (fits(record) or hindered(record))


def _ending(at: Record | None, beyond: Record | None, step: int) -> Ending:
    if beyond is not None and hindered(beyond) and (at is None or value_of(beyond) == value_of(at) + step):
        return "stopped"
    if at is None:
        return "none"
    if beyond is None:
        return "at least"
    return "found" if value_of(beyond) == value_of(at) + step else "open"


def _compared(found: Sequence[Largest], records: Sequence[Record]) -> list[Largest]:
    """`found` with what each is beside the others of its group."""
    values, paired = equal_values(found), rates.ratios(records)
    by_case = {record.case(): record for record in records}
    beside = references(found)
    told = []
    for one in found:
        key, fields = group(one), dict[str, Any]()
        reference = beside.get(key)
        if reference is not None and reference is not one and one.samples_per_second and reference.samples_per_second:
            ours, theirs = _rate(one), _rate(reference)
            fields["rate_ratio"] = ours / theirs
        if one.value is not None and key in values:
            fields["equal_value"] = values[key]
            at = by_case.get(msgspec.structs.replace(one.case, **{one.over: values[key]}))
            if at is not None:
                fields["equal_tokens_per_second"] = at.tokens_per_second
                fields["equal_samples_per_second"] = at.samples_per_second
                fields["equal_rate_ratio"] = paired.get(at.case())
        told.append(msgspec.structs.replace(one, **fields))
    return told


def _rate(one: Largest) -> float:
    """Tokens a second where there are any, since the numbers of them may differ; else samples."""
    return one.tokens_per_second or one.samples_per_second or 0.0
