"""What the libraries compute, by plain autograd: the references that their gradients are held to.

h_k are the residual functions of a chain (see `bench.peers.functions`), x [B, …] its input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from torch import Tensor

Residual = Callable[[Tensor], Tensor]
Stack = Callable[[Tensor], Tensor]
"""The whole chain, from its input to its output."""

MOMENTUM: Final = 0.9
"""γ of Sander et al.: the default of momentumnet's own `transform_to_momentumnet`."""


def two_stream(functions: Sequence[Residual]) -> Stack:
    """Additive coupling (RevNet): y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁), with F = h_2j and G = h_2j+1. Both streams start
    as x; their mean comes out."""

    def stack(x: Tensor) -> Tensor:
        one = two = x
        for f, g in zip(functions[::2], functions[1::2], strict=True):
            one = one + f(two)
            two = two + g(one)
        return mean(one, two)

    return stack


def momentum(functions: Sequence[Residual]) -> Stack:
    """Momentum residual network: v₊ = γv + (1−γ)h(x), x₊ = x + v₊, with v = 0 at first."""

    def stack(x: Tensor) -> Tensor:
        v = x.new_zeros(()).expand_as(x)
        for h in functions:
            v = MOMENTUM * v + (1 - MOMENTUM) * h(x)
            x = x + v
        return x

    return stack


def mean(one: Tensor, two: Tensor) -> Tensor:
    """What is made of two streams where the model goes on with one."""
    return (one + two) / 2
