"""The tape: what one forward of one chain left behind, and how its backward walks it from the top down.

It counts calls, not blocks, so that skipped and repeated blocks need no special care. It holds tensors without
their graphs: the graph holds the tape, and a reference back would be a cycle that no collector sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import CheckpointError

from bdia import sidebits
from bdia.backprop import checks, rng
from bdia.backprop.call import Call
from bdia.backprop.checks import Ledger
from bdia.backprop.circumstances import Look, look
from bdia.errors import TapeError
from bdia.quantize import exact_limit
from bdia.sharding import gathered
from bdia.updates import Rule, State

if TYPE_CHECKING:
    from bdia.backprop import Numbered
    from bdia.backprop.checks import Checks


class Tape:
    """The calls of one forward, and the state above the lowest call undone so far."""

    def __init__(self, rule: Rule, *, asked: Checks, watcher: Numbered | None) -> None:
        self.calls: list[Call] = []
        self.verifying = asked == "verify"
        self._rule = rule
        # `verify` sees more than checksums do, and at once.
        self._ledger = Ledger() if asked == "checksum" else None
        self._watcher = watcher
        self._lowest: int | None = None
        self._state: State | None = None
        self._versions: list[int] = []
        self._cursor: int | None = None
        """Calls from here up are undone: `len(calls)` until the backward begins, None while the forward goes on."""

    def entered(self, x: Tensor, y: Tensor, looks: tuple[Look, Look] | None) -> None:
        """The last call made y of x, and is part of the graph. The first such call is the lowest that the backward
        needs: its x is what all inversions above it lead to. `looks` before and after it, where it is to be verified.
        """
        index, call = len(self.calls) - 1, self.calls[-1]
        if self._lowest is None:
            self._lowest = index
            if self._ledger is not None:
                self._ledger.expect(index, "x", call.work.name, x)
        if self._ledger is not None:
            self._ledger.expect(index, "y", call.work.name, y)
        if looks is not None:
            call.evidence = checks.gather(call.work.name, index, x, y, *looks)

    def drew(self, states: rng.RngState) -> None:
        """The block of the last call drew, starting from these states."""
        call = self.calls[-1]
        call.rng = states
        if self._watcher is not None:
            for state in states:
                self._watcher.kept(call.work.number, "rng_states", state)

    def keep(self, kept: Tensor | None) -> None:
        """Packs the side bits of the last call, unless no call below it is part of the graph."""
        if kept is None or not self._is_undone():
            return
        call = self.calls[-1]
        call.kept = sidebits.pack(kept, self._rule.side_bits)
        if self._watcher is not None:
            self._watcher.kept(call.work.number, "side_bits", call.kept.packed)
        if call.evidence is not None:
            call.evidence.keep(call.kept)

    def keep_state(self, state: State) -> None:
        """Keeps the state before the last call as it is, unless no call below it is part of the graph."""
        if self._is_undone():
            self.calls[-1].before = _without_graph(state)

    def close(self, state: State, versions: list[int]) -> None:
        """The forward is over, in `state`, whose tensors had these versions when they were made."""
        self._state = _without_graph(state)
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
        if self._lowest is None or index < self._lowest:
            raise TapeError(
                f"a backward reached {self.calls[index].work.name}, which returned nothing that requires a gradient: "
                f"something it trains is kept on an attribute or seen by a hook; return it beside x, or use method "
                f"'bdia-stored'"
            )
        if self._cursor == len(self.calls):
            self._check_versions()
        if self._ledger is not None and not self._ledger.pending and torch._C._current_graph_task_id() != -1:
            # The backward may end above the lowest call: at the latest, what was rebuilt is compared when it is over.
            torch.autograd.Variable._execution_engine.queue_callback(self._ledger.settle)
        while self._cursor - 1 > index:
            with _unsaved(), gathered(self.calls[self._cursor - 1].work.module):
                self._undo(self._cursor - 1)
        return self._undo(index)

    def _undo(self, index: int) -> Tensor:
        call = self.calls[index]
        assert self._state is not None
        above, self._state = self._state, None
        with torch.no_grad():
            x = self._rule.input_back(above).detach()
            if self._watcher is not None:
                self._watcher.rebuilt(call.work.number, x)
            if call.evidence is not None:
                call.evidence.check_x(x, lambda: self._why_undone_wrongly(index + 1, above))
            y = self._rerun(call, index, x)
            if self._ledger is not None:
                self._ledger.rebuilt(index, "y", y)
                self._ledger.rebuilt(index, "x", x)
            if index == self._lowest:  # below it, nothing is needed
                if self._ledger is not None:
                    self._ledger.settle()
            elif call.before is not None:
                self._state = call.before
            else:
                if call.evidence is not None:
                    call.evidence.check_side(call.kept)
                self._state = self._rule.undo(above, y.detach(), call.gamma, call.kept)
        self._cursor = index
        call.kept = call.rng = call.before = None
        return y

    def _rerun(self, call: Call, index: int, x: Tensor) -> Tensor:
        def looked() -> Look:
            return look(call.work.name, call.work.module, x.device)

        def again() -> Tensor:
            with _unsaved(), call.as_then(x.device):
                return call.work(x)

        x.requires_grad_(call.requires_grad)
        evidence = call.evidence
        with call.as_then(x.device):
            before = None if evidence is None else looked()
            try:
                y = call.work(x)
            except CheckpointError as error:  # what it saves for its backward is not even of the same number
                raise checks.unlike(call.work.name, index, evidence, before, looked(), error) from error
            if evidence is None or before is None:
                return y
            after = looked()
        evidence.check_y(y, before, after, again)
        return y

    def _why_undone_wrongly(self, index: int, above: State) -> str:
        """Why the step of call `index`, though its y was right, was not taken back to the x before."""
        if index == len(self.calls):
            return "what differed: the state that the forward ended in, which something has written into since"
        bits, name = self._rule.bits, self.calls[index].work.name
        largest = max(float(x.abs().max()) for x in above if x is not None and x.numel())
        if bits is not None and largest > exact_limit(bits):
            return f"what differed: headroom; the step of {name} above it left the exact range of fp32 at l={bits}"
        return f"what differed: γ or the state from which the step of {name} above it was taken back"

    def _is_undone(self) -> bool:
        """Whether the backward will take the last call's step back."""
        return self._lowest is not None and self._lowest < len(self.calls) - 1

    def _check_versions(self) -> None:
        assert self._state is not None
        if [x._version for x in self._state if x is not None] != self._versions:
            raise TapeError(
                "the output of the last block was changed in place after the forward, and reconstruction starts "
                "from it: use an out-of-place operation (x = x + …), or clone it first"
            )


def _unsaved() -> saved_tensors_hooks:
    """Keeps what is run inside from being mistaken for the rerun that torch's checkpoint has asked for."""
    return saved_tensors_hooks(lambda x: x, lambda x: x)


def _without_graph(state: State) -> State:
    return tuple(x if x is None else x.detach() for x in state)
