"""What `list` and `run --dry-run` print. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bdia.methods import METHODS
from bench import experiments, models, peers, suite, words
from bench.case import MEASUREMENTS, Plan
from reports import units


def everything() -> Iterator[str]:
    """Suites, experiments, methods, peers and models, a line each."""
    trained = [(name, experiments.load(name).title) for name in experiments.names()]
    suites = [(name, suite.load(name).title) for name in suite.names()]
    methods = [(method.name, method.summary) for method in METHODS]
    known = [*((model.name, model.summary) for model in models.MODELS), *models.FORMS.items()]
    rivals = [(peer.name, peer.summary + ("" if peer.missing is None else " (not installed)")) for peer in peers.PEERS]
    headed = (
        ("Suites", suites), ("Experiments", trained), ("Methods", methods), ("Peers", rivals), ("Models", known),
    )  # fmt: skip
    for heading, rows in headed:
        yield heading
        yield from (f"  {name:<22}{summary}" for name, summary in rows)


def plans(found: Sequence[Plan]) -> Iterator[str]:
    """The cases of a run that measures nothing, and what would be measured of each."""
    for plan in found:
        measured = ", ".join(name for name in MEASUREMENTS if name in plan.measure)
        yield f"{plan.case.label()}: {measured if plan.unsupported is None else f'unsupported, {plan.unsupported}'}"
    yield f"{units.cases(len(found))}; nothing was measured (--dry-run)"


def trainings(found: Sequence[Plan]) -> Iterator[str]:
    """The arms and seeds of a training run that trains nothing."""
    for plan in found:
        steps = units.integer(plan.case.train_steps)
        what = f"{steps} steps" if plan.unsupported is None else f"unsupported, {plan.unsupported}"
        yield f"{plan.case.arm} seed {plan.case.seed}: {what}: {plan.case.label()}"
    yield f"{words.counted(len(found), 'training')}; nothing was trained (--dry-run)"
