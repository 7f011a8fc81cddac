"""Batches: tensors in nested tuples, lists and mappings, and cutting one into parts along its samples."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from bdia.backprop.cut import Cut
from bench.errors import UsageError

Batch = Any
"""Tensors, bare or in tuples, lists and mappings, nested or not: whatever the loss is at home with."""


def tensors(values: object) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and mappings, in order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from tensors(tuple(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)


def rows(batch: Batch) -> int:
    """The rows of the batch's first tensor that has any, one a sample as a rule; 0 where none has."""
    return next((tensor.shape[0] for tensor in tensors(batch) if tensor.dim()), 0)


def cut(batch: Batch, count: int) -> list[tuple[Batch, int]]:
    """`batch` in `count` parts, and the samples of each: views of it that differ by a sample at most, the larger first.

    A tensor with a row for each sample is cut; numbers, texts, and tensors of no dimension or of one row are the same
    for all parts.

    Raises: UsageError where it has fewer samples, or holds what may or may not have one for each.
    """
    first = next((tensor for tensor in tensors(batch) if tensor.dim()), None)
    if first is None or first.shape[0] < count:
        raise UsageError(f"a batch of {rows(batch)} has no {count} parts; take fewer")
    whole = Cut.of(first, count, 0)
    return list(zip(_pieces(batch, whole), whole.sizes, strict=True))


def _pieces(value: Any, whole: Cut) -> list[Any]:
    """A batch, or what it holds, for each part."""
    count, samples = len(whole.sizes), sum(whole.sizes)
    if isinstance(value, Tensor):
        if value.dim() == 0 or value.shape[0] == 1:
            return [value] * count
        if value.shape[0] != samples:
            raise UsageError(
                f"the batch holds a tensor of shape {tuple(value.shape)} beside {samples} samples, so it cannot be cut "
                f"along samples; give it a row for each sample"
            )
        return list(whole.split(value))
    if isinstance(value, Mapping):
        made: list[Any] = [copy.copy(value) for _ in range(count)]
        for key, item in value.items():
            for one, piece in zip(made, _pieces(item, whole), strict=True):
                one[key] = piece
        return made
    if isinstance(value, tuple | list):
        if len(value) == samples and not any(True for _ in tensors(value)):
            raise UsageError(
                f"the batch holds a {type(value).__name__} of {samples} without a tensor, beside {samples} samples, so "
                f"it cannot be told whether it has one for each; make it a tensor"
            )
        columns = [_pieces(item, whole) for item in value]
        return [_like(value, [column[part] for column in columns]) for part in range(count)]
    return [value] * count


def _like(value: tuple[Any, ...] | list[Any], items: list[Any]) -> Any:
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
