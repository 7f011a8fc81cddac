"""What a method does to the loss, and what else one training forward tells: the stream's format, its headroom, and
how it was rounded.

A gradient error of 0 is exact for the method's own function. For BDIA that is another function than the plain
transformer's: its loss on weights that were trained as one starts elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bdia import distributions
from bdia.backprop import Step, rng
from bdia.dial import WHOLE, Dial
from bdia.distributions import Gamma
from bdia.methods import Method, get
from bdia.quantize import Headroom
from bench import accumulation
from bench.attaching import attach
from bench.meters import rounding
from bench.meters.rounding import Rounding, RoundingReading
from bench.meters.stream import Stream

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
    """Elements of x as blocks are given it, in the first forward; their mean where stages have x of several sizes."""
    blocks: int
    headroom: Headroom | None
    """Of the forward that came closest to its end; None for a method that does not quantise."""
    rounding: RoundingReading | None
    """None for a method that does not, or by other equations than (18)-(21)."""


class _Glance(Stream):
    """Passes the steps of the forwards on as well."""

    def __init__(self, rounding: Rounding | None) -> None:
        super().__init__()
        self._rounding = rounding

    def stepped(self, call: int, step: Step) -> None:
        if self._rounding is not None:
            self._rounding.stepped(call, step)


def measure_loss(
    workload: Workload,
    method: str | Method,
    bits: int | None = None,
    *,
    seed: int,
    gamma: float | str | Gamma | None = None,
    dial: Dial = WHOLE,
) -> LossReading:
    """Runs the forwards of one step of `workload` with the method and without, both from the RNG state as it is.

    Guards are off: the headroom says whether they would have raised. Weights and gradients stay as they are.
    """
    device = workload.device
    before = rng.state_of(device)
    chosen = get(method) if isinstance(method, str) else method
    watcher = rounding.watch(chosen, bits, distributions.parse(gamma))
    glance = _Glance(watcher)
    with torch.no_grad():
        with (
            attach(workload, chosen, bits=bits, gamma=gamma, seed=seed, dial=dial.stored) as handle,
            handle.unguarded(),
            rng.restored(before, device),
        ):
            headrooms: list[Headroom | None] = []
            with_method = accumulation.mean_loss(
                workload,
                around=lambda: handle.observing(glance),
                forwarded=lambda part, loss: headrooms.append(handle.headroom),
            )
        plain = accumulation.mean_loss(workload)
    return LossReading(
        plain, with_method, glance.dtype, glance.elements, sum(map(len, handle.chains)), tightest(headrooms),
        None if watcher is None else watcher.reading(),
    )  # fmt: skip


def tightest(headrooms: Iterable[Headroom | None]) -> Headroom | None:
    """That of several forwards which came closest to the end of the exact range."""
    known = (one for one in headrooms if one is not None)
    return min(known, key=lambda one: (one.largest_bits or 0, -one.max_abs), default=None)
