"""A chain: one list of blocks under one method, and the forwards that pass through it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bdia.backprop import Recording, Strategy, Watcher
from bdia.backprop.stored import Stored
from bdia.backprop.work import Work, with_hidden
from bdia.errors import HeadroomError, TapeError
from bdia.gamma import GammaDraw, GammaSource
from bdia.quantize import STREAM_DTYPE, Headroom, headroom
from bdia.updates import Rule, State, rejoin


@dataclass(frozen=True)
class Summary:
    """What the last forward held when it ended."""

    side_bytes: int = 0
    rng_bytes: int = 0
    headroom: Headroom | None = None


class Chain:
    """The rule and the strategy of one block list, its γ, and the forwards now under way."""

    def __init__(self, blocks: int, rule: Rule, strategy: Strategy, gamma: GammaSource) -> None:
        self.rule = rule
        self.gamma = gamma
        self.guarded = True
        self.watcher: Watcher | None = None
        self.summary = Summary()
        self._blocks = blocks
        self._strategy = strategy
        self._threads = threading.local()

    @property
    def _open(self) -> list[Passage]:
        """The forwards under way in this thread."""
        if not hasattr(self._threads, "open"):
            self._threads.open = []
        under_way: list[Passage] = self._threads.open
        return under_way

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_threads"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _threads=threading.local())

    @property
    def current(self) -> Passage | None:
        """The innermost forward under way."""
        return self._open[-1] if self._open else None

    def open(self) -> Passage:
        """Begins a forward. Without grad mode the rule runs all the same, and nothing is kept."""
        strategy = self._strategy if torch.is_grad_enabled() else Stored()
        recording = strategy.begin(self.rule, guarded=self.guarded, watcher=self.watcher)
        draw = self.gamma.begin(self._blocks) if self.rule.draws_gamma else None
        passage = Passage(self.rule, recording, draw, self.watcher)
        self._open.append(passage)
        return passage

    def drop(self, passage: Passage) -> None:
        """Ends a forward, whichever way it went."""
        self._open.remove(passage)

    def close(self, passage: Passage) -> None:
        """Takes a forward that came through.

        Raises: HeadroomError where its stream left the exact range.
        """
        self.summary = passage.close()
        room = self.summary.headroom
        if room is not None and not room.exact and self.guarded:
            cure = f"use bits={room.largest_bits} or fewer" if room.largest_bits else "no l would do; is it diverging?"
            raise HeadroomError(
                f"block {room.block}: max|x| = {room.max_abs:.6g} leaves no headroom at l={room.bits}: fp32 holds "
                f"multiples of 2^-{room.bits} exactly only up to 2^{24 - room.bits}; {cure}",
                block=room.block,
                max_abs=room.max_abs,
                bits=room.bits,
                largest_bits=room.largest_bits,
            )


class Passage:
    """One forward through a chain: the state between two blocks."""

    def __init__(self, rule: Rule, recording: Recording, draw: GammaDraw | None, watcher: Watcher | None) -> None:
        self._rule = rule
        self._recording = recording
        self._draw = draw
        self._watcher = watcher
        self._state: State | None = None
        self._emitted: Tensor | None = None
        self._emitted_version = 0
        self._versions: list[int] = []
        self._model_dtype = torch.float32
        self._maxima: list[Tensor] = []
        self._calls = 0

    def call(self, name: str, module: nn.Module, forward: Callable[..., Any], x: Tensor, args: Any, kwargs: Any) -> Any:
        """One block. Takes and returns what the block itself would, with x₊ of the rule for its x.

        Raises: TapeError where x is not what the block before returned, or the block changes its x in place.
        """
        fresh = self._state is None or not self._rule.chained
        state = self._start(x) if fresh else self._resume(name, x)
        x = self._rule.input(state)
        if self._watcher is not None:
            self._watcher.forwarded(self._calls, x.detach())
        gamma = self._draw.next(x) if self._draw is not None else None
        work = Work(name, module, forward, args, kwargs, self._model_dtype)
        version = _version(x)
        y = self._recording.run(work, x, gamma)
        if self._rule.chained and _version(x) != version:
            raise TapeError(f"{name} changes its x in place, and the chain still needs it: write x = x + …, not x += …")
        self._state, kept = self._rule.step(state, y, gamma)
        self._recording.keep(kept)
        self._calls += 1
        self._note_maximum(self._state)
        output = self._rule.output(self._state).to(self._model_dtype)
        self._emitted, self._emitted_version = output, _version(output)
        self._versions = _versions(self._state)
        return with_hidden(work.take_outputs(), output)

    def close(self) -> Summary:
        """Ends the forward; one synchronisation, for the maxima of the stream."""
        if self._state is None:
            return Summary()
        self._recording.close(self._state, self._versions)
        bits = self._rule.bits
        room = headroom(torch.stack(self._maxima).tolist(), bits) if bits is not None else None
        return Summary(self._recording.side_bytes, self._recording.rng_bytes, room)

    def _start(self, x: Tensor) -> State:
        if self._rule.chained and x.dtype == torch.float64:
            raise TapeError("a float64 model: the stream is fp32 and would drop bits of it; use model.float()")
        self._model_dtype = x.dtype
        state = self._rule.start(x)
        self._note_maximum(state)
        return state

    def _resume(self, name: str, x: Tensor) -> State:
        emitted = self._emitted
        assert emitted is not None
        assert self._state is not None
        if not _same_storage(x, emitted):
            raise TapeError(
                f"{name} (call {self._calls}) was given another x than the block before returned: something between "
                f"the two (a hook, a cast, an added layer) replaced it, and the chain cannot be rebuilt through that; "
                f"remove it, or attach only the blocks on one side of it with blocks="
            )
        changed = _version(x) != self._emitted_version or _versions(self._state) != self._versions
        if changed or (x.requires_grad, x.is_leaf) != (emitted.requires_grad, emitted.is_leaf):
            what = "changed in place" if changed else "detached from its graph"
            raise TapeError(
                f"the x given to {name} (call {self._calls}) was {what} since the block before returned it, and the "
                f"chain cannot be rebuilt through that; remove the operation between the two blocks"
            )
        # x may be a view of what was emitted, with hooks of its own on it (FSDP's): its gradient goes through it.
        if emitted.dtype != STREAM_DTYPE:
            return *self._state[:-1], rejoin(_last(self._state), x)
        return tuple(x if held is emitted else held for held in self._state)

    def _note_maximum(self, state: State) -> None:
        if self._rule.bits is not None:
            x = self._rule.output(state).detach()
            low, high = torch.aminmax(x if x.numel() else x.new_zeros(1))
            self._maxima.append(torch.maximum(-low, high))


def _last(state: State) -> Tensor:
    x = state[-1]
    assert x is not None
    return x


def _versions(state: State) -> list[int]:
    return [_version(x) for x in state if x is not None]


def _version(x: Tensor) -> int:
    return 0 if x.is_inference() else x._version


def _same_storage(x: Tensor, other: Tensor) -> bool:
    return (
        x.shape == other.shape
        and x.dtype == other.dtype
        and x.stride() == other.stride()
        and x.storage_offset() == other.storage_offset()
        and x.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    )
