"""The sentences on a training run: how good, against what, whether seeds explain it, at what cost; what was watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from bench import words
from reports import units, watched_verdict
from reports.arms import Arm, Spread, ended, headline, over, reference, usual
from reports.differences import between
from reports.seeds import Difference
from reports.settings import Row
from reports.trained import PERCENT

_PREFERRED: Final = ("bdia", "bdia-unquantised", "bdia-stored", "bdia-naive")
"""Of which method the first sentence speaks, where it was trained to the end."""
_QUANTISED: Final = "standard-quantised"
_AT_GAMMA: Final = {"validation_accuracy": "accuracy_at_gamma", "validation_loss": "loss_at_gamma"}


def verdict(found: Sequence[Arm]) -> str:
    """What there is to say of these arms, sentence after sentence."""
    parts: tuple[Callable[[Sequence[Arm]], str], ...] = (
        _first, _quantised, _twins, _precision, _sizes, _fixed, watched_verdict.rebuilt,
        watched_verdict.gradients, _failures
    )  # fmt: skip
    said = [sentence for part in parts if (sentence := part(found))]
    return " ".join(said) or "Nothing was trained to the end."


def subject_of(found: Sequence[Arm]) -> Arm | None:
    """The arm that the first sentence is about: BDIA, of several the one with the paper's γ and l, or else the first
    that is not the reference. Never the best of many, which chance alone would flatter. None where none was trained to
    the end."""
    field = headline(found)
    done = [arm for arm in found if arm is not reference(found, arm) and arm.over_seeds(field) is not None]
    for method in _PREFERRED:
        of = [arm for arm in done if arm.method == method]
        if of:
            return max(of, key=usual)
    return next(iter(done), None)


def score(value: Spread, field: str) -> str:
    """A score over seeds, in words: `88.60 ± 0.20% validation accuracy`, `a validation loss of 1.7237 ± 0.0020`."""
    deviation = value.deviation
    if field == "validation_accuracy":
        of = units.plus_minus(PERCENT * value.mean, None if deviation is None else PERCENT * deviation, 2)
        return f"{_known(of)}% validation accuracy"
    return f"a validation loss of {_known(units.plus_minus(value.mean, deviation, 4))}"


def judged(one: Difference, field: str) -> str:
    """A difference, and whether seeds alone may make it: `+0.86 points, more than the spread over seeds
    explains (Welch's t, p = 0.013, n = 3)`."""
    by = difference(one.mean, field)
    if one.finding == "same weights":
        return "the very same weights, bit for bit"
    if one.finding == "same":
        return "exactly the same"
    if one.finding == "one seed":
        return f"{by}; with one seed there is no telling whether that is more than chance"
    counts = " and ".join(map(str, sorted({len(one.ours), len(one.theirs)})))
    test = one.welch
    by_test = f"Welch's t, p = {units.probability(test.p)}, n = {counts}" if test is not None else f"n = {counts}"
    said = {
        "differ": "more than the spread over seeds explains",
        "within the spread": "within the spread over seeds",
        "not told apart": "wider than the spread over seeds, but not told from chance",
    }[one.finding]
    return f"{by}, {said} ({by_test.replace('p = <', 'p < ')})"


def difference(value: float, field: str) -> str:
    """How far two scores lie apart: `+0.86 points`, or of losses `+0.0040`."""
    if field == "validation_accuracy":
        return f"{units.signed(PERCENT * value, 2)} points"
    return units.signed(value, 4)


def _first(found: Sequence[Arm]) -> str:
    subject, field = subject_of(found), headline(found)
    first = reference(found, subject)
    if first is None or (subject is None and first.over_seeds(field) is None):
        return ""
    arm = subject or first
    reached = arm.over_seeds(field)
    if reached is None:
        return ""
    said = f"{_after(arm)} {arm.name} reaches {score(reached, field)}"
    theirs = None if arm is first else first.over_seeds(field)
    if theirs is None:
        return f"{said}."
    beside = score(theirs, field).replace(" validation accuracy", "").removeprefix("a validation loss of ")
    one = between(arm, first, field)
    gap = "" if one is None else f": {judged(one, field)}"
    costs = _costs(arm, first)
    return f"{said} where {first.name} reaches {beside}{gap}{f'; it takes {costs}' if costs else ''}."


def _after(arm: Arm) -> str:
    steps = max((row["trained_steps"] or 0 for row in arm.ok), default=0)
    over_seeds = f"over {words.counted(len(arm.ok), 'seed')}" if len(arm.ok) > 1 else "with one seed"
    return f"After {units.integer(steps)} steps, {over_seeds},"


def _costs(arm: Arm, first: Arm) -> str:
    """`0.77× standard's peak memory and 1.41× its time an epoch`."""
    parts = []
    ours, theirs = arm.measured["peak_bytes"], first.measured["peak_bytes"]
    if ours and theirs:
        parts.append(f"{units.ratio(ours / theirs)} {first.name}'s peak memory")
    times = [one.over_seeds("epoch_seconds") for one in (arm, first)]
    if times[0] is not None and times[1] is not None and times[1].mean:
        whose = "its" if parts else f"{first.name}'s"
        parts.append(f"{units.ratio(times[0].mean / times[1].mean)} {whose} time an epoch")
    return " and ".join(parts)


def _quantised(found: Sequence[Arm]) -> str:
    """What quantisation alone does: the control that the paper's reviewers asked for."""
    arm = next((arm for arm in found if arm.method == _QUANTISED), None)
    first = reference(found, arm)
    if first is None or arm is None or arm in (first, subject_of(found)):
        return ""
    one = between(arm, first, "validation_loss")
    if one is None:
        return ""
    gap = judged(one, "validation_loss")
    if one.finding == "within the spread" and one.spread is not None:
        gap = gap.replace("within the spread over seeds", f"within the spread over seeds, {units.fixed(one.spread, 4)}")
    return f"Quantised only, the validation loss differs from {first.name}'s by {gap}."


def _twins(found: Sequence[Arm]) -> str:
    """Which arms ended with the same weights, as the same function with exact gradients must."""
    groups: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for arm in found:
        digests = tuple((row["seed"], row["weights_digest"]) for row in arm.ok if row["weights_digest"] is not None)
        if digests:
            groups.setdefault(digests, []).append(arm.name)
    same = [names for names in groups.values() if len(names) > 1]
    clauses = [
        f"{watched_verdict.listed(names)} ended with the same weights, bit for bit, for every seed" for names in same
    ]
    return watched_verdict.sentence(clauses)


def _precision(found: Sequence[Arm]) -> str:
    """Of a sweep over l: which are as good as the best, and which ended otherwise."""
    swept = [arm for arm in found if arm.method == "bdia" and arm.first["bits"] is not None]
    done = [arm for arm in swept if arm.over_seeds("validation_loss") is not None]
    if len({arm.first["bits"] for arm in done}) < 3:
        return ""
    best = min(done, key=lambda arm: _mean(arm, "validation_loss"))
    alike = [arm for arm in done if arm is best or not _worse(arm, best)]
    told = f"Of l, {_range([arm.first['bits'] for arm in alike])} cannot be told from the best, {best.first['bits']}"
    worst = max(done, key=lambda arm: _mean(arm, "validation_loss"))
    if worst not in alike:
        by = units.signed(_mean(worst, "validation_loss") - _mean(best, "validation_loss"), 4)
        told += f"; l = {worst.first['bits']} is worst, by {by}"
    return f"{told}."


def _worse(arm: Arm, best: Arm) -> bool:
    one = between(arm, best, "validation_loss")
    return one is not None and one.finding in ("differ", "one seed") and one.mean > 0


def _sizes(found: Sequence[Arm]) -> str:
    """Of a sweep over γ without quantisation: which ends best, and whether that is more than chance beside γ = 0."""
    field = headline(found)
    swept = [arm for arm in found if arm.method == "bdia-unquantised" and arm.over_seeds(field) is not None]
    if len({arm.first["gamma"] for arm in swept}) < 3:
        return ""
    best = _best(swept, field)
    zero = next((arm for arm in swept if arm.first["gamma"] == "0"), None)
    reached = best.over_seeds(field)
    if reached is None:
        return ""
    said = f"Of γ, {_gamma(best.first)} ends best, with {score(reached, field)}"
    one = None if zero is None or zero is best else between(best, zero, field)
    return f"{said}." if one is None else f"{said}; from γ = 0 that is {judged(one, field)}."


def _fixed(found: Sequence[Arm]) -> str:
    """What the largest fixed γ at inference does to each arm. Which is best is not said: of many, chance makes one."""
    field = headline(found)
    worse: list[str] = []
    largest = 0.0
    for arm in found:
        points = arm.points(_AT_GAMMA[field])
        last = max((point.step for point in points), default=0)
        at = dict(over((point for point in points if point.step == last), lambda point: point.gamma))
        if 0.0 in at and len(at) > 1:
            changes = [at[end].mean - at[0.0].mean for end in (min(at), max(at))]
            worst = min(changes) if field == "validation_accuracy" else max(changes)
            worse.append(f"{difference(worst, field)} for {arm.name}")
            largest = max(largest, *map(abs, at))
    if not worse:
        return ""
    what = "validation accuracy" if field == "validation_accuracy" else "validation loss"
    said = " and ".join(worse) if len(worse) < 3 else ", ".join(worse)
    return f"At inference, γ = ±{units.tick(largest)} in place of 0 changes {what} by {said}, whichever sign is worse."


def _failures(found: Sequence[Arm]) -> str:
    lost = [end for arm in found for row in arm.rows if (end := ended(row)) != "ok"]
    if not lost:
        return ""
    whole = sum(len(arm.rows) for arm in found)
    ends = ", ".join(f"{number} {status}" for status, number in Counter(lost).items())
    did = "was" if len(lost) == 1 else "were"
    return f"{len(lost)} of {words.counted(whole, 'seed')} {did} not trained to the end ({ends})."


def _best(of: Sequence[Arm], field: str) -> Arm:
    sign = -1 if field == "validation_accuracy" else 1
    return min(of, key=lambda arm: sign * _mean(arm, field))


def _mean(arm: Arm, field: str) -> float:
    value = arm.over_seeds(field)
    return 0.0 if value is None else value.mean


def _known(text: str) -> str:
    """In a sentence a deviation that there is none of goes without saying: so many seeds have been told."""
    return text.removesuffix(f" ± {units.MISSING}")


def _gamma(row: Row) -> str:
    return "0" if row["gamma"] == "0" else f"±{row['gamma']}"


def _range(values: Sequence[int]) -> str:
    """`5 to 13`, or the values where some between are missing."""
    known = sorted(set(values))
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return f"{known[0]} to {known[-1]}"
    return ", ".join(map(str, known))
