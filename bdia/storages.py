"""The memory that a tensor holds: one storage as a rule, those of its parts where it is sparse or made of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

_COMPRESSED: Final = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def storages(tensor: Tensor) -> Iterator[torch.UntypedStorage]:
    """Each storage that `tensor` looks into, whole. None where torch does not say: its memory is what it is, and no
    reason to fail."""
    if is_traceable_wrapper_subclass(tensor):
        inner: Any = tensor
        names, _ = inner.__tensor_flatten__()
        for name in names:
            yield from storages(getattr(inner, name))
    elif tensor.layout is torch.sparse_coo:
        yield from storages(tensor._indices())
        yield from storages(tensor._values())
    elif tensor.layout in _COMPRESSED:
        by_row = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
        yield from storages(tensor.crow_indices() if by_row else tensor.ccol_indices())
        yield from storages(tensor.col_indices() if by_row else tensor.row_indices())
        yield from storages(tensor.values())
    else:
        try:
            storage = tensor.untyped_storage()
            address(storage)
        except (RuntimeError, NotImplementedError):  # mkldnn's
            return
        yield storage


def address(storage: torch.UntypedStorage) -> int:
    """Where a storage lies. Of one that lies nowhere, a fake tensor's, what tells it from others that are alive."""
    return cast("int", storage._cdata) if storage.device.type == "meta" else storage.data_ptr()
