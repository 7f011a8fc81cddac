"""Gradient accumulation: a step's batch in parts along its samples, a forward and a backward each, one optimiser step.

Every meter's backward is here, so that all measure the same step. A part of n of B samples weighs n/B: what adds up is
the gradient of the whole batch's loss, if that is a mean over samples that have no part in one another. A method that
draws γ draws it anew for each part, as for any forward, so its step is not that of the whole batch; what its gradients
are held to, its own rule with stored activations, is taken in the same parts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench import batches
from bench.batches import Batch
from bench.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from bench.workload import Workload


@dataclass(frozen=True)
class Part:
    """One of the parts of a step; none is larger than the first."""

    number: int
    batch: Batch
    share: float
    """Of the step's samples."""


Around = Callable[[], AbstractContextManager[object]]
"""Makes what is entered around the forward and backward of a part, such as a watcher, which counts calls anew then."""
Forwarded = Callable[[Part, Tensor], None]
"""Hears of the end of each forward, and of its loss."""


def parts(workload: Workload, batch: Batch) -> list[Part]:
    """A batch in as many parts as the workload accumulates: views of it.

    Raises: UnsupportedError where it cannot be cut along its samples.
    """
    if workload.accumulate == 1:
        return [Part(0, batch, 1.0)]
    try:
        cut = batches.cut(batch, workload.accumulate)
    except UsageError as error:
        raise UnsupportedError(f"accumulate {workload.accumulate}: {error}, or leave accumulate out") from error
    samples = sum(size for _, size in cut)
    return [Part(number, piece, size / samples) for number, (piece, size) in enumerate(cut)]


def check(workload: Workload) -> None:
    """Cuts the measured batch, to see whether that can be done.

    Raises: UnsupportedError where it cannot; UsageError for fewer parts than one.
    """
    if workload.accumulate < 1:
        raise UsageError(f"accumulate {workload.accumulate}: expected a whole number at least 1")
    rows = batches.rows(workload.batch)
    if workload.accumulate > 1 and rows != workload.samples:
        raise UnsupportedError(
            f"accumulate {workload.accumulate}: the batch's first tensor has {rows} rows for {workload.samples} "
            f"samples, so it cannot be cut along samples; give it a row for each sample, or leave accumulate out"
        )
    parts(workload, workload.batch)


def backward(
    workload: Workload,
    batch: Batch,
    *,
    around: Around = nullcontext,
    forwarded: Forwarded | None = None,
) -> Tensor:
    """Forward and backward of a step: adds the gradients of the mean loss of `batch` to those that are there. Returns
    the loss of the last part, whose graph is spent.

    Raises: whatever the workload raises; UnsupportedError where the batch cannot be cut.
    """
    loss: Tensor | None = None
    for part in parts(workload, batch):
        loss = None  # or its graph, and what that refers to, would be there in this forward
        with around():
            loss = workload.loss(workload.model, part.batch)
            if forwarded is not None:
                forwarded(part, loss)
            torch.autograd.backward(loss, None if part.share == 1.0 else torch.full_like(loss, part.share))
    assert loss is not None
    return loss


def mean_loss(workload: Workload, *, around: Around = nullcontext, forwarded: Forwarded | None = None) -> float:
    """The mean loss of the measured batch over the forwards of a step, in the grad mode it is called in.

    Raises: as `backward` does.
    """
    mean = 0.0
    for part in parts(workload, workload.batch):
        with around():
            loss = workload.loss(workload.model, part.batch)
        if forwarded is not None:
            forwarded(part, loss)
        mean += part.share * float(loss.detach())
        del loss
    return mean
