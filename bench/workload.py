"""What is measured: a model, a batch, a loss and an optimiser, of one's own or built from a case.

Of a built-in model everything follows from the case: weights are drawn on the CPU from `case.seed`, so that every
method and every device starts from the same ones, and batches come from generators of their own. `build` and `train`
seed torch's global generator (`torch.manual_seed(case.seed)`) and leave it moved on: a child process has one workload
at a time.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from bdia.attachment import Blocks
from bench import accumulation, models
from bench.batches import Batch as Batch
from bench.batches import tensors as tensors
from bench.case import Case
from bench.errors import UsageError

Loss = Callable[[nn.Module, Batch], Tensor]

LEARNING_RATE: Final = 1e-3
BETAS: Final = (0.9, 0.95)
COMPUTE_DTYPES: Final = {"fp32": "float32", "bf16-amp": "bfloat16", "bf16": "bfloat16"}


@dataclass(frozen=True, init=False)
class Workload:
    """One training step: a model, a fixed batch to measure with, a loss, an optimiser.

    What a function given as `--model FILE.py:FUNCTION` returns, and what `bench.measure` takes:

        bench.Workload(model, batch, lambda model, batch: model(**batch).loss)
    """

    model: nn.Module
    batch: Batch
    """The measured batch, on the model's device."""
    loss: Loss
    """Forward and loss, a scalar; the backward is the caller's."""
    optimizer: torch.optim.Optimizer
    blocks: Blocks | None
    """The residual blocks in the order they run, or a list of them for each chain; None has `bdia.attach` find them."""
    samples: int
    """Samples a step, B."""
    tokens: int | None
    """Tokens a step, B·T, for a rate in tokens; None where there are none to count."""
    batches: Callable[[int], Batch]
    """Batch number s to train on, s = 1, 2, …, on the model's device."""
    seed: int
    """Seeds torch before training."""
    accumulate: int = field(init=False)
    """Parts that the batch of a step is cut into, a forward and a backward each; 1 unless `accumulating` says more."""

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        loss: Loss,
        optimizer: torch.optim.Optimizer | None = None,
        blocks: Blocks | None = None,
        *,
        samples: int | None = None,
        tokens: int | None = None,
        batches: Callable[[int], Batch] | None = None,
        seed: int = 0,
    ) -> None:
        """What is left out: AdamW over the parameters that are trained; as many samples as the batch's first tensor has
        rows; the measured batch at every training step.

        Raises: UsageError for a model that is no module, or has nothing to train, a batch without a tensor, and a loss
        that cannot be called.
        """
        if not isinstance(model, nn.Module):
            raise UsageError(f"workload: its model is a {type(model).__name__}; expected a torch.nn.Module")
        if not callable(loss):
            raise UsageError(f"workload: its loss is a {type(loss).__name__}; expected a function of model and batch")
        first = next(tensors(batch), None)
        if first is None:
            raise UsageError(f"workload: its batch, a {type(batch).__name__}, holds no tensor; expected at least one")
        if optimizer is None:
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            if not trained:
                raise UsageError(f"workload: no parameter of {type(model).__name__} requires a gradient; unfreeze some")
            optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=BETAS)
        vars(self).update(
            model=model, batch=batch, loss=loss, optimizer=optimizer, blocks=blocks, tokens=tokens, seed=seed,
            samples=(first.shape[0] if first.dim() else 1) if samples is None else samples,
            batches=(lambda step: batch) if batches is None else batches, accumulate=1,
        )  # fmt: skip

    def accumulating(self, accumulate: int) -> Workload:
        """The same step, with the same model and optimiser, in `accumulate` parts.

        Raises: UnsupportedError where its batch cannot be cut into them; UsageError for fewer than one.
        """
        made = copy.copy(self)
        vars(made).update(accumulate=accumulate)
        accumulation.check(made)
        return made

    @property
    def device(self) -> torch.device:
        """Where the batch lies."""
        return next(tensors(self.batch)).device


def build(case: Case) -> Workload:
    """The workload of `case`, at initial weights (those of a checkpoint for `hf:PATH`) and without gradients;
    `case.method` plays no part.

    Raises: UsageError for an unknown model, axes that the model cannot take, data that will not do, and whatever is
    wrong with code of the user's.
    """
    builder = importlib.import_module(models.get(case.model).builder)
    torch.manual_seed(case.seed)
    return cast("Workload", builder.build(case)).accumulating(case.accumulate)


def train(workload: Workload, steps: int) -> None:
    """`steps` optimiser steps in place, on batches 1, 2, …; leaves no gradients.

    Whatever method is attached is the one that trains: for weights that all methods share, train first and attach
    afterwards. Runs of one case on one CPU end with the same weights; a GPU's kernels may not add in a fixed order.
    """
    torch.manual_seed(workload.seed)  # dropout must not depend on what ran before
    for step in range(1, steps + 1):
        accumulation.backward(workload, workload.batches(step))
        workload.optimizer.step()
        workload.model.zero_grad(set_to_none=True)


def facts(workload: Workload, case: Case) -> dict[str, Any]:
    """Its sizes and formats, as fields of a record."""
    parameters = list(workload.model.parameters())
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "samples": workload.samples,
        "tokens": workload.tokens,
        "parameter_dtype": str(parameters[0].dtype).removeprefix("torch."),
        "compute_dtype": COMPUTE_DTYPES[case.dtype],
    }
