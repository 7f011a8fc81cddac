"""Side bits (eq. 20), m bits an element for |γ| = 2^-m, packed eight to a byte in torch's own allocator.

In torch's allocator on purpose: what another library allocates, the memory meter would not see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Eight bytes of 0 or 1, read as one int64, times this constant: the product's top byte holds the eight bits.
_GATHER = 0x0102040810204080
# The way back: one byte copied to eight places, of which place i keeps bit i, the order in which `_GATHER` wrote.
_SPREAD = 0x0101010101010101
_SELECT = 0x8040201008040201 - (1 << 64)  # as a signed int64


@dataclass(frozen=True)
class SideBits:
    """Numbers below 2^m of one `shape`, as m planes of ⌈elements/8⌉ bytes each, the lowest bits first."""

    packed: Tensor
    """uint8 [m, ⌈elements/8⌉]."""
    shape: torch.Size

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.packed.nbytes

    def unpack(self) -> Tensor:
        """The numbers that were packed, bit for bit, as uint8."""
        planes = [self._plane(plane) for plane in self.packed]
        total = planes[0]
        for place, plane in enumerate(planes[1:], 1):
            total = total.add_(plane.mul_(1 << place))
        return total

    def _plane(self, packed: Tensor) -> Tensor:
        spread = packed.to(torch.int64).mul_(_SPREAD).bitwise_and_(_SELECT)
        flags = spread.view(torch.uint8).ne(0)
        return flags[: math.prod(self.shape)].view(self.shape).view(torch.uint8)


def pack(side: Tensor, bits: int = 1) -> SideBits:
    """Packs a bool tensor of any shape, or a uint8 one whose numbers have `bits` bits each."""
    flat = side.contiguous().view(torch.uint8).view(-1)
    if flat.numel() % 8:
        flat = torch.nn.functional.pad(flat, (0, 8 - flat.numel() % 8))
    elif flat.storage_offset() % 8:  # a part of a batch: eight bytes are read as one word only where words begin
        flat = flat.clone()
    if bits == 1:
        return SideBits(_gather(flat)[None], side.shape)
    planes = [_gather(flat.bitwise_right_shift(place).bitwise_and_(1)) for place in range(bits)]
    return SideBits(torch.stack(planes), side.shape)


def _gather(flags: Tensor) -> Tensor:
    """Bytes of 0 or 1, eight to a byte: [8n] → [n]."""
    words = flags.view(torch.int64).mul(_GATHER)
    return words.bitwise_right_shift_(56).to(torch.uint8)
