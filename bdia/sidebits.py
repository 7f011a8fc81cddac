"""Side bits (eq. 20), one bit an element, packed eight to a byte in torch's own allocator.

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
    """A bool tensor of `shape`, as ⌈elements/8⌉ bytes."""

    packed: Tensor
    shape: torch.Size

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.packed.nbytes

    def unpack(self) -> Tensor:
        """The bool tensor that was packed, bit for bit."""
        spread = self.packed.to(torch.int64).mul_(_SPREAD).bitwise_and_(_SELECT)
        flags = spread.view(torch.uint8).ne(0)
        return flags[: math.prod(self.shape)].view(self.shape)


def pack(flags: Tensor) -> SideBits:
    """Packs a bool tensor of any shape."""
    flat = flags.contiguous().view(torch.uint8).view(-1)
    if flat.numel() % 8:
        flat = torch.nn.functional.pad(flat, (0, 8 - flat.numel() % 8))
    words = flat.view(torch.int64).mul(_GATHER)
    packed = words.bitwise_right_shift_(56).to(torch.uint8)
    return SideBits(packed, flags.shape)
