"""What is trained: a model with the recipe's optimiser, fed the part of the data that trains, and the part that is held
out beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from bench import evaluation, models
from bench.builders import placed, reference
from bench.case import Case
from bench.evaluation import Score
from bench.recipe import Recipe
from bench.training import statistics
from bench.training.optimizers import optimizer
from bench.workload import Batch, Workload

GATHERED: Final = 16
"""Training batches that batch norm's statistics are gathered of before an evaluation."""


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

    def evaluate(self, count: int | None) -> Score:
        """Loss and accuracy over `held_out(count)`, with batch norm's statistics those of the model at inference."""
        statistics.gather(self.workload, map(self.workload.batches, range(GATHERED)))
        return evaluation.evaluate(self.workload, self.held_out(count))


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
