"""RNG states, kept only for the blocks that draw.

`torch.utils.checkpoint` would keep one a block whether it draws or not: 5,056 bytes each on a CPU, more than the side
bits of a small case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

RngState = tuple[Tensor, ...]
"""The CPU generator's state, then that of the stream's own CUDA device where it has one."""


def state_of(device: torch.device) -> RngState:
    """The states that a block on `device` may draw from."""
    if device.type == "cuda":
        return torch.get_rng_state(), torch.cuda.get_rng_state(device)
    return (torch.get_rng_state(),)


def same(one: RngState, other: RngState) -> bool:
    """Whether nothing was drawn between the two."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Draws:
    """Which blocks of a forward draw. One state serves every block from the one that drew to the next that does."""

    def __init__(self) -> None:
        self._last: RngState | None = None

    def before(self, device: torch.device) -> RngState:
        """The states that a block starts from."""
        now = state_of(device)
        return self._last if self._last is not None and same(now, self._last) else now

    def after(self, before: RngState, device: torch.device) -> RngState | None:
        """What the rerun of a block that started from `before` needs: that, or None where the block drew nothing."""
        self._last = state_of(device)
        return None if same(before, self._last) else before


@contextlib.contextmanager
def restored(then: RngState | None, device: torch.device) -> Iterator[None]:
    """Runs with the states of `then` (None: as they are), and puts back those of before."""
    if then is None:
        yield
        return
    now = state_of(device)
    _set(then, device)
    try:
        yield
    finally:
        _set(now, device)


def _set(states: RngState, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
