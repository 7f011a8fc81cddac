"""Fixed-point arithmetic inside fp32: Q_l (eq. 17), parity (eq. 20) and the range in which both are exact.

Every state of the quantised stream is a multiple of 2^-l held in fp32. fp32 has a 24-bit significand, so such a
multiple is exact up to 2^24 units, that is up to 2^(24-l).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STREAM_DTYPE = torch.float32
"""The stream's dtype. bf16 and fp16 have 8 and 11 bits of significand: they break exactness at once."""

SIGNIFICAND_BITS = 24
MAX_BITS = SIGNIFICAND_BITS - 1


def quantize(y: Tensor, bits: int) -> Tensor:
    """Q_l[y] = round(y / 2^-l) · 2^-l (eq. 17), ties to even. Same shape; a new tensor.

    Scaling by a power of two is exact, so the only rounding is the one that is meant.
    """
    return torch.mul(y, 2.0**bits).round_().mul_(2.0**-bits)


def to_multiple(x: Tensor, bits: int, side_bits: int) -> tuple[Tensor, Tensor | None]:
    """x + s·2^-l, the multiple of 2^(m-l) nearest to x (halfway cases up), and what gives s back: s + 2^(m-1) - 1,
    from 0 to 2^m - 1, as bool for m = 1 and uint8 above. m = `side_bits`; 0 leaves x as it is. Of x's shape, new.

    For m = 1 this is eq. 20: s is the parity of x / 2^-l, and x + s·2^-l the next even multiple at or above x. For
    m > 1 the nearest multiple lies half as far away as the next one above would, and without a bias.

    x must be a multiple of 2^-l. Rounding, unlike a truncated modulus, is right for negative numbers too.
    """
    if side_bits == 0:
        return x, None
    units = torch.mul(x, 2.0 ** (bits - side_bits))
    if side_bits == 1:
        nearest = units.ceil()
        side = units.lt(nearest)
    else:
        nearest = torch.add(units, 0.5).floor_()
        side = torch.sub(nearest, units).mul_(2.0**side_bits).add_(_offset(side_bits)).to(torch.uint8)
    return nearest.mul_(2.0 ** (side_bits - bits)), side


def shift_of(side: Tensor, bits: int, side_bits: int) -> Tensor:
    """s·2^-l, from what `to_multiple` gave: float32, a new tensor."""
    numbers = side.to(torch.float32)
    if side_bits > 1:  # for one bit there is nothing to take away, and a pass over the stream to save
        numbers.sub_(_offset(side_bits))
    return numbers.mul_(2.0**-bits)


def _offset(side_bits: int) -> float:
    return 2.0 ** (side_bits - 1) - 1.0


def exact_limit(bits: int) -> float:
    """2^(24-l): up to here fp32 holds every multiple of 2^-l."""
    return 2.0 ** (SIGNIFICAND_BITS - bits)


def is_exact(max_after: float, max_before: float, bits: int, reach: float = 0.5) -> bool:
    """Whether step (21) is exact: max|x₊| + g·max|x₋| + 2^-l ≤ 2^(24-l), with g = `reach` the largest |γ|.

    Every quantity is a multiple of 2^-l, and the largest is T = Q_l[…] = x₊ - γ(x₋ + s·2^-l), bounded by the left
    side, as |γs| ≤ ½ for |γ| = 2^-m. A maximum that is not finite is never exact.
    """
    return max_after + reach * max_before + 2.0**-bits <= exact_limit(bits)


@dataclass(frozen=True)
class Headroom:
    """How much of the exact range one forward used."""

    bits: int
    """l, as configured."""
    max_abs: float
    """The largest |x| of the stream, over the states x_0 … x_N."""
    block: int
    """Index of the call whose step came closest to the limit, or beyond it."""
    largest_bits: int | None
    """The largest l for which every step would have been exact; None where none would."""

    @property
    def exact(self) -> bool:
        """Whether the forward stayed inside the exact range."""
        return self.largest_bits is not None and self.bits <= self.largest_bits


def headroom(maxima: list[float], bits: int, reach: float = 0.5) -> Headroom:
    """The headroom of a forward whose states x_0 … x_N reached `maxima`; `reach` is the largest |γ|."""
    befores = [0.0, *maxima[:-2]]  # step k makes x_{k+1} from x_{k-1}; step 0 has no x₋
    steps = [
        (_worst(after + reach * before), k) for k, (before, after) in enumerate(zip(befores, maxima[1:], strict=True))
    ]
    tightest, block = max(steps, default=(_worst(maxima[0]), 0))
    fitting = (bits_ for bits_ in range(MAX_BITS, 0, -1) if is_exact(max(tightest, maxima[0]), 0.0, bits_))
    return Headroom(bits, max(map(_worst, maxima)), block, next(fitting, None))


def _worst(value: float) -> float:
    return math.inf if math.isnan(value) else value
