"""The table of differences: whether an arm lies further from the first than its seeds lie from one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from reports import seeds, units
from reports.arms import Arm, reference, scored
from reports.seeds import Difference
from reports.sheets import Cell, Column, Line, Sheet, Tone, cell
from reports.trained import PERCENT

NAME: Final = "seed-to-seed test"
SAID: Final[Mapping[str, str]] = {
    "same weights": "the same weights",
    "same": "the same",
    "one seed": "one seed: no test",
    "differ": "they differ",
    "within the spread": "within the spread",
    "not told apart": "not told apart",
}
_TONES: Final[Mapping[str, Tone]] = {"same weights": "good", "same": "good", "one seed": "muted"}


def compared(found: Sequence[Arm]) -> list[tuple[Arm, str, Difference]]:
    """Each arm but the reference, each field that tells how good it is at the end, and how far it lies from the
    reference's."""
    fields = ("validation_accuracy", "validation_loss") if scored(found) else ("validation_loss",)
    differences = []
    for arm in found:
        first = reference(found, arm)
        if first is None or arm is first:
            continue
        for field in fields:
            one = between(arm, first, field)
            if one is not None:
                differences.append((arm, field, one))
    return differences


def between(arm: Arm, other: Arm, field: str) -> Difference | None:
    """How far `arm` lies from `other`; None where either has no number."""
    ours, theirs = ({row["seed"]: row["weights_digest"] for row in one.ok} for one in (arm, other))
    same = bool(ours) and None not in ours.values() and ours == theirs
    return seeds.difference(arm.by_seed(field), other.by_seed(field), same_weights=same)


def sheet(found: Sequence[Arm]) -> Sheet | None:
    """A row an arm and field; None where there is nothing to compare."""
    differences = compared(found)
    if not differences:
        return None
    firsts = {arm: reference(found, arm) for arm, _, _ in differences}
    names = list(dict.fromkeys(first.name for first in firsts.values() if first is not None))
    told = len(names) > 1
    lines: list[Line] = []
    before: Arm | None = None
    for arm, field, one in differences:
        against = [Cell(first.name)] if told and (first := firsts[arm]) is not None else []
        lines.append(Line((Cell(arm.name), *against, *_cells(field, one)), opens=arm is not before))
        before = arm
    columns = (
        Column("arm", numeric=False),
        *([Column("against", numeric=False)] if told else []),
        Column("of", numeric=False),
        Column("n"),
        Column("difference", "(95% interval)"),
        Column("spread", "over seeds"),
        Column("t"),
        Column("p", "Welch"),
        Column("p", "by seed"),
        Column("finding", numeric=False),
    )
    return Sheet(
        title=NAME if told else f"{NAME} · against {names[0]}",
        columns=columns,
        lines=tuple(lines),
        keys=1 + told,
        labels=2 + told,
        legend=_LEGEND + (("accuracy: in points",) if scored(found) else ()),
        name=NAME,
    )


_LEGEND: Final = (
    "test: Welch's t-test of the values at the end, two-sided, at 0.05; n: seeds of either arm",
    "spread: sample deviation over seeds, pooled; within the spread: the means lie no further apart than that",
    "p by seed: paired t-test; one seed is the same initial weights and the same batches in every arm",
    "not told apart: further than the spread, but p is not under 0.05; of few seeds a test sees but large differences",
)


def _cells(field: str, one: Difference) -> tuple[Cell, ...]:
    factor, decimals = (PERCENT, 2) if field == "validation_accuracy" else (1.0, 4)
    test, spread = one.welch, one.spread
    low, high = (None, None) if test is None else (factor * test.low, factor * test.high)
    interval = "" if low is None else f"{units.signed(low, decimals)} to {units.signed(high, decimals)}"
    counts = sorted({len(one.ours), len(one.theirs)})
    return (
        Cell("accuracy" if field == "validation_accuracy" else "loss"),
        Cell(", ".join(map(units.integer, counts)), value=counts[0]),
        Cell(units.signed(factor * one.mean, decimals), extra=interval, value=one.mean),
        cell(units.fixed(None if spread is None else factor * spread, decimals), spread),
        cell(units.fixed(None if test is None else test.t, 2), None if test is None else test.t),
        cell(units.probability(None if test is None else test.p), None if test is None else test.p),
        cell(units.probability(one.paired), one.paired),
        Cell(SAID[one.finding], _TONES.get(one.finding, "plain")),
    )
