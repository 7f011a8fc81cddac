"""The key figures of a training run: what the arm that the verdict speaks of reaches, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence

from reports import trained_verdict, units
from reports.arms import Arm, headline, reference
from reports.differences import SAID, between
from reports.html.cards import Bar, Card
from reports.trained import PERCENT


def cards(found: Sequence[Arm]) -> tuple[Card, ...]:
    """The cards for these arms. What was not measured has none."""
    subject = trained_verdict.subject_of(found) or reference(found)
    first = reference(found, subject)
    if subject is None or first is None:
        return ()
    told = (
        _score(subject, found),
        _difference(subject, first, headline(found)),
        _time(subject, first),
        _memory(subject, first, found),
    )
    return tuple(card for card in told if card is not None)


def _score(subject: Arm, found: Sequence[Arm]) -> Card | None:
    field = headline(found)
    value = subject.over_seeds(field)
    if value is None:
        return None
    percent = field == "validation_accuracy"
    factor, decimals = (PERCENT, 2) if percent else (1.0, 4)
    deviation = units.fixed(None if value.deviation is None else factor * value.deviation, decimals)
    figure = f"{units.fixed(factor * value.mean, decimals)}{' %' if percent else ''}"
    label = "Validation accuracy" if percent else "Validation loss"
    return Card(label, figure, f"{subject.name}; ± {deviation} over {units.integer(len(value.values))} seeds")


def _difference(subject: Arm, first: Arm, field: str) -> Card | None:
    one = None if subject is first else between(subject, first, field)
    if one is None:
        return None
    test = "" if one.welch is None else f"; Welch's p {units.probability(one.welch.p)}"
    said = trained_verdict.difference(one.mean, field)
    return Card(f"Against {first.name}", said, f"{SAID[one.finding]}{test}")


def _memory(subject: Arm, first: Arm, found: Sequence[Arm]) -> Card | None:
    held = {arm.name: arm.measured["peak_bytes"] for arm in found}
    if held[subject.name] is None:
        return None
    largest = max(size or 0 for size in held.values()) or 1
    bars = tuple(
        Bar(name, units.MISSING, None) if size is None else Bar(name, units.size(size), size / largest)
        for name, size in held.items()
    )
    reference_ = held[first.name]
    note = f"of {subject.name}"
    if subject is not first and reference_:
        note += f"; {units.ratio(held[subject.name] / reference_)} {first.name}'s"
    return Card("Peak memory of a step", units.size(held[subject.name]), note, bars if len(bars) > 1 else ())


def _time(subject: Arm, first: Arm) -> Card | None:
    ours, theirs = (arm.over_seeds("train_seconds") for arm in (subject, first))
    if ours is None or theirs is None or subject is first or not theirs.mean:
        return None
    return Card("Time of training", units.ratio(ours.mean / theirs.mean), f"of {first.name}'s, as it was trained")
