"""How much of fp32's exact range the stream takes up."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from bdia.backprop import Watcher
from bench import accumulation
from bench.attaching import attach
from bench.batches import Batch
from bench.case import Case
from bench.meters.loss import tightest
from bench.watches import Found, subjects
from bench.workload import Workload


class _Largest(Watcher):
    """The largest |x| of the stream, as blocks are given it and as the last step leaves it."""

    def __init__(self) -> None:
        self._maxima: list[Tensor] = []

    def forwarded(self, call: int, x: Tensor) -> None:
        self._note(x)

    def returned(self, call: int, x: Tensor) -> None:
        self._note(x)

    @property
    def value(self) -> float:
        """NaN where there is one."""
        return float(torch.stack(self._maxima).max()) if self._maxima else math.nan

    def _note(self, x: Tensor) -> None:
        if x.numel():
            self._maxima.append(x.abs().max())


def look(workload: Workload, case: Case, held_out: Iterable[Batch]) -> list[Found]:
    """max |x| over all states of a training forward of the measured batch, and the largest l for which its every step
    is exact: 0 where none is. A method that is never the plain model and does not quantise has no l."""
    one, largest = subjects.stream_of(case), _Largest()
    workload.model.train()
    with (
        torch.no_grad(),
        attach(workload, one.method, bits=one.bits, gamma=one.gamma, seed=case.seed, dial=one.dial.stored) as handle,
        handle.unguarded(),
    ):
        rooms = []
        accumulation.mean_loss(
            workload,
            around=lambda: handle.observing(largest),
            forwarded=lambda part, loss: rooms.append(handle.headroom),
        )
    finite = math.isfinite(largest.value)
    found: list[Found] = [{"name": "max_abs", "value": largest.value if finite else None}]
    room = tightest(rooms)
    if room is not None:
        found.append({"name": "largest_bits", "value": float(room.largest_bits or 0) if finite else None})
    return found
