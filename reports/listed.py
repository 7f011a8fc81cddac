"""What `list` and `run --dry-run` print. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bdia.methods import METHODS
from bench import models, peers, suite
from bench.case import MEASUREMENTS, Plan
from reports import units


def everything() -> Iterator[str]:
    """Suites, methods, peers and models, a line each."""
    suites = [(name, suite.load(name).title) for name in suite.names()]
    methods = [(method.name, method.summary) for method in METHODS]
    known = [*((model.name, model.summary) for model in models.MODELS), *models.FORMS.items()]
    rivals = [(peer.name, peer.summary + ("" if peer.missing is None else " (not installed)")) for peer in peers.PEERS]
    for heading, rows in (("Suites", suites), ("Methods", methods), ("Peers", rivals), ("Models", known)):
        yield heading
        yield from (f"  {name:<22}{summary}" for name, summary in rows)


def plans(found: Sequence[Plan]) -> Iterator[str]:
    """The cases of a run that measures nothing, and what would be measured of each."""
    for plan in found:
        measured = ", ".join(name for name in MEASUREMENTS if name in plan.measure)
        yield f"{plan.case.label()}: {measured if plan.unsupported is None else f'unsupported, {plan.unsupported}'}"
    yield f"{units.cases(len(found))}; nothing was measured (--dry-run)"
