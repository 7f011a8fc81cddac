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
    from bdia.backprop.module_state import ModuleState
    from bdia.backprop.work import Work


class Call:
    """One call of one block: how to run it again, and what undoes its step."""

    __slots__ = ("ambient", "checksum", "gamma", "kept", "module_state", "requires_grad", "rng", "work")

    def __init__(
        self,
        work: Work,
        gamma: Tensor | None,
        requires_grad: bool,
        then: ambient.Ambient,
        module_state: ModuleState,
    ) -> None:
        self.work = work
        self.gamma = gamma
        self.requires_grad = requires_grad
        self.ambient = then
        self.module_state = module_state
        self.checksum: Tensor | None = None
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
        self._checksum: Tensor | None = None
        self._differences: list[tuple[str, Tensor]] = []
        self._state: State | None = None
        self._versions: list[int] = []
        self._cursor: int | None = None
        """Calls from here up are undone: `len(calls)` until the backward begins, None while the forward goes on."""

    def entered(self, x: Tensor, y: Tensor) -> None:
        """The last call made y of x, and is part of the graph. The first such call is the lowest that the backward
        needs: its x is what all inversions above it lead to.

        Every y has a checksum of its own: where a block adds less than 2^-l to the stream, Q_l would round a wrong y
        to the right x, and the gradients be wrong all the same."""
        if self._lowest is None:
            self._lowest = len(self.calls) - 1
            self._checksum = checksum(x) if self._guarded else None
        self.calls[-1].checksum = checksum(y) if self._guarded else None

    def keep(self, kept: Tensor | None) -> None:
        """Packs the side bits of the last call, unless no call below it is part of the graph."""
        if kept is not None and self._lowest is not None and self._lowest < len(self.calls) - 1:
            self.calls[-1].kept = sidebits.pack(kept)

    def close(self, state: State, versions: list[int]) -> None:
        """The forward is over, in `state`, whose tensors had these versions when they were made."""
        self._state = tuple(x if x is None else x.detach() for x in state)
        self._versions = versions
        self._cursor = len(self.calls)

    def rebuild(self, index: int) -> Tensor:
        """Reruns call `index` on its rebuilt x, takes its step back, and returns y with its graph.

        Called by torch's checkpoint when autograd first needs something that the block saved. Calls in between that
        autograd had no need of (all frozen, say) are rerun for their value, so that the chain is not broken.

        Raises: TapeError for a second backward, for one before the forward has ended, or where the chain's last x, or
        the block's module, was changed since; ReconstructionError where a rerun gave something else than the forward.
        """
        if self._cursor is None:
            raise TapeError(
                f"a backward reached {self.calls[index].work.name} before the forward of its model had ended: "
                f"gradients taken inside the model need its activations stored; use method 'bdia-stored'"
            )
        if self._state is None or index >= self._cursor:
            raise TapeError(
                f"a second backward reached {self.calls[index].work.name}: its activations were rebuilt, used and "
                f"freed by the first; run the forward again (retain_graph cannot help), or use method 'bdia-stored', "
                f"which gradients of gradients (create_graph) need as well"
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
            with (
                torch.enable_grad(),
                ambient.restored(call.ambient),
                rng.restored(call.rng, x.device),
                call.module_state.again(),
            ):
                y = call.work(x.requires_grad_(call.requires_grad))
            if call.checksum is not None:
                self._differences.append((call.work.name, checksum(y) != call.checksum))
            if lowest:  # below it, nothing is needed
                self._check(x)
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

    def _check(self, x: Tensor) -> None:
        """Compares all checksums at the end of the backward, in one synchronisation."""
        if self._checksum is None or self._lowest is None:
            return
        self._differences.append((self.calls[self._lowest].work.name, checksum(x) != self._checksum))
        names, differ = zip(*self._differences, strict=True)
        wrong = [name for name, differs in zip(names, torch.stack(differ).tolist(), strict=True) if differs]
        if wrong:
            raise ReconstructionError(
                f"{wrong[0]} computed something else when it was rerun, so these gradients are wrong: a counter, a "
                f"cache, a random draw outside torch, another precision or attention backend; make the block "
                f"repeatable, or use method 'bdia-stored'"
            )


def checksum(x: Tensor) -> Tensor:
    """The sum, modulo 2^32, of x's bits read as integers: a scalar on x's device.

    -0.0 and 0.0 are equal but differ in a bit, and an exact rebuild may turn one into the other: adding 0.0 makes
    both +0.0.
    """
    return x.detach().add(0.0).view(torch.int32).sum(dtype=torch.int32)
