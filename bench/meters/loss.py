"""What a method does to the loss, and what else one training forward tells: the stream's format and its headroom.

A gradient error of 0 is exact for the method's own function. For BDIA that is another function than the plain
transformer's: its loss on weights that were trained as one starts elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bdia.backprop import Watcher, rng
from bdia.distributions import Gamma
from bdia.methods import Method
from bdia.quantize import Headroom
from bench.attaching import attach

if TYPE_CHECKING:
    from bench.workload import Workload


@dataclass(frozen=True)
class LossReading:
    """The measured batch at the weights as they are, in training mode."""

    loss_plain: float
    """Of the plain transformer, nothing attached."""
    loss_method: float
    """Of the method, from the same RNG state: what dropout drops is the same."""
    stream_dtype: str | None
    """Number format of x under the method, such as `float32`; None where no block was called."""
    stream_elements: int | None
    """Elements of x where it enters the first block."""
    blocks: int
    headroom: Headroom | None
    """None for a method that does not quantise."""


class Glance(Watcher):
    """A watcher that remembers what the stream is like where it enters the first block."""

    dtype: str | None = None
    elements: int | None = None

    def forwarded(self, call: int, x: Tensor) -> None:
        if self.dtype is None:
            self.dtype, self.elements = str(x.dtype).removeprefix("torch."), x.numel()


def measure_loss(
    workload: Workload,
    method: str | Method,
    bits: int | None = None,
    *,
    seed: int,
    gamma: float | str | Gamma | None = None,
) -> LossReading:
    """Runs one forward of `workload` with the method and one without, both from the RNG state as it is.

    Guards are off: the headroom says whether they would have raised. Weights and gradients stay as they are.
    """
    device = workload.device
    before = rng.state_of(device)
    glance = Glance()
    with torch.no_grad():
        with (
            attach(workload, method, bits=bits, gamma=gamma, seed=seed) as handle,
            handle.observing(glance),
            handle.unguarded(),
            rng.restored(before, device),
        ):
            with_method = float(workload.loss(workload.model, workload.batch))
        plain = float(workload.loss(workload.model, workload.batch))
    return LossReading(
        plain, with_method, glance.dtype, glance.elements, sum(map(len, handle.chains)), handle.headroom
    )  # fmt: skip
