"""Leapfrog, also called the midpoint rule: x₊ = x₋ + 2h(x), which is BDIA (10) at γ = 1. No γ is drawn.

Its inverse x₋ = x₊ - 2h(x) never divides, so the rounding error of a step is carried along, not doubled; and once 2h is
rounded to multiples of 2^-l, the inverse is exact with no side bits, the idea of Stam's bitwise exact integrator
(arXiv 2207.07695). What it lacks is γ's random sign: on average over γ = ±½ BDIA is the plain transformer, and this is
not. The even and the odd states only meet through h, and may drift apart.

Shapes: x, y [B, …], B samples.
"""

from __future__ import annotations

from torch import Tensor

from bdia.distributions import PlusMinus
from bdia.equations import first_step, leap, leap_back, leap_back_quantised, leap_quantised, straight_through
from bdia.quantize import STREAM_DTYPE
from bdia.sidebits import SideBits
from bdia.updates import Bdia, State, checked_bits


class Leapfrog(Bdia):
    """x₊ = x₋ + 2h(x), in floating point. The state is BDIA's, (x_{k-1}, x_k), and so is the first step, x_1 = y."""

    draws_gamma = False
    evaluates_plain = False

    def __init__(self) -> None:
        super().__init__(PlusMinus(1.0))

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = state
        assert x is not None
        return (x, y if before is None else leap(before, x, y)), None

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = _both(state)
        return leap_back(after, x, y), x


class ExactLeapfrog(Leapfrog):
    """x₊ = x₋ + Q_l[2h(x)] from x_0 = Q_l[x_0] and x_1 = x_0 + Q_l[h], inverted bit for bit as long as the stream stays
    in the range where fp32 holds every multiple of 2^-l. Gradients pass straight through Q_l."""

    exact = True

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._l = checked_bits(bits)
        self.bits = bits

    def start(self, x: Tensor) -> State:
        return None, straight_through(x.to(STREAM_DTYPE), self._l)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = state
        assert x is not None
        if before is None:
            return (x, first_step(x, y, self._l)), None
        return (x, leap_quantised(before, x, y, self._l)), None

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = _both(state)
        return leap_back_quantised(after, x, y, self._l), x


def _both(state: State) -> tuple[Tensor, Tensor]:
    before, x = state
    assert before is not None
    assert x is not None
    return before, x
