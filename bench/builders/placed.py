"""Models and batches on the case's device, in its number format."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.case import Case

Draw = Callable[[int], tuple[Tensor, ...]]
"""Batch number s."""


def dtype_of(case: Case) -> torch.dtype:
    """The number format of parameters and images."""
    return torch.bfloat16 if case.dtype == "bf16" else torch.float32


def placed(case: Case, model: nn.Module, draw: Draw) -> Draw:
    """Puts `model` in its place, in training mode, and returns `draw` with its batches in theirs."""
    model.to(device=case.device, dtype=dtype_of(case)).train()

    def batches(step: int) -> tuple[Tensor, ...]:
        return put(case, draw(step))

    return batches


def put(case: Case, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A batch in its place."""
    dtype = dtype_of(case)
    return tuple(part.to(device=case.device, dtype=dtype if part.is_floating_point() else part.dtype) for part in batch)
