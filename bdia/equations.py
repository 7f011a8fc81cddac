"""The equations of the update rules, one a function, and as steps that autograd can go back through.

A residual block is seen only as y = block(x), never as h, so that any block serves as it is: h = y - x, and
(1-γ)x + (1+γ)h = (1+γ)y - 2γx, which at γ = 0 is y itself, bit for bit.

Shapes: x, y [B, …]; γ [B, 1, …], or with ones elsewhere where the samples lie along another dimension. B samples.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from bdia.quantize import quantize


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


def combine_quantised(first: Tensor, x: Tensor, y: Tensor, gamma: Tensor, bits: int) -> Tensor:
    """x₊ = Q_l[γ(x₋ + s·2^-l)] + Q_l[(1-γ)x + (1+γ)h] (eq. 21), given `first`, the first term.

    For |γ| = 2^-m that term needs no rounding (eq. 23): x₋ + s·2^-l is a multiple of 2^(m-l).
    """
    return quantize(mix(x, y, gamma), bits).add_(first)


def invert_quantised(after: Tensor, x: Tensor, y: Tensor, gamma: Tensor, shift: Tensor | None, bits: int) -> Tensor:
    """x₋ = (x₊ - Q_l[(1-γ)x + (1+γ)h]) / γ - s·2^-l (eq. 24), given `shift` = s·2^-l; None is 0."""
    multiple = torch.sub(after, quantize(mix(x, y, gamma), bits)).mul_(1 / gamma)
    return multiple if shift is None else multiple.sub_(shift)


def couple(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """b₊ = a + h(b), for y = b + h(b): one half of a two-stream coupling."""
    return a + (y - b)


def uncouple(after: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """a = b₊ - h(b)."""
    return after - (y - b)


def leap(before: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x₊ = x₋ + 2h(x)."""
    return torch.add(before, y - x, alpha=2)


def leap_back(after: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x₋ = x₊ - 2h(x)."""
    return torch.sub(after, y - x, alpha=2)


def leap_back_quantised(after: Tensor, x: Tensor, y: Tensor, bits: int) -> Tensor:
    """x₋ = x₊ - Q_l[2h(x)]."""
    return after - _impulse(x, y, bits)


def _impulse(x: Tensor, y: Tensor, bits: int) -> Tensor:
    """Q_l[2h(x)]; a new tensor. Forward and inverse must have the same bits."""
    return quantize(torch.sub(y, x).mul_(2.0), bits)


# As autograd sees them. Each function saves at most γ: nothing of the stream outlives the step.


def straight_through(y: Tensor, bits: int) -> Tensor:
    """Q_l[y], with the gradient passed on as though Q_l were the identity."""
    return _through(_Quantise, y, bits)


def rejoin(stream: Tensor, x: Tensor) -> Tensor:
    """The fp32 stream, with its gradient led through x, the narrower copy of it that a 16-bit model passes from block
    to block: hooks on x see it, rounded to x's dtype as every gradient of such a model is."""
    return _through(_Rejoin, stream.detach(), x)


def lead_back_through_mean(b: Tensor, a: Tensor, mean: Tensor) -> Tensor:
    """b, with its gradient led through `mean`, which is (a + b) / 2 or a narrower copy of that: b = 2·mean - a."""
    return _through(_LeadBackThroughMean, b.detach(), a, mean)


def leap_quantised(before: Tensor, x: Tensor, y: Tensor, bits: int) -> Tensor:
    """x₊ = x₋ + Q_l[2h(x)], with the gradient passed straight through Q_l."""
    return _through(_Leap, before, x, y, bits)


def first_step(x: Tensor, y: Tensor, bits: int) -> Tensor:
    """`first_quantised`, with the gradient passed straight through Q_l."""
    return _through(_FirstStep, x, y, bits)


def step(before: Tensor, x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
    """`combine`."""
    return _through(_Combine, before, x, y, gamma, None, None)


def step_quantised(before: Tensor, first: Tensor, x: Tensor, y: Tensor, gamma: Tensor, bits: int) -> Tensor:
    """`combine_quantised`, with the gradient passed straight through Q_l, and to `before` as through γ·before."""
    return _through(_Combine, before, x, y, gamma, first, bits)


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
    def forward(before: Tensor, x: Tensor, y: Tensor, gamma: Tensor, first: Tensor | None, bits: int | None) -> Tensor:
        if first is None or bits is None:
            return combine(before, x, y, gamma)
        return combine_quantised(first, x, y, gamma, bits)

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


class _LeadBackThroughMean(torch.autograd.Function):
    """`lead_back_through_mean`. `mean` passes half of its gradient on to b, and half to a, which is taken back here."""

    @staticmethod
    def forward(b: Tensor, a: Tensor, mean: Tensor) -> Tensor:
        return b.view_as(b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dtype = inputs[2].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        to_mean = (2 * grad).to(ctx.dtype)
        _, needs_a, needs_mean = ctx.needs_input_grad
        # Of what `mean` is given, rounded to its dtype or not: so that what a is given back is what it got.
        return None, to_mean.to(grad.dtype) * -0.5 if needs_a else None, to_mean if needs_mean else None


class _Leap(torch.autograd.Function):
    """`leap_quantised`. With g = dL/dx₊: x₋ gets g, x gets -2g, y gets 2g."""

    @staticmethod
    def forward(before: Tensor, x: Tensor, y: Tensor, bits: int) -> Tensor:
        return _impulse(x, y, bits).add_(before)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        to_before, to_x, to_y = ctx.needs_input_grad[:3]
        return (
            grad if to_before else None,
            grad * -2 if to_x else None,
            grad * 2 if to_y else None,
            None,
        )
