"""How many bytes of tensors are alive, counted as they are made and freed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from bdia.storages import storages


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make inside, forwards and backwards alike, until nobody holds them.

    The same count on every device: an allocator's rounding, and what a kernel takes for itself, are not in it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        """The most bytes that were alive at once."""
        self._level = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # What an operation was given and returns a view of was made elsewhere, or is counted.
        given = {storage._cdata for storage in _storages((args, kwargs))}
        out = func(*args, **kwargs)
        for storage in _storages(out):
            if storage._cdata not in given and storage._cdata not in self._alive:
                self._hold(storage)
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, nbytes = storage._cdata, storage.nbytes()

        def released(reference: object) -> None:
            del self._alive[key]
            self._level -= nbytes

        self._alive[key] = weakref.ref(storage, released)
        self._level += nbytes
        self.peak = max(self.peak, self._level)


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    for value in pytree.tree_leaves(values):
        if isinstance(value, Tensor):
            yield from storages(value)
