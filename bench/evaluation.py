"""How good a model is on what was held out: loss and accuracy over batches, and right answers as they are given."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bdia.backprop import rng
from bench import batches
from bench.batches import Batch
from bench.workload import Workload


class Score:
    """Mean loss and accuracy over batches, by sample: of batches of unequal size each counts by its samples."""

    samples: int = 0

    def __init__(self) -> None:
        # Sums stay on the device until they are asked for: to read one of each batch would wait for it.
        self._loss: Tensor | float = 0.0
        self._right: Tensor | int = 0
        self._judged = True

    def add(self, workload: Workload, batch: Batch) -> None:
        """A forward of one batch, without gradients, in the mode that the model is in."""
        samples = batches.rows(batch)
        with torch.no_grad(), judged(workload.model) as right:
            self._loss = self._loss + samples * workload.loss(workload.model, batch).double()
        self._judged = self._judged and len(right) > 0
        self._right = self._right + sum(right)
        self.samples += samples

    @property
    def loss(self) -> float | None:
        """In nats; None where it is not finite, or there was no batch."""
        mean = float(self._loss) / self.samples if self.samples else math.nan
        return mean if math.isfinite(mean) else None

    @property
    def accuracy(self) -> float | None:
        """The share of samples, 0 … 1, whose likeliest class is their own; None of a model that gives no class to a
        sample, and where there was no batch."""
        return int(self._right) / self.samples if self._judged and self.samples else None


def evaluate(workload: Workload, held_out: Iterable[Batch]) -> Score:
    """The score over batches on the model's device, in eval mode, where an attached method computes what it computes at
    inference.

    Leaves the mode of each module and torch's random generators as they are, whatever the model draws.
    """
    score = Score()
    # One by one, as a part may be in another mode than the whole: a frozen one that is kept in eval.
    modes = [(module, module.training) for module in workload.model.modules()]
    workload.model.eval()
    try:
        with rng.restored(rng.state_of(workload.device), workload.device):
            for batch in held_out:
                score.add(workload, batch)
    finally:
        for module, training in modes:
            module.training = training
    return score


@contextlib.contextmanager
def judged(model: nn.Module) -> Iterator[list[Tensor]]:
    """For each forward of the model inside, in how many samples the likeliest class is the right one, as scalars on the
    device: of a forward that is given labels [B] last and answers with logits [B, K] first. Of others, nothing."""
    found: list[Tensor] = []

    def judge(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> None:
        logits = next(batches.tensors((answer,)), None)
        given = list(batches.tensors((args, kwargs)))
        if logits is None or len(given) < 2:
            return
        labels = given[-1]
        if logits.dim() == 2 and labels.dim() == 1 and len(logits) == len(labels) and not labels.is_floating_point():
            found.append((logits.detach().argmax(-1) == labels).sum())

    hook = model.register_forward_hook(judge, with_kwargs=True)
    try:
        yield found
    finally:
        hook.remove()
