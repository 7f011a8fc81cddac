"""What is trained: a model with the recipe's optimiser, fed the part of the data that trains, and the part that is held
out beside it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bdia.backprop import rng
from bench import batches, models
from bench.builders import placed, reference
from bench.case import Case
from bench.recipe import Recipe
from bench.training.optimizers import optimizer
from bench.workload import Batch, Workload


@dataclass(frozen=True)
class Trainee:
    """A workload whose batch number s is the one of training step s, from 0 on, and what it is held to."""

    workload: Workload
    case: Case
    validation: reference.Source
    batches_an_epoch: int
    classifies: bool
    """Whether there is one right answer a sample, so that there is an accuracy."""

    def held_out(self, count: int | None) -> Iterator[Batch]:
        """`count` batches of the validation set, or all of it, in their place and always the same."""
        for batch in self.validation.held_out(count):
            yield placed.put(self.case, batch)

    def evaluate(self, count: int | None) -> tuple[float | None, float | None]:
        """Mean loss over the samples of `held_out(count)` in eval mode, and the share of them that is classified right,
        each None where there is none. Leaves torch's RNG as it is, whatever the model draws."""
        workload = self.workload
        loss, right, samples = 0.0, 0, 0
        workload.model.eval()
        try:
            with torch.no_grad(), rng.restored(rng.state_of(workload.device), workload.device), self.judged() as judged:
                for batch in self.held_out(count):
                    rows = batches.rows(batch)
                    loss += rows * float(workload.loss(workload.model, batch))
                    samples += rows
                right = sum(int(one) for one in judged)
        finally:
            workload.model.train()
        mean = loss / samples
        return mean if math.isfinite(mean) else None, right / samples if self.classifies else None

    @contextlib.contextmanager
    def judged(self) -> Iterator[list[Tensor]]:
        """Counts, for each forward inside, the samples that are classified right: scalars on the device."""
        found: list[Tensor] = []
        if not self.classifies:
            yield found
            return

        def judge(module: nn.Module, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> None:
            found.append((outputs[0].detach().argmax(dim=-1) == inputs[1]).sum())

        hook = self.workload.model.register_forward_hook(judge)
        try:
            yield found
        finally:
            hook.remove()


def build(case: Case, recipe: Recipe) -> Trainee:
    """What `case` trains by `recipe`, at initial weights, which are those of any other recipe.

    Raises: UsageError for axes that the model cannot take, and data that will not do.
    """
    classifies = models.get(case.model).input == "images"
    training = reference.source(case, "train", augment=recipe.augment and classifies)
    validation = reference.source(case, "validation")
    torch.manual_seed(case.seed)
    made = reference.assembled(case, training, recipe.dropout)
    workload = Workload(
        made.model, made.batch, made.loss, optimizer(made.model, recipe), made.blocks, samples=made.samples,
        tokens=made.tokens, batches=made.batches, seed=made.seed,
    ).accumulating(case.accumulate)  # fmt: skip
    return Trainee(workload, case, validation, training.batches_an_epoch, classifies)
