"""Backprop strategies: what a forward keeps for its backward. One file a strategy; plain autograd is `stored`."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from bdia.backprop.work import Work
from bdia.updates import Rule, State


class Watcher(Protocol):
    """Sees every x_k as the forward made it and as the backward rebuilt it. For measuring, not for training."""

    def forwarded(self, call: int, x: Tensor) -> None:
        """x_k [B, …], detached, as it enters call k of the chain."""
        ...

    def rebuilt(self, call: int, x: Tensor) -> None:
        """x_k [B, …], detached, as the backward rebuilt it."""
        ...


class Recording(Protocol):
    """One forward of one chain, as its strategy sees it."""

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        """y = work(x), arranged so that the backward can do without what the strategy does not keep."""
        ...

    def keep(self, kept: Tensor | None) -> None:
        """Takes what the rule's `undo` needs for the step just taken."""
        ...

    def close(self, state: State, versions: list[int]) -> None:
        """The chain ended in `state`, whose tensors had these versions when they were made."""
        ...

    @property
    def side_bytes(self) -> int:
        """Bytes of side information held (eq. 20)."""
        ...

    @property
    def rng_bytes(self) -> int:
        """Bytes of RNG states held."""
        ...


class Strategy(Protocol):
    """What to keep. Stateless: everything of one forward lives on its `Recording`."""

    def begin(self, rule: Rule, *, guarded: bool, watcher: Watcher | None) -> Recording:
        """Begins one forward. `guarded` False leaves out the checksum."""
        ...
