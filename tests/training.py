"""Small things to train, for tests: cases and recipes that take milliseconds a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthetic_records import case

from bench.case import Plan
from bench.curves import Curves, Point
from bench.recipe import Recipe, Training
from bench.training import loop

TEXT: dict[str, Any] = {"model": "gpt", "depth": 3, "width": 16, "heads": 2, "seq": 12, "batch": 3}
IMAGES: dict[str, Any] = {
    "model": "vit", "depth": 2, "width": 8, "heads": 2, "batch": 32, "seq": None, "vocab": None,
}  # fmt: skip


def plan(method: str, *, watch: tuple[str, ...] = (), axes: dict[str, Any] = TEXT, seed: int = 0, **given: Any) -> Plan:
    """An arm called as its method. `given` goes into its recipe."""
    recipe = Recipe(**{"steps": 20, "eval_every": 7, "eval_batches": 2, "checkpoint_every": 5, "dropout": 0.1} | given)
    one = case(method, **axes, seed=seed, arm=method, train_steps=recipe.steps)
    return Plan(case=one, measure=frozenset(), training=Training(experiment="test", recipe=recipe, watch=watch))


class Stopped(Exception):  # noqa: N818
    """What cuts a training off."""


def train(plan: Plan, directory: Path, *, stop_at: int | None = None, fingerprint: str = "f") -> dict[str, Any]:
    """Trains it in `directory` and returns the fields of its record.

    Raises: Stopped once as many steps are told of.
    """

    def tell(step: int, points: list[Point]) -> None:
        if stop_at is not None and step >= stop_at:
            raise Stopped

    with Curves(directory) as curves:
        return loop.train(plan, directory / "checkpoints", curves, fingerprint, tell)[0]
