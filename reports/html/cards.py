"""The key figures of a run, few enough to take in at a glance: those of the case that the verdict speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.case import METHOD_AXES
from reports import units
from reports.frame import REFERENCE, method_rank
from reports.settings import Row
from reports.verdict import subject_of


@dataclass(frozen=True)
class Bar:
    """One method's share of a comparison."""

    method: str
    text: str
    share: float | None
    """Of the longest bar, from 0 to 1; None for a method without a number, whose text says why."""


@dataclass(frozen=True)
class Card:
    """What is told, the figure, and what stands below it."""

    label: str
    figure: str
    note: str = ""
    bars: tuple[Bar, ...] = ()
    good: bool | None = None
    """Whether the figure is one to be glad of, where that is a question of yes or no."""


def cards(found: Sequence[Row]) -> tuple[Card, ...]:
    """The cards for these rows. What was not measured has none."""
    subject = subject_of(found)
    if subject is None:
        return _rebuilt(found)
    group = _of_each_method(subject, found)
    told = (_memory(subject, group), _saved(subject, group), _rate(subject), _exactness(subject))
    return tuple(card for card in told if card is not None)


def _of_each_method(subject: Row, found: Sequence[Row]) -> list[Row]:
    """The subject's group with a row a method: of several l and γ, those of the subject where there is such a row."""
    group = [row for row in found if row["group"] == subject["group"]]
    versions: dict[str, list[Row]] = {}
    for row in group:
        versions.setdefault(row["method"], []).append(row)
    alike = METHOD_AXES[1:]
    chosen = {
        method: max(rows, key=lambda row: [row[axis] == subject[axis] for axis in alike])
        for method, rows in versions.items()
    }
    chosen[subject["method"]] = subject
    return [chosen[method] for method in sorted(chosen, key=method_rank)]


def _memory(subject: Row, group: Sequence[Row]) -> Card:
    largest = max(row["activation_bytes"] or 0 for row in group)
    bars = tuple(
        Bar(row["method"], row["status"] if row["status"] != "ok" else units.MISSING, None)
        if row["activation_bytes"] is None
        else Bar(row["method"], units.size(row["activation_bytes"]), row["activation_bytes"] / (largest or 1))
        for row in group
    )
    depth = subject["depth"]
    where = "" if depth is None else f" at depth {units.integer(depth)}"
    return Card(
        f"Activation memory{where}",
        units.size(subject["activation_bytes"]),
        f"held by {subject['method']}",
        bars if len(bars) > 1 else (),
    )


def _saved(subject: Row, group: Sequence[Row]) -> Card | None:
    reference = next((row["activation_bytes"] for row in group if row["method"] == REFERENCE), None)
    held = subject["activation_bytes"]
    if subject["method"] == REFERENCE or not reference or not held:
        return None
    less = reference >= held
    ratio = units.ratio(reference / held if less else held / reference)
    return Card("Memory saved" if less else "Memory added", ratio, f"{'less' if less else 'more'} than {REFERENCE}")


def _rate(subject: Row) -> Card | None:
    if subject["method"] == REFERENCE or subject["rate_ratio"] is None:
        return None
    low, high = (units.ratio(subject[f"rate_ratio_{end}"]) for end in ("low", "high"))
    return Card("Training rate", units.ratio(subject["rate_ratio"]), f"of {REFERENCE}'s; rounds from {low} to {high}")


def _exactness(subject: Row) -> Card | None:
    exact, gradient = subject["bit_exact"], subject["gradient_error"]
    if exact is None and gradient is None:
        return None
    note = "" if gradient is None else f"gradient error {units.error(gradient)}"
    if exact is None:
        return Card("Gradients", units.error(gradient), "relative error", good=gradient == 0)
    if exact:
        return Card("Reconstruction", "bit for bit", note, good=True)
    finite = subject["reconstruction_finite"]
    worst = units.error(subject["worst_max_abs_error"]) if finite else units.NOT_FINITE
    return Card("Reconstruction", worst, "; ".join(filter(None, ("largest error", note))), good=False)


def _rebuilt(found: Sequence[Row]) -> tuple[Card, ...]:
    """For runs that measured reconstructions only: the worst of each method."""
    tried = [row for row in found if row["status"] == "ok" and row["reconstruction"] is not None]
    told = []
    for method in sorted({row["method"] for row in tried}, key=method_rank):
        cases = [row for row in tried if row["method"] == method]
        finite = all(row["reconstruction_finite"] for row in cases)
        worst = units.error(max(row["worst_max_abs_error"] for row in cases)) if finite else units.NOT_FINITE
        of = "its one case" if len(cases) == 1 else f"{units.integer(len(cases))} cases"
        told.append(Card(method, worst, f"worst error of {of}", good=all(row["bit_exact"] for row in cases)))
    return tuple(told)
