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


def to_even(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """x + s·2^-l, and s, the parity of x / 2^-l (eq. 20), as bool. Both of x's shape, both new.

    x must be a multiple of 2^-l. x + s·2^-l is the next even multiple at or above x, found by rounding x's half up;
    unlike a truncated modulus, that is right for negative numbers too.
    """
    half = torch.mul(x, 2.0 ** (bits - 1))
    up = half.ceil()
    odd = half.lt(up)
    return up.mul_(2.0 ** (1 - bits)), odd


def exact_limit(bits: int) -> float:
    """2^(24-l): up to here fp32 holds every multiple of 2^-l."""
    return 2.0 ** (SIGNIFICAND_BITS - bits)


def is_exact(max_after: float, max_before: float, bits: int) -> bool:
    """Whether step (21) is exact: max|x₊| + ½·max|x₋| + 2^-l ≤ 2^(24-l).

    Every quantity is a multiple of 2^-l, and the largest is T = Q_l[…] = x₊ - γ(x₋ + s·2^-l), bounded by the left
    side. A maximum that is not finite is never exact.
    """
    return max_after + 0.5 * max_before + 2.0**-bits <= exact_limit(bits)


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


def headroom(maxima: list[float], bits: int) -> Headroom:
    """The headroom of a forward whose states x_0 … x_N had the largest magnitudes `maxima`."""
    befores = [0.0, *maxima[:-2]]  # step k makes x_{k+1} from x_{k-1}; step 0 has no x₋
    steps = [
        (_worst(after + 0.5 * before), k) for k, (before, after) in enumerate(zip(befores, maxima[1:], strict=True))
    ]
    tightest, block = max(steps, default=(_worst(maxima[0]), 0))
    fitting = (bits_ for bits_ in range(MAX_BITS, 0, -1) if is_exact(max(tightest, maxima[0]), 0.0, bits_))
    return Headroom(bits, max(map(_worst, maxima)), block, next(fitting, None))


def _worst(value: float) -> float:
    return math.inf if math.isnan(value) else value
