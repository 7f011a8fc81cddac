"""Update rules: what the forward computes, beside its inverse. One equation a function.

A rule sees a residual block only as y = block(x), never as h, so that any block serves as it is:
h = y - x, and (1-γ)x + (1+γ)h = (1+γ)y - 2γx, which at γ = 0 is y itself, bit for bit.

Shapes: x, y [B, …]; γ [B, 1, …]. B samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from bdia.errors import MethodError
from bdia.quantize import MAX_BITS, STREAM_DTYPE, parity, quantize
from bdia.sidebits import SideBits

Block = Callable[[Tensor], Tensor]
State = tuple[Tensor | None, ...]
"""What a rule carries from block to block: x alone, two successive x, two streams, position and velocity, …"""


class Rule(Protocol):
    """A rule of the stream. `undo` inverts `step` given what the step kept; both call `block` once."""

    chained: bool
    """The state holds more than the x that a model passes from block to block."""
    draws_gamma: bool
    reversible: bool
    """Whether `undo` exists."""
    exact: bool
    """`undo` rebuilds the state bit for bit."""
    bits: int | None
    """l of eq. 17, for a rule whose stream is quantised."""

    def start(self, x: Tensor) -> State:
        """The state before the first block."""
        ...

    def step(self, state: State, block: Block, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        """One block: the next state, and what `undo` needs besides it (side bits as bool, or None).

        `gamma` is None in the first step of a chain, and for rules that draw none.
        """
        ...

    def undo(self, state: State, block: Block, gamma: Tensor | None, kept: SideBits | None) -> State:
        """The state before the step, from the state after it and what the step kept, now packed. Runs outside
        autograd. `gamma` None: there is nothing below to rebuild, so the block is run and no more."""
        ...

    def output(self, state: State) -> Tensor:
        """The x handed to the model."""
        ...


class Euler:
    """The plain transformer (4): x₊ = x + h(x) = y. Nothing to undo with: it forgets x."""

    chained = False
    draws_gamma = False
    reversible = False
    exact = True
    bits = None

    def start(self, x: Tensor) -> State:
        return (x,)

    def step(self, state: State, block: Block, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        (x,) = state
        assert x is not None
        return (block(x),), None

    def undo(self, state: State, block: Block, gamma: Tensor | None, kept: SideBits | None) -> State:
        raise MethodError("the plain transformer (eq. 4) has no inverse: use strategy 'stored' or 'checkpoint'")

    def output(self, state: State) -> Tensor:
        return _last(state)


class Bdia:
    """BDIA (6), (10), inverted in floating point by (16). Each inversion doubles the rounding error it is given.

    The state is (x_{k-1}, x_k); before the first block (None, x_0).
    """

    chained = True
    draws_gamma = True
    reversible = True
    exact = False
    bits = None

    def start(self, x: Tensor) -> State:
        return None, x.to(STREAM_DTYPE)

    def step(self, state: State, block: Block, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = _pair(state)
        y = block(x)
        if before is None:  # (6)
            return (x, y), None
        return (x, _through(_Combine, before, x, y, gamma, None)), None

    def undo(self, state: State, block: Block, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = _pair(state)
        assert x is not None
        y = block(x)
        return (None if gamma is None else invert(after, x, y, gamma)), x

    def output(self, state: State) -> Tensor:
        return _last(state)


class QuantisedBdia:
    """Quantised BDIA (18)-(21), inverted bit for bit by (24) with one side bit an element.

    The state is (x_{k-1}, x_k), both multiples of 2^-l in fp32; before the first block (None, Q_l[x_0]). Gradients
    pass straight through Q_l: the paper does not say, and this is what makes it train.
    """

    chained = True
    draws_gamma = True
    reversible = True
    exact = True

    def __init__(self, bits: int) -> None:
        if not 1 <= bits <= MAX_BITS:
            raise MethodError(f"bits={bits}: l must be from 1 to {MAX_BITS}, since fp32 has 24 bits in all; try 9")
        self.bits = bits

    def start(self, x: Tensor) -> State:
        return None, _through(_Quantise, x.to(STREAM_DTYPE), self.bits)  # (18)

    def step(self, state: State, block: Block, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = _pair(state)
        y = block(x)
        if before is None:
            return (x, _through(_FirstStep, x, y, self.bits)), None
        side_bits = parity(before.detach(), self.bits)  # (20)
        return (x, _through(_Combine, before, x, y, gamma, (side_bits, self.bits))), side_bits

    def undo(self, state: State, block: Block, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = _pair(state)
        assert x is not None
        y = block(x)
        if gamma is None:
            return None, x
        assert kept is not None
        return invert_quantised(after, x, y, gamma, kept.unpack(), self.bits), x

    def output(self, state: State) -> Tensor:
        return _last(state)


def mix(x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """(1-γ)x + (1+γ)h, written with y = x + h as (1+γ)y - 2γx. A new tensor.

    Each product and sum is rounded on its own (no fused multiply-add, whose use may depend on an element's place),
    so that forward and inverse agree in every bit.
    """
    return torch.mul(y, 1 + gamma).sub_(x * (2 * gamma))


def combine(before: Tensor, x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """x₊ = γx₋ + (1-γ)x + (1+γ)h (eq. 10)."""
    return mix(x, y, gamma).add_(before * gamma)


def invert(after: Tensor, x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """x₋ = (x₊ - (1-γ)x - (1+γ)h) / γ (eq. 16)."""
    return torch.sub(after, mix(x, y, gamma)).div_(gamma)


def first_quantised(x: Tensor, y: Tensor, bits: int) -> Tensor:
    """x_1 = x_0 + Q_l[h_0(x_0)] (eq. 19)."""
    return quantize(y - x, bits).add_(x)


def combine_quantised(before: Tensor, x: Tensor, y: Tensor, gamma: Tensor, side_bits: Tensor, bits: int) -> Tensor:
    """x₊ = Q_l[γ(x₋ + s·2^-l)] + Q_l[(1-γ)x + (1+γ)h] (eq. 21).

    For |γ| = ½ the first term needs no rounding (eq. 23): x₋ + s·2^-l is an even multiple of 2^-l.
    """
    even = before + side_bits.to(before.dtype).mul_(2.0**-bits)
    return quantize(mix(x, y, gamma), bits).add_(even.mul_(gamma))


def invert_quantised(after: Tensor, x: Tensor, y: Tensor, gamma: Tensor, side_bits: Tensor, bits: int) -> Tensor:
    """x₋ = (x₊ - Q_l[(1-γ)x + (1+γ)h]) / γ - s·2^-l (eq. 24)."""
    even = torch.sub(after, quantize(mix(x, y, gamma), bits)).div_(gamma)
    return even.sub_(side_bits.to(after.dtype).mul_(2.0**-bits))


def _pair(state: State) -> tuple[Tensor | None, Tensor]:
    before, x = state
    assert x is not None
    return before, x


def _last(state: State) -> Tensor:
    x = state[-1]
    assert x is not None
    return x


# The autograd side. Each function saves at most γ: nothing of the stream outlives the step.


def _through(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    return cast("Tensor", cast("Any", function).apply(*inputs))


class _Quantise(torch.autograd.Function):
    """(18), with the gradient straight through."""

    @staticmethod
    def forward(x: Tensor, bits: int) -> Tensor:
        return quantize(x, bits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _FirstStep(torch.autograd.Function):
    """(19). Straight through Q_l it is x_1 = y, so all of the gradient goes to y."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, bits: int) -> Tensor:
        return first_quantised(x, y, bits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, grad, None


class _Combine(torch.autograd.Function):
    """(10) or (21). With g = dL/dx₊: x₋ gets γg, x gets -2γg, y gets (1+γ)g."""

    @staticmethod
    def forward(before: Tensor, x: Tensor, y: Tensor, gamma: Tensor, quantised: tuple[Tensor, int] | None) -> Tensor:
        if quantised is None:
            return combine(before, x, y, gamma)
        return combine_quantised(before, x, y, gamma, *quantised)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (gamma,) = ctx.saved_tensors
        to_before, to_x, to_y = ctx.needs_input_grad[:3]
        return (
            grad * gamma if to_before else None,
            grad * (-2 * gamma) if to_x else None,
            grad * (1 + gamma) if to_y else None,
            None,
            None,
        )
