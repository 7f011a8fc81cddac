"""What operators give, remembered by what they are given, as shapes, strides and formats decide it.

torch remembers that as well, but spends most of the time that a step of fake tensors takes on finding it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager

from bdia.storages import address, storages

_CPU: Final = torch.device("cpu")
_ABSOLUTE: Final = frozenset({torch.ops.aten.as_strided.default})
"""Operators that go by where a view begins."""


class _Fresh(NamedTuple):
    """A tensor with memory of its own."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


class _View(NamedTuple):
    """A tensor that looks into the first argument's memory."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    further: int
    """Elements from where that argument begins."""


class _Given(NamedTuple):
    """The tensor that was given as argument `number`, which the operator has changed."""

    number: int


class _UnknownError(Exception):
    """It takes more to know it."""


class Outputs:
    """Runs operators on the fake tensors of `mode`, those of one kind once."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self._mode = mode
        self._known: dict[object, object] = {}

    def of(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What `func` gives.

        Raises: as it does.
        """
        try:
            key = (func, torch.get_default_dtype(), _told(args), _told(tuple(kwargs.items())))
            known = self._known.get(key, key)
        except (_UnknownError, TypeError):  # a real tensor, or what cannot be hashed
            return func(*args, **kwargs)
        if known is not key:
            return self._made(known, args)
        out = func(*args, **kwargs)
        if func not in _ABSOLUTE and torch.Tag.inplace_view not in func.tags:
            with suppress(_UnknownError):
                self._known[key] = _recipe(out, args, flat([*args, *kwargs.values()]))
        return out

    def _made(self, recipe: Any, args: tuple[Any, ...]) -> Any:
        if isinstance(recipe, _Fresh | _View):
            with in_kernel_invocation_manager(self._mode):
                if isinstance(recipe, _Fresh):
                    elem = torch.empty_strided(recipe.shape, recipe.stride, dtype=recipe.dtype, device="meta")
                else:
                    storage, start = args[0].untyped_storage(), args[0].storage_offset() + recipe.further
                    elem = torch.empty(0, dtype=recipe.dtype, device="meta")
                    elem.set_(storage, start, recipe.shape, recipe.stride)
            return FakeTensor(self._mode, elem, _CPU)
        if isinstance(recipe, _Given):
            return args[recipe.number]
        return None if recipe is None else type(recipe)(self._made(part, args) for part in recipe)


def _told(value: object) -> object:
    """What an operator goes by, of a value it is given.

    Raises: _UnknownError where that is more than a shape.
    """
    if isinstance(value, Tensor):
        if not isinstance(value, FakeTensor) or not _is_plain(value):
            raise _UnknownError
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_told, value))
    return type(value), value  # 1 and 1.0 are equal


def _is_plain(tensor: FakeTensor) -> bool:
    """Whether its shape, strides and format are all there is to it: complex ones may stand for their conjugates, and
    what is of them for its negative; sparse ones are made of others."""
    dense = tensor.layout is torch.strided and not tensor.is_complex() and not tensor.is_neg()
    return dense and tensor.constant is None and tensor.fake_device == _CPU


def _recipe(out: object, args: tuple[object, ...], tensors: list[Tensor]) -> object:
    """How to make it again. `tensors` are all that were given.

    Raises: _UnknownError for what is neither new, nor one of `args` itself, nor looks into the first.
    """
    if out is None:
        return None
    if isinstance(out, list | tuple):
        return type(out)(_recipe(part, args, tensors) for part in out)
    for number, given in enumerate(args):
        if out is given:
            return _Given(number)
    if type(out) is not FakeTensor or not _is_plain(out):
        raise _UnknownError
    made = {address(storage) for storage in storages(out)}
    first = args[0] if args else None
    if isinstance(first, FakeTensor) and first.dtype == out.dtype and made == set(map(address, storages(first))):
        return _View(out.shape, out.stride(), out.dtype, int(out.storage_offset() - first.storage_offset()))
    held = {address(storage) for tensor in tensors for storage in storages(tensor)}
    if held & made or out.storage_offset() or out.untyped_storage().nbytes() != _extent(out):
        raise _UnknownError
    return _Fresh(out.shape, out.stride(), out.dtype)


def _extent(tensor: Tensor) -> int:
    """Bytes from its first element to its last."""
    last = sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size() if tensor.numel() else 0


def flat(value: object) -> list[Tensor]:
    """The tensors in what an operator is given, or gives: they nest in lists and tuples alone."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in flat(part)]
    return []
