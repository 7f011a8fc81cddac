"""Backprop strategies: what a forward keeps for its backward. One file a strategy; plain autograd is `stored`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from bdia.backprop.checks import Checks
    from bdia.backprop.work import Work
    from bdia.updates import Rule, State

Kept = Literal["side_bits", "rng_states"]
Index = tuple[slice, ...]
"""Which samples of a whole x a part holds: `x[index]`; () is all of it."""


@dataclass(frozen=True)
class Step:
    """One step of a rule: what it was taken from, and where it led."""

    name: str
    """Of the block."""
    given: Tensor | None
    """The model's x_0 [B, …], where the chain begins with this call."""
    before: State
    y: Tensor
    """[B, …], what the block made of x_k, in the stream's dtype."""
    gamma: Tensor | None
    after: State


class Watcher:
    """Sees what a forward makes and a backward rebuilds. For measuring, not for training; a subclass overrides what it
    wants to see. Tensors are detached, and the engine's own: to be looked at, not to be kept or changed.

    `call` counts from 0, over all chains in the order they run.
    """

    def forwarded(self, call: int, x: Tensor) -> None:
        """x_k [B, …] as it enters a block."""

    def stepped(self, call: int, step: Step) -> None:
        """The step that the rule took once the block had run."""

    def spared(self, call: int) -> None:
        """The call's graph is kept: its block will not be run again, nor its x rebuilt."""

    def kept(self, call: int, part: Kept, held: Tensor) -> None:
        """What the call keeps beside activations: packed side bits, or the state of a generator."""

    def returned(self, call: int, x: Tensor) -> None:
        """x_{k+1} [B, …] in the stream's dtype, as the step leaves it."""

    def rebuilt(self, call: int, x: Tensor, index: Index) -> None:
        """x_k [B, …] as the backward rebuilt it, or that part of it which `index` picks: micro-batches are rebuilt one
        by one."""

    def working(self, call: int | None) -> AbstractContextManager[object]:
        """Around work that something other than the engine does in its place: a run of block `call` again, or anything
        that is of no block in particular."""
        return nullcontext()


class Numbered:
    """A watcher, and the calls counted since it began to watch."""

    def __init__(self, watcher: Watcher, index: Index = ()) -> None:
        self._watcher = watcher
        self._index = index
        self._calls = 0

    def part(self, index: Index) -> Numbered:
        """What shows the same watcher the part of each x that `index` picks. It counts no calls."""
        return Numbered(self._watcher, index)

    def forwarded(self, x: Tensor) -> int:
        """Shows x_k, and returns the number of its call."""
        number, self._calls = self._calls, self._calls + 1
        self._watcher.forwarded(number, x.detach())
        return number

    def stepped(
        self, number: int, name: str, given: Tensor | None, before: State, y: Tensor, gamma: Tensor | None, after: State
    ) -> None:
        """Shows the step of the call of that number."""
        given = None if given is None else given.detach()
        self._watcher.stepped(number, Step(name, given, _detached(before), y.detach(), gamma, _detached(after)))

    def spared(self, number: int) -> None:
        """Shows that the call of that number keeps its graph."""
        self._watcher.spared(number)

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
            self._watcher.rebuilt(number, x, self._index)


def _detached(state: State) -> State:
    return tuple(None if x is None else x.detach() for x in state)


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

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> Recording:
        """Begins one forward, of about `blocks` calls: a model may skip blocks, or call one twice. `checks` says how
        closely its backward is to be compared with it.

        Raises: MethodError for a rule that the strategy cannot carry, with the cure. Attaching begins one to see.
        """
        ...
