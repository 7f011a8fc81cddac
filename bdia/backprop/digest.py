"""What is remembered of a tensor to tell whether it was rebuilt: a checksum, or enough to say where it was not.

Both add integers modulo 2^32, the bits of the float32 read as numbers: the order of a sum does not matter, and no
difference of one element cancels. -0.0 and 0.0 are equal but differ in a bit, and an exact rebuild may turn one into
the other: adding 0.0 makes both +0.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLES = 64
"""Elements that a digest keeps as they are."""


def checksum(x: Tensor) -> Tensor:
    """The sum, modulo 2^32, of x's bits, each row (its last dimension) weighted by its place, so that no two can trade
    places unseen: a scalar on x's device."""
    bits = _bits(x)
    rows = bits.view(-1, x.shape[-1] if x.dim() else 1).sum(1, dtype=torch.int32)
    odd = torch.arange(len(rows), dtype=torch.int32, device=rows.device).mul_(2).add_(1)  # so that no bit is lost
    return rows.mul_(odd).sum(dtype=torch.int32)


@dataclass(frozen=True)
class Difference:
    """Where a rebuilt tensor is not that of the forward."""

    where: str
    """The element as `[0, 3, 7]`, or what can be said of it."""
    forward: float | None
    """What stood there in the forward; None where that cannot be told."""
    rebuilt: float | None


@dataclass(frozen=True)
class Digest:
    """Sums of x's bits along its rows and columns, and a few of its elements: x as [R, D], D its last dimension.

    One wrong element, or a few in rows and columns of their own, show as rows and columns with the same difference of
    sums, which is the difference of bits: so the value of the forward can be given. Many are caught by the samples.
    """

    rows: Tensor
    """int32 [R]."""
    columns: Tensor
    """int32 [D]."""
    samples: Tensor
    """[S], every `stride`-th element."""
    shape: torch.Size

    def same(self, x: Tensor) -> bool:
        """Whether x is, as far as sums can tell, the tensor that this is the digest of. Waits for the device."""
        return torch.equal(digest(x).rows, self.rows)

    def difference(self, x: Tensor) -> Difference:
        """The first element in which x differs, given that it is not the `same`."""
        now = digest(x)
        rows, columns = self.rows - now.rows, self.columns - now.columns
        wrong_rows, wrong_columns = rows.nonzero().flatten().tolist(), columns.nonzero().flatten().tolist()
        for row in wrong_rows:
            alike = [column for column in wrong_columns if columns[column] == rows[row]]
            if len(alike) == 1:
                flat = row * len(columns) + alike[0]
                rebuilt = _flat(x)[flat]
                forward = (_bits(rebuilt) + rows[row]).view(torch.float32)
                return Difference(self._place(flat), forward.item(), rebuilt.item())
        differing = (self.samples != now.samples).nonzero().flatten().tolist()
        if differing:
            flat = differing[0] * _stride(x.numel())
            return Difference(self._place(flat), self.samples[differing[0]].item(), now.samples[differing[0]].item())
        first = wrong_rows[0] * len(columns)
        return Difference(f"an element of row {self._place(first, whole=False)}", None, None)

    def _place(self, flat: int, *, whole: bool = True) -> str:
        index = [int(part) for part in torch.unravel_index(torch.tensor(flat), self.shape)]
        return str(index if whole else index[:-1])


def digest(x: Tensor) -> Digest:
    """The digest of x [B, …, D], on x's device."""
    bits = _bits(x)
    grid = bits.view(-1, x.shape[-1]) if x.dim() else bits.view(1, 1)
    return Digest(
        rows=grid.sum(1, dtype=torch.int32),
        columns=grid.sum(0, dtype=torch.int32),
        samples=_flat(x)[:: _stride(x.numel())].clone(),
        shape=x.shape,
    )


def _bits(x: Tensor) -> Tensor:
    return x.detach().contiguous().add(0.0).view(torch.int32)


def _flat(x: Tensor) -> Tensor:
    return x.detach().contiguous().add(0.0).view(-1)


def _stride(elements: int) -> int:
    return max(1, math.ceil(elements / SAMPLES))
