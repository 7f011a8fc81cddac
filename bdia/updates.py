"""Update rules: what the forward computes, beside its inverse. One equation a function.

A rule sees a residual block only as y = block(x), never as h, so that any block serves as it is:
h = y - x, and (1-γ)x + (1+γ)h = (1+γ)y - 2γx, which at γ = 0 is y itself, bit for bit.

Shapes: x, y [B, …]; γ [B, 1, …]. B samples.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor

from bdia.errors import MethodError
from bdia.quantize import MAX_BITS, STREAM_DTYPE, quantize, to_even
from bdia.sidebits import SideBits

State = tuple[Tensor | None, ...]
"""What a rule carries from block to block: x alone, two successive x, two streams, position and velocity, …"""


class Rule(Protocol):
    """The arithmetic of the stream. The engine runs the blocks; a rule says what they are given and what becomes of
    their y, and how to go back. Stateless: one object serves every forward."""

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
        """The state before the first block, from the model's x_0."""
        ...

    def input(self, state: State) -> Tensor:
        """x_k, which the next block is given."""
        ...

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        """The state after the block that returned y, and what `undo` needs besides it: side bits as bool, or None."""
        ...

    def input_back(self, state: State) -> Tensor:
        """x_k again, from the state after its step."""
        ...

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        """The state before a step, from the state after it, y computed again, and what the step kept. Runs outside
        autograd, and never for the first step: before that there is nothing to rebuild."""
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

    def input(self, state: State) -> Tensor:
        return _x(state)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        return (y,), None

    def input_back(self, state: State) -> Tensor:
        raise MethodError("the plain transformer (eq. 4) has no inverse: use strategy 'stored' or 'checkpoint'")

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        raise MethodError("the plain transformer (eq. 4) has no inverse: use strategy 'stored' or 'checkpoint'")

    def output(self, state: State) -> Tensor:
        return _x(state)


class Bdia:
    """BDIA (6), (10), inverted in floating point by (16). Each inversion doubles the rounding error it is given.

    The state is (x_{k-1}, x_k); before the first block (None, x_0).
    """

    chained = True
    draws_gamma = True
    reversible = True
    exact = False
    bits: int | None = None

    def start(self, x: Tensor) -> State:
        return None, x.to(STREAM_DTYPE)

    def input(self, state: State) -> Tensor:
        return _x(state)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = state
        if before is None:  # (6)
            return (x, y), None
        return (x, _through(_Combine, before, x, y, gamma, None, None)), None

    def input_back(self, state: State) -> Tensor:
        x = state[0]
        assert x is not None
        return x

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = state
        assert x is not None
        assert after is not None
        assert gamma is not None
        return invert(after, x, y, gamma), x

    def output(self, state: State) -> Tensor:
        return _x(state)


class QuantisedBdia(Bdia):
    """Quantised BDIA (18)-(21), inverted bit for bit by (24) with one side bit an element.

    The state is (x_{k-1}, x_k), both multiples of 2^-l in fp32; before the first block (None, Q_l[x_0]). Gradients
    pass straight through Q_l: the paper does not say, and this is what makes it train.
    """

    exact = True

    def __init__(self, bits: int) -> None:
        if type(bits) is not int or not 1 <= bits <= MAX_BITS:
            raise MethodError(
                f"bits={bits}: l must be an int from 1 to {MAX_BITS}, since fp32 has 24 bits in all; try 9"
            )
        self._l = bits
        self.bits = bits

    def start(self, x: Tensor) -> State:
        return None, straight_through(x.to(STREAM_DTYPE), self._l)  # (18)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = state
        if before is None:
            return (x, _through(_FirstStep, x, y, self._l)), None
        even, side_bits = to_even(before.detach(), self._l)  # (20)
        return (x, _through(_Combine, before, x, y, gamma, even, self._l)), side_bits

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = state
        assert x is not None
        assert after is not None
        assert gamma is not None
        assert kept is not None
        return invert_quantised(after, x, y, gamma, kept.unpack(), self._l), x


def mix(x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """(1-γ)x + (1+γ)h, written with y = x + h as (1+γ)y - 2γx. A new tensor.

    Forward and inverse must agree in every bit, and whether a kernel fuses the multiply with the add may depend on an
    element's place. For |γ| a power of two the product 2γx is exact, so that fused or not is the same.
    """
    return torch.mul(y, 1 + gamma).addcmul_(x, -2 * gamma)


def combine(before: Tensor, x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """x₊ = γx₋ + (1-γ)x + (1+γ)h (eq. 10)."""
    return mix(x, y, gamma).add_(before * gamma)


def invert(after: Tensor, x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """x₋ = (x₊ - (1-γ)x - (1+γ)h) / γ (eq. 16)."""
    return torch.sub(after, mix(x, y, gamma)).div_(gamma)


def first_quantised(x: Tensor, y: Tensor, bits: int) -> Tensor:
    """x_1 = x_0 + Q_l[h_0(x_0)] (eq. 19)."""
    return quantize(y - x, bits).add_(x)


def combine_quantised(even: Tensor, x: Tensor, y: Tensor, gamma: Tensor, bits: int) -> Tensor:
    """x₊ = Q_l[γ(x₋ + s·2^-l)] + Q_l[(1-γ)x + (1+γ)h] (eq. 21), given even = x₋ + s·2^-l.

    For |γ| = ½ the first term needs no rounding (eq. 23).
    """
    return quantize(mix(x, y, gamma), bits).add_(even * gamma)


def invert_quantised(after: Tensor, x: Tensor, y: Tensor, gamma: Tensor, side_bits: Tensor, bits: int) -> Tensor:
    """x₋ = (x₊ - Q_l[(1-γ)x + (1+γ)h]) / γ - s·2^-l (eq. 24)."""
    even = torch.sub(after, quantize(mix(x, y, gamma), bits)).mul_(1 / gamma)
    return even.sub_(side_bits.view(torch.uint8).to(even.dtype).mul_(2.0**-bits))


def straight_through(y: Tensor, bits: int) -> Tensor:
    """Q_l[y], with the gradient passed on as though Q_l were the identity."""
    return _through(_Quantise, y, bits)


def rejoin(stream: Tensor, x: Tensor) -> Tensor:
    """The fp32 stream, with its gradient led through x, the narrower copy of it that a 16-bit model passes from block
    to block: hooks on x see it, rounded to x's dtype as every gradient of such a model is."""
    return _through(_Rejoin, stream.detach(), x)


def _x(state: State) -> Tensor:
    x = state[-1]
    assert x is not None
    return x


# The autograd side. Each function saves at most γ: nothing of the stream outlives the step.


def _through(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    return cast("Tensor", cast("Any", function).apply(*inputs))


class _Quantise(torch.autograd.Function):
    """`straight_through`."""

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
    def forward(before: Tensor, x: Tensor, y: Tensor, gamma: Tensor, even: Tensor | None, bits: int | None) -> Tensor:
        if even is None or bits is None:
            return combine(before, x, y, gamma)
        return combine_quantised(even, x, y, gamma, bits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gamma,) = ctx.saved_tensors
        to_before, to_x, to_y = ctx.needs_input_grad[:3]
        return (
            grad * gamma if to_before else None,
            grad * (-2 * gamma) if to_x else None,
            grad * (1 + gamma) if to_y else None,
            None,
            None,
            None,
        )


class _Rejoin(torch.autograd.Function):
    """`rejoin`."""

    @staticmethod
    def forward(stream: Tensor, x: Tensor) -> Tensor:
        return stream.view_as(stream)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dtype = inputs[1].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad.to(ctx.dtype)
