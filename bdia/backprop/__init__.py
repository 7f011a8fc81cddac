"""Backprop strategies: what a forward keeps for its backward. One file a strategy; plain autograd is `stored`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from bdia.backprop.checks import Checks
    from bdia.backprop.work import Work
    from bdia.updates import Rule, State

Kept = Literal["side_bits", "rng_states"]


class Watcher:
    """Sees what a forward makes and a backward rebuilds. For measuring, not for training; a subclass overrides what it
    wants to see. Tensors are detached, and the engine's own: to be looked at, not to be kept or changed.

    `call` counts from 0, over all chains in the order they run.
    """

    def forwarded(self, call: int, x: Tensor) -> None:
        """x_k [B, …] as it enters a block."""

    def kept(self, call: int, part: Kept, held: Tensor) -> None:
        """What the call keeps beside activations: packed side bits, or the state of a generator."""

    def returned(self, call: int, x: Tensor) -> None:
        """x_{k+1} [B, …] in the stream's dtype, as the step leaves it."""

    def rebuilt(self, call: int, x: Tensor) -> None:
        """x_k [B, …] as the backward rebuilt it."""


class Numbered:
    """A watcher, and the calls counted since it began to watch."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._calls = 0

    def forwarded(self, x: Tensor) -> int:
        """Shows x_k, and returns the number of its call."""
        number, self._calls = self._calls, self._calls + 1
        self._watcher.forwarded(number, x.detach())
        return number

    def kept(self, number: int | None, part: Kept, held: Tensor) -> None:
        """Shows what the call of that number keeps; a call from before has none."""
        if number is not None:
            self._watcher.kept(number, part, held)

    def returned(self, number: int, x: Tensor) -> None:
        """Shows x_{k+1} of the call of that number."""
        self._watcher.returned(number, x.detach())

    def rebuilt(self, number: int | None, x: Tensor) -> None:
        """Shows x_k of the call of that number as it was rebuilt; a call from before has none."""
        if number is not None:
            self._watcher.rebuilt(number, x)


class Recording(Protocol):
    """One forward of one chain, as its strategy sees it."""

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        """y = work(x), arranged so that the backward can do without what the strategy does not keep."""
        ...

    def keep(self, kept: Tensor | None) -> None:
        """Takes what the rule's `undo` needs for the step just taken."""
        ...

    def keep_state(self, state: State) -> None:
        """Takes instead the state before the step just taken, which `undo` could not give back exactly."""
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

    def begin(self, rule: Rule, *, checks: Checks, watcher: Numbered | None) -> Recording:
        """Begins one forward. `checks` says how closely its backward is to be compared with it."""
        ...
