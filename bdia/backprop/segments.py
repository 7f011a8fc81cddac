"""Checkpoints in √N segments (Chen et al., arXiv 1604.06174): of every segment of blocks only the first x is stored.

In the forward, whatever autograd saves inside a segment is replaced by its number. The first time that the backward
asks for one, the whole segment is run again from its x, and what autograd saves then is put by under the same numbers,
each to be handed over, and let go of, as it is asked for. So every block is rerun once; memory is an x a segment, and
the graph of one segment. The model's own loop stays as it is: a segment ends early where something other than the
block before made the x that a block is given.

Gradients flow through the graph of the forward, as with `torch.utils.checkpoint`, whose frames work alike. Beyond
that, a saved tensor that was changed in place before the backward had need of it is an error, as in plain autograd.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bdia.backprop import Numbered, rng
from bdia.backprop.call import Call, rng_bytes
from bdia.backprop.checks import REPEAT, Checks
from bdia.backprop.work import Work
from bdia.errors import MethodError, ReconstructionError, TapeError
from bdia.sharding import gathered
from bdia.updates import Rule, State

BETWEEN_BACKWARDS = -1
"""The number of the backward under way, where there is none."""


class Segments:
    """Keeps the input of each of √N segments, rounded up, of N blocks. For the plain transformer alone: the x of the
    next block must be what the block before returned."""

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> SegmentsRecording:
        if rule.chained:
            raise MethodError(
                f"{type(rule).__name__} holds more than the x that goes from block to block, and segments store only "
                f"that: use strategy 'checkpoint' with it, or 'reversible' where it has an inverse"
            )
        return SegmentsRecording(blocks, watcher)


class SegmentsRecording:
    """One forward, cut into segments as it goes."""

    side_bytes = 0

    def __init__(self, blocks: int, watcher: Numbered | None) -> None:
        self._blocks = max(blocks, 1)
        self._count = math.isqrt(self._blocks - 1) + 1
        self._watcher = watcher
        self._draws = rng.Draws()
        self._segments: list[Segment] = []
        self._calls = 0

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        number, self._calls = self._calls, self._calls + 1
        if not work.follows or not self._segments or self._place(number) != self._place(number - 1):
            self._end()
            self._segments.append(Segment(x, self._watcher))
        return self._segments[-1].run(work, x, self._draws)

    def keep(self, kept: Tensor | None) -> None:
        pass

    def keep_state(self, state: State) -> None:
        pass

    def close(self, state: State, versions: list[int]) -> None:
        self._end()

    @property
    def rng_bytes(self) -> int:
        return rng_bytes([call for segment in self._segments for call in segment.calls])

    def _place(self, number: int) -> int:
        """The segment of a call, of `_count` as alike in length as can be."""
        return number * self._count // self._blocks

    def _end(self) -> None:
        if self._segments:
            self._segments[-1].ended = True


class _Saved:
    """What autograd holds in place of a tensor. The segment knows it by a weak reference: what the graph has let go of
    is not put by again."""

    __slots__ = ("__weakref__", "call", "looks", "number", "segment")

    def __init__(self, segment: Segment, number: int, call: int, looks: _Looks) -> None:
        self.segment = segment
        self.number = number
        self.call = call
        self.looks = looks


_Looks = tuple[torch.Size, torch.dtype, torch.device]


def _looks(tensor: Tensor) -> _Looks:
    return tensor.shape, tensor.dtype, tensor.device


class Segment:
    """Some calls in a row, the x of the first, and what autograd saved in them. Held by the graph alone; it holds no
    graph itself, which would be a cycle that no collector sees."""

    def __init__(self, x: Tensor, watcher: Numbered | None) -> None:
        self.calls: list[Call] = []
        self.ended = False
        """Whether its last call was made."""
        self._x = x.detach()
        self._version = _version(x)
        self._strides: list[tuple[int, ...]] = []
        self._autocast: list[list[dict[str, Any]]] = []
        self._saved: list[weakref.ref[_Saved]] = []
        self._rebuilt: dict[int, tuple[Tensor, int]] = {}
        self._backward = BETWEEN_BACKWARDS
        self._watcher = watcher

    def run(self, work: Work, x: Tensor, draws: rng.Draws) -> Tensor:
        """y = work(x), its saved tensors replaced by numbers."""
        index, before = len(self.calls), draws.before(x.device)
        call = Call(work.rerunnable(), x)
        self.calls.append(call)
        self._strides.append(x.stride())
        self._autocast.append(_autocast_of(x.device))

        def pack(tensor: Tensor) -> _Saved:
            saved = _Saved(self, len(self._saved), index, _looks(tensor))
            self._saved.append(weakref.ref(saved))
            return saved

        with saved_tensors_hooks(pack, _unpack):
            y = work(x)
        call.rng = draws.after(before, x.device)
        call.module_state.ran()
        if call.rng is not None and self._watcher is not None:
            for state in call.rng:
                self._watcher.kept(call.work.number, "rng_states", state)
        return y

    def hand_over(self, saved: _Saved) -> Tensor:
        """The tensor that autograd saved, rebuilt. Each is handed over once a backward; asked for again, or by another
        backward over a graph that was retained, all are rebuilt anew.

        Raises: TapeError for a backward before the segment has ended, and where something was changed in place since;
        ReconstructionError where the rerun saves other tensors than the forward.
        """
        backward = torch._C._current_graph_task_id()
        if backward != self._backward or saved.number not in self._rebuilt:
            self._rerun(saved.call)
            self._backward = backward
            if backward != BETWEEN_BACKWARDS:  # what it has no need of is let go of when it is over
                torch.autograd.Variable._execution_engine.queue_callback(self._forget)
        tensor, version = self._rebuilt.pop(saved.number)
        if backward == BETWEEN_BACKWARDS:
            self._forget()
        if _version(tensor) != version:
            raise TapeError(
                f"{self.calls[saved.call].work.name} changes in place, of shape {tuple(tensor.shape)}, a tensor that "
                f"its backward needs as it was: use an out-of-place operation, or clone the tensor first"
            )
        return tensor

    def _rerun(self, asking: int) -> None:
        """Runs all calls again; `asking` is the one whose backward is under way."""
        name = self.calls[asking].work.name
        if not self.ended:
            raise TapeError(
                f"a backward reached {name} before the forward of its model had ended: gradients taken inside the "
                f"model need its activations stored; use method 'standard', or 'checkpoint'"
            )
        if _version(self._x) != self._version:
            raise TapeError(
                f"the x given to {self.calls[0].work.name} was changed in place since, and its rerun starts from it: "
                f"use an out-of-place operation (x = x + …), or clone it first"
            )
        self._forget()
        count = 0

        def put_by(tensor: Tensor) -> Tensor:
            nonlocal count
            number, count = count, count + 1
            then = self._saved[number]() if number < len(self._saved) else None
            if number >= len(self._saved) or (then is not None and then.looks != _looks(tensor)):
                raise self._unlike(name)
            # Without its graph: a node that saves its own output would hold itself, a cycle that no collector sees.
            put_aside = tensor.detach()
            if then is not None:
                self._rebuilt[number] = put_aside, _version(tensor)
            return put_aside

        x = self._x.detach().requires_grad_(self.calls[0].requires_grad)
        with saved_tensors_hooks(put_by, lambda tensor: tensor):
            for index, call in enumerate(self.calls):
                if index:
                    x = _strided_as(x, self._strides[index])
                if self._watcher is not None:
                    self._watcher.rebuilt(call.work.number, x.detach())
                # FSDP gathers the weights of the block that its backward has come to, and only those.
                weights = contextlib.nullcontext() if index == asking else gathered(call.work.module)
                with weights, _autocast_again(self._autocast[index]), call.as_then(x.device):
                    x = call.work(x)
        if count != len(self._saved):
            raise self._unlike(name)

    def _unlike(self, name: str) -> ReconstructionError:
        self._forget()
        first, last = self.calls[0].work.name, self.calls[-1].work.name
        return ReconstructionError(
            f"{first} to {last} saved other tensors for their backward when they were rerun: a branch on data, a "
            f"counter, a cache, another precision or attention backend; {REPEAT.replace('bdia-stored', 'standard')}",
            block=name,
        )

    def _forget(self) -> None:
        self._rebuilt = {}
        self._backward = BETWEEN_BACKWARDS


def _unpack(saved: _Saved) -> Tensor:
    return saved.segment.hand_over(saved)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _strided_as(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """x laid out as the forward's was: parts of a batch are cut from the whole one there."""
    if x.stride() == stride:
        return x
    laid_out = torch.empty_strided(x.shape, stride, dtype=x.dtype, device=x.device)
    return laid_out.copy_(x.detach()).requires_grad_(x.requires_grad)


def _autocast_of(device: torch.device) -> list[dict[str, Any]]:
    """What `torch.autocast` is to be given to be as it is now."""
    return [
        {
            "device_type": kind,
            "dtype": torch.get_autocast_dtype(kind),
            "enabled": torch.is_autocast_enabled(kind),
            "cache_enabled": torch.is_autocast_cache_enabled(),
        }
        for kind in dict.fromkeys((device.type, "cpu"))
    ]


@contextlib.contextmanager
def _autocast_again(then: list[dict[str, Any]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for options in then:
            stack.enter_context(torch.autocast(**options))
        yield
