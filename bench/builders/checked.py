"""A loss of someone else's code, held to what a backward needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import UsageError
from bench.workload import Batch, Loss


@dataclass(frozen=True)
class CheckedLoss:
    """`loss`, under autocast where `amp`, and checked at every call."""

    name: str
    """Whose loss it is, for errors."""
    loss: Loss
    device: torch.device
    amp: bool = False

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss.

        Raises: UsageError where it is no tensor of one element or, in grad mode, no gradient goes through it.
        """
        if self.amp:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                value: object = self.loss(model, batch)
        else:
            value = self.loss(model, batch)
        if not isinstance(value, Tensor):
            raise UsageError(f"{self.name}: its loss returned a {type(value).__name__}; expected a scalar tensor")
        if value.numel() != 1:
            shape = list(value.shape)
            raise UsageError(f"{self.name}: its loss has shape {shape}; expected a scalar, such as its mean")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise UsageError(
                f"{self.name}: its loss requires no gradient; expected one computed from parameters that are trained, "
                f"without no_grad() or detach()"
            )
        return value
