"""Momentum residual networks (Sander, Ablin, Blondel, Peyré, arXiv 2102.07870): v₊ = μv + (1-μ)h(x), x₊ = x + v₊.

The way back is x = x₊ - v₊, then v = (v₊ - (1-μ)h(x)) / μ: in floating point the error in v grows by 1/μ a block, and
x takes it over. μ = 0 is the plain transformer, which has no inverse.

Shapes: x, v, y [B, …], B samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bdia.errors import MethodError
from bdia.quantize import STREAM_DTYPE
from bdia.sidebits import SideBits
from bdia.updates import State, led_through

MU = 0.9
"""What the paper trains with."""


class Momentum:
    """The state is (v, x); v is 0 before the first block, for which None stands."""

    chained = True
    draws_gamma = False
    reversible = True
    exact = False
    bits: int | None = None
    side_bits = 0
    reach = 0.0
    evaluates_plain = False

    def __init__(self, mu: float = MU) -> None:
        if not 0 < mu < 1:
            raise MethodError(f"mu={mu}: expected a number between 0 and 1, such as {MU}; its inverse divides by it")
        self._mu = mu

    def start(self, x: Tensor) -> State:
        return None, x.to(STREAM_DTYPE)

    def input(self, state: State) -> Tensor:
        return _position(state)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        v, x = state[0], _position(state)
        gain = torch.mul(y - x, 1 - self._mu)
        v = gain if v is None else torch.add(gain, v, alpha=self._mu)
        return (v, x + v), None

    def input_back(self, state: State) -> Tensor:
        return _position(state) - _velocity(state)

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        x = self.input_back(state)
        gain = torch.sub(y, x).mul_(1 - self._mu)
        return torch.sub(_velocity(state), gain).div_(self._mu), x

    def output(self, state: State) -> Tensor:
        return _position(state)

    def resume(self, state: State, x: Tensor) -> State:
        return led_through(state, x)


def _velocity(state: State) -> Tensor:
    v = state[0]
    assert v is not None
    return v


def _position(state: State) -> Tensor:
    x = state[1]
    assert x is not None
    return x
