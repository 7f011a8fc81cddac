"""The tape: what one forward of one chain left behind, and how its backward walks it from the top down.

It counts calls, not blocks, so that skipped and repeated blocks need no special care. It holds tensors without
their graphs: the graph holds the tape, and a reference back would be a cycle that no collector sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bdia import sidebits
from bdia.backprop import ambient, rng
from bdia.errors import ReconstructionError, TapeError
from bdia.updates import Rule, State

if TYPE_CHECKING:
    from bdia.backprop import Watcher
    from bdia.backprop.work import Work


class Call:
    """One call of one block: how to run it again, and what undoes its step."""

    __slots__ = ("ambient", "gamma", "kept", "requires_grad", "rng", "work")

    def __init__(self, work: Work, gamma: Tensor | None, requires_grad: bool, then: ambient.Ambient) -> None:
        self.work = work
        self.gamma = gamma
        self.requires_grad = requires_grad
        self.ambient = then
        self.rng: rng.RngState | None = None
        self.kept: sidebits.SideBits | None = None


class Tape:
    """The calls of one forward, and the state above the lowest call undone so far."""

    def __init__(self, rule: Rule, *, guarded: bool, watcher: Watcher | None) -> None:
        self.calls: list[Call] = []
        self._rule = rule
        self._guarded = guarded
        self._watcher = watcher
        self._lowest: int | None = None
        self._checksums: tuple[Tensor, Tensor] | None = None
        self._state: State | None = None
        self._versions: list[int] = []
        self._cursor = 0
        """Calls from here up are undone. Equal to `len(calls)` until the backward begins."""

    def entered(self, x: Tensor, y: Tensor) -> None:
        """The last call made y of x, and is part of the graph. The first such call is the lowest that the backward
        needs: its x is what all reruns above it lead to, its y what its own rerun leads to."""
        if self._lowest is None:
            self._lowest = len(self.calls) - 1
            self._checksums = (checksum(x), checksum(y)) if self._guarded else None

    def keep(self, kept: Tensor | None) -> None:
        """Packs the side bits of the last call, unless no call below it is part of the graph."""
        if kept is not None and self._lowest is not None and self._lowest < len(self.calls) - 1:
            self.calls[-1].kept = sidebits.pack(kept)

    def close(self, state: State) -> None:
        """The forward is over, in `state`."""
        self._state = tuple(x if x is None else x.detach() for x in state)
        self._versions = [x._version for x in self._state if x is not None]
        self._cursor = len(self.calls)

    def rebuild(self, index: int) -> Tensor:
        """Reruns call `index` on its rebuilt x, takes its step back, and returns y with its graph.

        Called by torch's checkpoint when autograd first needs something that the block saved. Calls in between that
        autograd had no need of (all frozen, say) are rerun for their value, so that the chain is not broken.

        Raises: TapeError for a second backward, or where the chain's last x was changed in place;
        ReconstructionError where the lowest rebuilt x is not that of the forward.
        """
        if self._state is None or index >= self._cursor:
            name = self.calls[index].work.name if index < len(self.calls) else f"call {index}"
            raise TapeError(
                f"a second backward reached {name}: its activations were rebuilt, used and freed by the first; "
                f"run the forward again (retain_graph cannot help), or use method 'bdia-stored'"
            )
        if self._cursor == len(self.calls):
            self._check_versions()
        while self._cursor - 1 > index:
            # A hook of its own, so that what this rerun saves is not mistaken for call `index`'s.
            with saved_tensors_hooks(lambda x: x, lambda x: x):
                self._undo(self._cursor - 1)
        return self._undo(index)

    def _undo(self, index: int) -> Tensor:
        call = self.calls[index]
        assert self._state is not None
        above, self._state = self._state, None
        lowest = index == self._lowest
        with torch.no_grad():
            x = self._rule.input_back(above).detach()
            if self._watcher is not None:
                self._watcher.rebuilt(index, x)
            with torch.enable_grad(), ambient.restored(call.ambient), rng.restored(call.rng, x.device):
                y = call.work(x.requires_grad_(call.requires_grad))
            if lowest:  # below it, nothing is needed
                self._check(x, y)
            else:
                self._state = self._rule.undo(above, y.detach(), call.gamma, call.kept)
        self._cursor = index
        call.kept = call.rng = None
        return y

    def _check_versions(self) -> None:
        assert self._state is not None
        if [x._version for x in self._state if x is not None] != self._versions:
            raise TapeError(
                "the output of the last block was changed in place after the forward, and reconstruction starts "
                "from it: use an out-of-place operation (x = x + …), or clone it first"
            )

    def _check(self, x: Tensor, y: Tensor) -> None:
        if self._checksums is None or (torch.stack((checksum(x), checksum(y))).equal(torch.stack(self._checksums))):
            return
        raise ReconstructionError(
            f"the activations rebuilt down to {self.calls[self._lowest or 0].work.name} have other bits than in the "
            f"forward, so these gradients would be wrong: a block computed something else when it was rerun (a "
            f"counter, a cache, a random draw outside torch, train() or eval() since the forward, another precision "
            f"or attention backend); make the blocks repeatable, or use method 'bdia-stored'"
        )


def checksum(x: Tensor) -> Tensor:
    """The sum, modulo 2^32, of x's bits read as integers: a scalar on x's device.

    -0.0 and 0.0 are equal but differ in a bit, and an exact rebuild may turn one into the other: adding 0.0 makes
    both +0.0.
    """
    return x.detach().add(0.0).view(torch.int32).sum(dtype=torch.int32)
