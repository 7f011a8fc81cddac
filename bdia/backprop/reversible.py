"""Reversible checkpointing: activation checkpointing whose saved input is rebuilt instead of stored.

Each block runs inside a non-reentrant `torch.utils.checkpoint` region whose function takes no argument: in the
forward it is handed x_k and lets go of it. In the backward autograd asks for what block k saved; the region reruns
the block on the rebuilt x_k, and the y it yields gives x_{k-1} by the rule's `undo`. Forward and rerun are the same
code in the same grad mode, which is what bit-exactness rests on; gradients flow through the graph, so that hooks,
autocast, DDP and FSDP are torch's own business.
"""

from __future__ import annotations

import functools
from typing import cast

import torch.utils.checkpoint
from torch import Tensor

from bdia.backprop import Numbered, rng
from bdia.backprop.call import Call, rng_bytes
from bdia.backprop.checks import Checks
from bdia.backprop.circumstances import look
from bdia.backprop.tape import Tape
from bdia.backprop.work import Work
from bdia.updates import Rule, State


class Reversible:
    """Keeps the last state, the rule's side bits, and RNG states of blocks that draw. Needs a rule with an inverse."""

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> ReversibleRecording:
        return ReversibleRecording(Tape(rule, asked=checks if rule.exact else "off", watcher=watcher))


class ReversibleRecording:
    """Writes the tape during one forward. Dropped when the forward ends: the graph holds the tape, not this."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._draws = rng.Draws()

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        before = self._draws.before(x.device)
        call = Call(work.rerunnable(), x, gamma)
        self._tape.calls.append(call)
        looks = [look(work.name, work.module, x.device)] if self._tape.verifying else []
        region = _Region(self._tape, len(self._tape.calls) - 1, functools.partial(work, x))
        y = cast(
            "Tensor",
            torch.utils.checkpoint.checkpoint(region, use_reentrant=False, preserve_rng_state=False, early_stop=False),
        )
        drawn_from = self._draws.after(before, x.device)
        if drawn_from is not None:
            self._tape.drew(drawn_from)
        call.module_state.ran()
        if looks:
            looks.append(look(work.name, work.module, x.device))
        if torch.is_grad_enabled() and (y.requires_grad or work.outputs_require_grad()):
            self._tape.entered(x, y, (looks[0], looks[1]) if looks else None)
        return y

    def keep(self, kept: Tensor | None) -> None:
        self._tape.keep(kept)

    def keep_state(self, state: State) -> None:
        self._tape.keep_state(state)

    def close(self, state: State, versions: list[int]) -> None:
        self._tape.close(state, versions)

    @property
    def side_bytes(self) -> int:
        return sum(call.kept.nbytes for call in self._tape.calls if call.kept is not None)

    @property
    def rng_bytes(self) -> int:
        return rng_bytes(self._tape.calls)


class _Region:
    """The function of one checkpoint region. Knows its own first run."""

    def __init__(self, tape: Tape, index: int, first: functools.partial[Tensor]) -> None:
        self._tape = tape
        self._index = index
        self._first: functools.partial[Tensor] | None = first

    def __call__(self) -> Tensor:
        if self._first is not None:
            first, self._first = self._first, None
            return first()
        return self._tape.rebuild(self._index)
