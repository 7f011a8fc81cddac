"""Offload: what autograd saves inside a block waits for the backward in the CPU's memory, as torch's own
`save_on_cpu` has it, and the device's holds the block under way alone. Nothing is run again.

Other than `save_on_cpu`, it leaves parameters, buffers and tensors that the caller holds anyway where they are, moves
a storage once where several tensors look into it (queries, keys and values; an x that three layers save), and gives
back each tensor with the strides that it had, so that the backward runs the same kernels.

On CUDA the copies lie in pinned memory, and both ways are queued on the stream of the block: the CPU waits for none.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bdia.backprop import Numbered
from bdia.backprop.checks import Checks
from bdia.backprop.work import Work
from bdia.errors import TapeError
from bdia.updates import Rule, State

HOME: Final = frozenset({"cpu"})
"""The device types whose tensors are in the CPU's memory already."""


class Offload:
    """Keeps what autograd keeps, on the CPU. Works with every rule; on a CPU it is plain autograd."""

    def __init__(self, home: frozenset[str] = HOME) -> None:
        self._home = home

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> OffloadRecording:
        return OffloadRecording(self._home)


class OffloadRecording:
    """One forward, and what it has moved."""

    side_bytes = 0
    rng_bytes = 0

    def __init__(self, home: frozenset[str]) -> None:
        self._home = home
        self._copies: dict[_Key, tuple[weakref.ref[torch.UntypedStorage], weakref.ref[_Copy]]] = {}

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        if x.device.type in self._home:
            return work(x)
        staying = _addresses_of_what_stays(work, x)

        def pack(tensor: Tensor) -> _Waiting | _Staying:
            if not _is_plain(tensor) or tensor.untyped_storage().data_ptr() in staying:
                return _Staying(tensor, _version(tensor), work.name)
            return self._moved(tensor)

        with saved_tensors_hooks(pack, _unpack):
            return work(x)

    def keep(self, kept: Tensor | None) -> None:
        pass

    def keep_state(self, state: State) -> None:
        pass

    def close(self, state: State, versions: list[int]) -> None:
        self._copies = {}

    def _moved(self, tensor: Tensor) -> _Waiting:
        storage, size, start = tensor.untyped_storage(), tensor.element_size(), int(tensor.storage_offset())
        extent = 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
        # A tensor without gaps is moved alone, be it a part of a batch; one with gaps, along with what lies in them.
        alone = extent == tensor.numel()
        first, last = (start * size, (start + extent) * size) if alone else (0, int(storage.nbytes()))
        key = storage.data_ptr(), first, last, _version(tensor)
        copy = self._known(key, storage)
        if copy is None:
            copy = _Copy(storage, first, last)
            self._copies[key] = weakref.ref(storage), weakref.ref(copy)
        return _Waiting(copy, tensor.dtype, tensor.shape, tensor.stride(), start - first // size)

    def _known(self, key: _Key, storage: torch.UntypedStorage) -> _Copy | None:
        """The copy that was made of the same bytes, while the graph holds it."""
        if key not in self._copies:
            return None
        of, copy = self._copies[key]
        return copy() if of() is storage else None  # the address of a storage that is gone may be another's now


_Key = tuple[int, int, int, int]
"""The address of a storage, which of its bytes, and the version of what is written there."""


class _Copy:
    """Some bytes of a storage, on the CPU."""

    def __init__(self, storage: torch.UntypedStorage, first: int, last: int) -> None:
        self._device = storage.device
        source = torch.empty(0, dtype=torch.uint8, device=self._device).set_(storage, first, (last - first,), (1,))
        self._pinned = self._device.type == "cuda"
        self._bytes = torch.empty(last - first, dtype=torch.uint8, pin_memory=self._pinned)
        self._bytes.copy_(source, non_blocking=self._pinned)
        self._back: weakref.ref[torch.UntypedStorage] | None = None

    def back(self) -> torch.UntypedStorage:
        """The bytes on their device again: one copy, as long as anyone holds it."""
        there = None if self._back is None else self._back()
        if there is None:
            on_device = torch.empty(self._bytes.shape, dtype=torch.uint8, device=self._device)
            on_device.copy_(self._bytes, non_blocking=self._pinned)
            there = on_device.untyped_storage()
            self._back = weakref.ref(there)
        return there


@dataclass(frozen=True)
class _Waiting:
    """What autograd holds of a tensor that was moved."""

    copy: _Copy
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int

    def tensor(self) -> Tensor:
        storage = self.copy.back()
        return torch.empty(0, dtype=self.dtype, device=storage.device).set_(
            storage, self.offset, self.shape, self.stride
        )


@dataclass(frozen=True)
class _Staying:
    """What autograd holds of a tensor that was left where it is; changes in place are noticed, as in plain autograd."""

    left: Tensor
    version: int
    block: str

    def tensor(self) -> Tensor:
        if _version(self.left) != self.version:
            raise TapeError(
                f"a tensor of shape {tuple(self.left.shape)} that {self.block} needs for its backward was changed in "
                f"place since the forward: go backward before changing weights, or pass the block a copy"
            )
        return self.left


def _unpack(saved: _Waiting | _Staying) -> Tensor:
    return saved.tensor()


def _addresses_of_what_stays(work: Work, x: Tensor) -> frozenset[int]:
    """The addresses of the storages that somebody holds for as long as the graph, or longer."""
    held = [*work.module.parameters(), *work.module.buffers()]
    held += [tensor for tensor in (*work.arguments, x) if tensor.is_leaf and (tensor is not x or x.requires_grad)]
    return frozenset(tensor.untyped_storage().data_ptr() for tensor in held if _is_plain(tensor))


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is some bytes, with strides: not sparse, not made of other tensors, not empty, not read in another way
    than it lies there."""
    bytes_alone = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    return bytes_alone and tensor.numel() > 0 and not tensor.is_conj() and not tensor.is_neg()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
