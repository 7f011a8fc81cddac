"""Lanes: the batch cut into parts inside each block, so that a block's working set is that of one part.

No sample of a block depends on another, so each part has a recording of its own, from the first block to the last,
as though it were the whole batch: its regions, its states, its side bits. Autograd finishes the backward of one part
of a block before it begins that of the next, as the regions were made in turn. Only the rule's steps, which run block
by block on the whole stream, see the parts put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from bdia.backprop import Index, Recording
from bdia.backprop.cut import Cut
from bdia.backprop.work import Work
from bdia.updates import State

Begin = Callable[[Index], Recording]
"""Begins the recording of the part of each x that the index picks."""


class Lanes:
    """A recording made of `micro_batches` others, or of one a sample where a batch has fewer."""

    def __init__(self, begin: Begin, micro_batches: int, batch_dim: int) -> None:
        self._begin = begin
        self._micro_batches = micro_batches
        self._batch_dim = batch_dim
        self._cut: Cut | None = None
        self._lanes: list[Recording] = []

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        cut = self._cut_of(x)
        if len(self._lanes) == 1:
            return self._lanes[0].run(work, x, gamma)
        works = work.cut(cut)
        gammas: Iterable[Tensor | None] = [None] * len(works) if gamma is None else cut.split(gamma)
        parts = zip(self._lanes, works, map(_dense, cut.split(x)), gammas, strict=True)
        ys = [lane.run(part, part_x, part_gamma) for lane, part, part_x, part_gamma in parts]
        y = cast("Tensor", cast("Any", _Join).apply(cut, *ys))
        del ys
        work.gather(works, cut, y)
        return y

    def keep(self, kept: Tensor | None) -> None:
        for lane, part in zip(self._lanes, self._split((kept,)), strict=True):
            lane.keep(part[0])

    def keep_state(self, state: State) -> None:
        for lane, part in zip(self._lanes, self._split(state), strict=True):
            lane.keep_state(part)

    def close(self, state: State, versions: list[int]) -> None:
        if len(self._lanes) == 1:
            self._lanes[0].close(state, versions)
            return
        for lane, part in zip(self._lanes, self._split(state), strict=True):
            # Views would hold the whole state until the last lane has left it.
            own = tuple(x if x is None else x.clone() for x in part)
            lane.close(own, [x._version for x in own if x is not None])

    @property
    def side_bytes(self) -> int:
        return sum(lane.side_bytes for lane in self._lanes)

    @property
    def rng_bytes(self) -> int:
        return sum(lane.rng_bytes for lane in self._lanes)

    def _cut_of(self, x: Tensor) -> Cut:
        if self._cut is None:
            self._cut = Cut.of(x, self._micro_batches, self._batch_dim)
            self._lanes = [self._begin(index) for index in self._cut.indices]
        return self._cut

    def _split(self, state: State) -> list[State]:
        """The state of each lane; the same tensors for a lane alone."""
        assert self._cut is not None
        if len(self._lanes) == 1:
            return [state]
        count = len(self._lanes)
        columns = [[None] * count if x is None else list(self._cut.split(x.detach())) for x in state]
        return [tuple(column[lane] for column in columns) for lane in range(count)]


def _dense(x: Tensor) -> Tensor:
    """x as its rerun will find it, in memory of its own: kernels may choose by what lies between rows."""
    span = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size != 1 and stride != span:
            return x.clone()
        span *= size
    return x


class _Join(torch.autograd.Function):
    """The parts as one tensor. Unlike `torch.cat`'s, the gradient of each part is a tensor of its own, freed when that
    part is done with and not when all are."""

    @staticmethod
    def forward(cut: Cut, *parts: Tensor) -> Tensor:
        return torch.cat(parts, cut.batch_dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.cut = inputs[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(part.clone() for part in ctx.cut.split(grad))
