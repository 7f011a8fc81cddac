"""What becomes of the model where one γ is kept at inference: eq. 10 in eval mode, the same γ for all blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import torch

import bdia
from bench import batches
from bench.batches import Batch
from bench.case import Case
from bench.errors import UsageError
from bench.watches import Found
from bench.watches.outputs import outputs_of, right
from bench.workload import Workload

GAMMAS: Final = (-0.5, -0.375, -0.25, -0.125, 0.0, 0.125, 0.25, 0.375, 0.5)


class _Score:
    """Mean loss and accuracy over batches, by sample."""

    def __init__(self) -> None:
        self.samples = 0
        self._loss = 0.0
        self._right: int | None = 0

    def add(self, workload: Workload, batch: Batch) -> None:
        """The forward of one batch in eval mode."""
        samples = batches.rows(batch)
        with torch.no_grad(), outputs_of(workload.model) as outputs:
            self._loss += samples * float(workload.loss(workload.model, batch))
        answers = right(outputs, batch)
        self._right = None if self._right is None or answers is None else self._right + answers
        self.samples += samples

    @property
    def loss(self) -> float | None:
        """None where it is not finite."""
        mean = self._loss / self.samples
        return mean if math.isfinite(mean) else None

    @property
    def accuracy(self) -> float | None:
        """None of a model that gives its samples no class."""
        return None if self._right is None else self._right / self.samples


def look(workload: Workload, case: Case, held_out: Iterable[Batch]) -> list[Found]:
    """Loss and accuracy for each γ of `GAMMAS`, and the loss of the plain model on the same batches, which γ = 0 gives
    bit for bit.

    Raises: UsageError without a batch.
    """
    model = workload.model.eval()
    plain, kept = _Score(), {gamma: _Score() for gamma in GAMMAS}
    for batch in held_out:
        plain.add(workload, batch)
        for gamma, score in kept.items():
            with bdia.attach(model, "standard", inference=gamma, blocks=workload.blocks):
                score.add(workload, batch)
    if not plain.samples:
        raise UsageError("gamma-inference: there are no held-out batches; give at least one")
    found: list[Found] = [{"name": "loss_plain", "value": plain.loss}]
    for gamma, score in kept.items():
        found.append({"name": "loss_at_gamma", "gamma": gamma, "value": score.loss})
        if score.accuracy is not None:
            found.append({"name": "accuracy_at_gamma", "gamma": gamma, "value": score.accuracy})
    return found
