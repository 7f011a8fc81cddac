"""A passage: one forward through a chain, and the state between two of its blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bdia.arguments import refuse_packed, refuse_replica
from bdia.backprop import Numbered, Recording
from bdia.backprop.work import Work
from bdia.errors import TapeError
from bdia.gamma import GammaDraw
from bdia.outputs import with_hidden
from bdia.quantize import Headroom, headroom, is_exact
from bdia.updates import Rule, State


@dataclass(frozen=True)
class Summary:
    """What a forward held when it ended."""

    side_bytes: int = 0
    rng_bytes: int = 0
    headroom: Headroom | None = None
    calls: int = 0
    stored_calls: int = 0
    """Calls whose state was stored because their step left the exact range."""


@dataclass(frozen=True)
class Recorders:
    """What records a forward: `recording` up to call number `keep_from`, and from there on `keeping`, which stores all;
    the former alone where that is None."""

    recording: Recording
    keeping: Recording
    keep_from: int | None


Begin = Callable[[Tensor, tuple[Any, ...], dict[str, Any]], Recorders]
"""Begins to record, given what the first block is called with: x and the rest."""


class Passage:
    """One forward through a chain."""

    def __init__(
        self,
        rule: Rule,
        begin: Begin,
        *,
        draw: Callable[[], GammaDraw],
        watcher: Numbered | None,
        least_dims: int,
        by_sample: bool,
        stores_overflow: bool,
        isolates: bool,
    ) -> None:
        self._rule = rule
        self._begin = begin
        self._recorders: Recorders | None = None
        self._recordings: list[Recording] = []
        self._begin_draw = draw
        self._draw: GammaDraw | None = None
        self._watcher = watcher
        self._least_dims = least_dims
        self._by_sample = by_sample
        self._stores_overflow = stores_overflow and rule.bits is not None
        self._isolates = isolates and rule.chained
        self._state: State | None = None
        self._emitted: Tensor | None = None
        self._emitted_version = 0
        self._versions: list[int] = []
        self._model_dtype: torch.dtype | None = None
        """Of the x that the model passes from block to block; None where that is the rule's own."""
        self._maxima: list[Tensor] = []
        self._calls = 0
        self._stored_calls = 0

    def call(self, name: str, module: nn.Module, forward: Callable[..., Any], x: Tensor, args: Any, kwargs: Any) -> Any:
        """One block. Takes and returns what the block itself would, with x₊ of the rule for its x.

        Raises: TapeError where x is not what the block before returned, the block changes its x in place, or x holds
        samples that cannot be told apart.
        """
        refuse_replica(name, x, module)
        fresh = self._state is None or not self._rule.chained
        if fresh:
            self._check_samples(name, x, kwargs)
        if self._recorders is None:
            self._recorders = self._begin(x, args, kwargs)
            self._recordings = [self._recorders.recording]
        follows = not fresh or self._is_emitted(x)
        state = self._start(x) if fresh else self._resume(name, x)
        given = x if fresh and self._watcher is not None else None
        x = self._rule.input(state)
        number = None if self._watcher is None else self._watcher.forwarded(x)
        work = Work(name, number, module, forward, args, kwargs, self._model_dtype, follows=follows)
        if self._isolates:
            work.isolate()
        gamma = self._next_gamma(x)
        version = _version(x)
        if self._recorders.keep_from is not None and self._calls >= self._recorders.keep_from:
            self._keep_on(self._recorders.keeping)
            if self._watcher is not None and number is not None:
                self._watcher.spared(number)
        y = self._recordings[-1].run(work, x, gamma)
        if self._rule.chained and _version(x) != version:
            raise TapeError(f"{name} changes its x in place, and the chain still needs it: write x = x + …, not x += …")
        self._state, kept = self._rule.step(state, y, gamma)
        if self._watcher is not None and number is not None:
            self._watcher.stepped(number, name, given, state, y, gamma, self._state)
        self._note_maximum(self._state)
        if self._stores_overflow and not self._step_is_exact():
            self._recordings[-1].keep_state(state)
            self._stored_calls += 1
        else:
            self._recordings[-1].keep(kept)
        self._calls += 1
        output = self._rule.output(self._state)
        if self._model_dtype is not None:
            self._model_dtype = work.y_dtype
            output = output.to(self._model_dtype)
        self._emitted, self._emitted_version = output, _version(output)
        self._versions = _versions(self._state)
        if self._watcher is not None and number is not None:
            self._watcher.returned(number, self._rule.input(self._state))
        return with_hidden(work.take_outputs(), output)

    def close(self) -> Summary | None:
        """Ends the forward; one synchronisation, for the maxima of the stream. None where no block was called."""
        if self._state is None:
            return None
        self._recordings[-1].close(self._state, self._versions)
        bits, room = self._rule.bits, None
        if bits is not None and self._maxima:
            room = headroom(torch.stack(self._maxima).tolist(), bits, self._rule.reach)
        side_bytes = sum(recording.side_bytes for recording in self._recordings)
        rng_bytes = sum(recording.rng_bytes for recording in self._recordings)
        return Summary(side_bytes, rng_bytes, room, self._calls, self._stored_calls)

    def _keep_on(self, keeping: Recording) -> None:
        """Has the call be recorded as one that keeps its graph. What is rebuilt begins with the state as it was before
        the first such call."""
        if self._recordings[-1] is keeping:
            return
        if self._calls and self._state is not None:
            self._recordings[-1].close(self._state, self._versions)
            self._recordings.append(keeping)
        else:
            self._recordings = [keeping]

    def _check_samples(self, name: str, x: Tensor, kwargs: dict[str, Any]) -> None:
        if not self._by_sample:
            return
        refuse_packed(name, x, kwargs)
        if x.dim() < self._least_dims:
            raise TapeError(
                f"{name} was given x of shape {tuple(x.shape)}, one sample without a batch where x has at least "
                f"{self._least_dims} dimensions: γ is drawn by sample, as micro-batches are cut; add one, or attach "
                f"with another batch_dim"
            )

    def _next_gamma(self, x: Tensor) -> Tensor | None:
        if not self._rule.draws_gamma:
            return None
        if self._draw is None:
            self._draw = self._begin_draw()
        return self._draw.next(x)

    def _start(self, x: Tensor) -> State:
        if self._rule.chained:
            if x.dtype == torch.float64:
                raise TapeError("a float64 model: the stream is fp32 and would drop bits of it; use model.float()")
            if not x.is_floating_point():
                raise TapeError(f"x is {x.dtype}: the stream of residual blocks holds real numbers; use x.float()")
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
        return self._rule.resume(self._state, x)

    def _is_emitted(self, x: Tensor) -> bool:
        """Whether x is what the call before returned, with the same values."""
        emitted = self._emitted
        return (
            emitted is not None
            and _same_storage(x, emitted)
            and _version(x) == self._emitted_version
            and x.requires_grad == emitted.requires_grad
        )

    def _note_maximum(self, state: State) -> None:
        if self._rule.bits is not None:
            x = self._rule.output(state).detach()
            if x.is_meta:
                return
            low, high = torch.aminmax(x if x.numel() else x.new_zeros(1))
            self._maxima.append(torch.maximum(-low, high))

    def _step_is_exact(self) -> bool:
        """Whether the last step can be taken back. It waits for the device, which `on_overflow="store"` costs."""
        assert self._rule.bits is not None
        before = self._maxima[-3].item() if len(self._maxima) > 2 else 0.0  # the first step has no x₋
        return is_exact(self._maxima[-1].item(), before, self._rule.bits, self._rule.reach)


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
        and x.untyped_storage()._cdata == other.untyped_storage()._cdata
    )
