"""Cutting a batch into parts, what a block is called with along with it, and putting together what it returns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from bdia.backprop import Index
from bdia.errors import TapeError


@dataclass(frozen=True)
class Cut:
    """How a batch of a given shape is cut."""

    sizes: tuple[int, ...]
    """Samples of each part."""
    batch_dim: int
    shape: torch.Size
    """Of the whole x."""

    @staticmethod
    def of(x: Tensor, count: int, batch_dim: int) -> Cut:
        """x in `count` parts that differ by a sample at most, the larger ones first; of one sample each at least."""
        samples = x.shape[batch_dim]
        count = max(1, min(count, samples))
        each, more = divmod(samples, count)
        return Cut(tuple(each + (part < more) for part in range(count)), batch_dim, x.shape)

    @property
    def indices(self) -> tuple[Index, ...]:
        """The part that each is of the whole x: `x[index]`. Nothing is left out by ()."""
        if len(self.sizes) == 1:
            return ((),)
        ends = [sum(self.sizes[: part + 1]) for part in range(len(self.sizes))]
        before = (slice(None),) * self.batch_dim
        return tuple((*before, slice(end - size, end)) for end, size in zip(ends, self.sizes, strict=True))

    @property
    def samples(self) -> tuple[str, ...]:
        """Which samples each part has, as errors name them: `0-3`."""
        ends = [sum(self.sizes[: part + 1]) for part in range(len(self.sizes))]
        return tuple(f"{end - size}-{end - 1}" for end, size in zip(ends, self.sizes, strict=True))

    def split(self, x: Tensor) -> Iterator[Tensor]:
        """The parts of a tensor that has its samples where x has them, as views, made as they are asked for: autograd
        takes the newest node first, and is to lead a part's gradient into that of the whole before it turns to the next
        part, and not keep all of them until the last."""
        first = 0
        for size in self.sizes:
            yield x.narrow(self.batch_dim, first, size)
            first += size

    def argument(self, name: str, tensor: Tensor) -> tuple[Tensor, ...]:
        """An argument beside x, for each part: cut where it has as many rows as x has samples, or else the same.

        Raises: TapeError where it cannot be told whether its rows are samples: x is as large in another dimension.
        """
        samples = self.shape[self.batch_dim]
        dims = [
            dim for dim in dict.fromkeys((self.batch_dim, 0)) if dim < tensor.dim() and tensor.shape[dim] == samples
        ]
        if not dims or isinstance(tensor, nn.Parameter):
            return (tensor,) * len(self.sizes)
        others = [*self.shape[: self.batch_dim], *self.shape[self.batch_dim + 1 :]]
        if tensor.dim() < len(self.shape) and samples in others:
            raise TapeError(
                f"{name} is given a tensor of shape {tuple(tensor.shape)} beside x of shape {tuple(self.shape)}: "
                f"micro_batches cannot tell whether its {samples} rows are samples; use another batch size, or "
                f"micro_batches=1"
            )
        return torch.split(tensor, list(self.sizes), dims[0])

    def together(self, name: str, outputs: Sequence[Any]) -> Any:
        """What the block called `name` returned for each part, as it would have for the whole batch.

        Raises: TapeError for a number, such as a loss, of which there is one a part.
        """
        first = outputs[0]
        if all(output is first for output in outputs):
            return first
        if isinstance(first, Tensor):
            return self._joined(name, cast("Sequence[Tensor]", outputs))
        if isinstance(first, tuple | list):
            items = [self.together(name, parts) for parts in zip(*outputs, strict=True)]
            return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
        if isinstance(first, Mapping):
            whole: Any = copy.copy(first)
            for key in first:
                whole[key] = self.together(name, [output[key] for output in outputs])
            return whole
        if dataclasses.is_dataclass(first) and not isinstance(first, type):
            fields = [field.name for field in dataclasses.fields(first)]
            parts = {field: [getattr(output, field) for output in outputs] for field in fields}
            return dataclasses.replace(first, **{field: self.together(name, of) for field, of in parts.items()})
        return first

    def _joined(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        dim = self.batch_dim
        alone = all(part.dim() > dim and part.shape[dim] == 1 for part in parts)
        if alone and max(self.sizes) > 1 and all(torch.equal(part, parts[0]) for part in parts[1:]):
            return parts[0]  # the same for all samples: T5's bias of positions
        rows = {
            divmod(part.shape[dim], size) if part.dim() > dim else (0, 0)
            for part, size in zip(parts, self.sizes, strict=True)
        }
        each, over = next(iter(rows))
        if len(rows) > 1 or over or not each or (each > 1 and dim):
            raise TapeError(
                f"{name} returns a tensor of shape {tuple(parts[0].shape)} beside x, which has no rows for each sample "
                f"(a loss, say): micro_batches cannot put such parts together; use micro_batches=1"
            )
        return torch.cat(list(parts), dim)
