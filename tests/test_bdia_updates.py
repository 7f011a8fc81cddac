"""Each update rule against independent arithmetic, and each inverse against its forward."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from bdia.distributions import Normal, PlusMinus, Uniform
from bdia.equations import (
    combine,
    combine_quantised,
    first_quantised,
    invert,
    invert_quantised,
    mix,
    straight_through,
)
from bdia.errors import MethodError
from bdia.quantize import quantize, shift_of, to_multiple
from bdia.sidebits import pack
from bdia.updates import Bdia, Euler, QuantisedBdia, QuantisedEuler

SHAPE = (4, 3, 5)


def stream(seed: int, scale: float = 8.0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * scale


def signs(seed: int = 0) -> Tensor:
    return torch.tensor([0.5, -0.5, -0.5, 0.5]).view(4, 1, 1)


def round_half_even(value: Fraction) -> int:
    return round(value)


@pytest.mark.parametrize("seed", range(3))
def test_the_float_update_is_equation_10(seed: int) -> None:
    """x₊ = γx₋ + (1-γ)x + (1+γ)h, against float64, to fp32 rounding."""
    before, x, h, gamma = stream(seed), stream(seed + 10), stream(seed + 20), signs()
    expected = gamma * before.double() + (1 - gamma) * x.double() + (1 + gamma) * h.double()
    assert torch.allclose(combine(before, x, x + h, gamma).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_float_inverse_is_equation_16(seed: int) -> None:
    """Eq. 16 gives x₋ back up to rounding, and not always exactly."""
    before, x, y, gamma = stream(seed), stream(seed + 10), stream(seed + 20), signs()
    rebuilt = invert(combine(before, x, y, gamma), x, y, gamma)
    assert torch.allclose(rebuilt, before, rtol=0, atol=1e-4)
    assert not torch.equal(rebuilt, before)


def test_gamma_zero_is_the_plain_transformer() -> None:
    """At γ = 0 the mix is y itself, bit for bit."""
    x, y = stream(1), stream(2)
    assert torch.equal(mix(x, y, torch.zeros(4, 1, 1)), y)


@pytest.mark.parametrize("bits", [1, 6, 9, 14])
@pytest.mark.parametrize("seed", range(3))
def test_the_quantised_update_is_equation_21_in_rationals(bits: int, seed: int) -> None:
    """Every element agrees with eq. 20 and 21 computed in exact fractions from the rounded mix."""
    before, x = quantize(stream(seed), bits), quantize(stream(seed + 10), bits)
    y, gamma = stream(seed + 20), signs()
    even, side = to_multiple(before, bits, 1)
    assert side is not None
    after = combine_quantised(even * gamma, x, y, gamma, bits)
    mixed = mix(x, y, gamma)
    unit = Fraction(1, 2**bits)
    for index in [(b, t, d) for b in range(4) for t in range(3) for d in range(5)]:
        x_minus, g = Fraction(before[index].item()), Fraction(gamma[index[0], 0, 0].item())
        s = int(x_minus / unit) % 2
        assert s == side[index].item()
        first = g * (x_minus + s * unit)
        assert first / unit == int(first / unit)  # (23): Q_l has nothing to round
        second = round_half_even(Fraction(mixed[index].item()) / unit) * unit
        assert Fraction(after[index].item()) == first + second


@pytest.mark.parametrize("bits", [1, 6, 9, 14])
@pytest.mark.parametrize("seed", range(5))
def test_the_quantised_inverse_is_exact(bits: int, seed: int) -> None:
    """Eq. 24 gives x₋ back with `torch.equal`."""
    before, x = quantize(stream(seed), bits), quantize(stream(seed + 10), bits)
    y, gamma = stream(seed + 20), signs()
    even, side = to_multiple(before, bits, 1)
    assert side is not None
    after = combine_quantised(even * gamma, x, y, gamma, bits)
    assert torch.equal(invert_quantised(after, x, y, gamma, shift_of(side, bits, 1), bits), before)


def test_one_wrong_side_bit_is_one_wrong_element() -> None:
    """The side bits carry information: flipping one shifts that element by one unit, and no other."""
    bits = 9
    before, x, y, gamma = quantize(stream(1), bits), quantize(stream(2), bits), stream(3), signs()
    even, side = to_multiple(before, bits, 1)
    assert side is not None
    after = combine_quantised(even * gamma, x, y, gamma, bits)
    flipped = side.clone()
    flipped[1, 2, 3] = ~flipped[1, 2, 3]
    difference = (invert_quantised(after, x, y, gamma, shift_of(flipped, bits, 1), bits) - before).abs()
    assert difference[1, 2, 3].item() == 2.0**-bits
    assert difference.count_nonzero().item() == 1


def test_the_first_step_is_equation_19() -> None:
    """x_1 = x_0 + Q_l[y - x_0]."""
    x, y = quantize(stream(1), 6), stream(2)
    assert torch.equal(first_quantised(x, y, 6), x + ((y - x) * 64).round() / 64)


@pytest.mark.parametrize("rule", [Bdia(), QuantisedBdia(bits=14)])
def test_gradients_of_a_step_are_those_of_autograd(rule: Bdia) -> None:
    """The hand-written backward agrees with autograd of eq. 10 written out, Q_l taken straight through."""
    gamma = signs()

    def through(ours: bool) -> list[Tensor]:
        before, x = (quantize(stream(seed), 14).requires_grad_() for seed in (1, 2))
        weight = torch.full((), 0.7, requires_grad=True)
        h = (x * weight).sin()
        after = rule.step((before, x), x + h, gamma)[0][1] if ours else None
        if after is None:
            after = gamma * before + (1 - gamma) * x + (1 + gamma) * h
        return list(torch.autograd.grad((after * stream(9)).sum(), (before, x, weight)))

    for ours, expected in zip(through(True), through(False), strict=True):
        assert torch.allclose(ours, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("m", [0, 1, 2, 3, 8])
def test_undo_takes_back_what_step_did(m: int) -> None:
    """A chain of steps with |γ| = 2^-m, undone one by one, comes back to x_0 bit for bit, with m side bits each."""
    rule, gamma = QuantisedBdia(9, PlusMinus(2.0**-m)), signs() * 2.0 ** (1 - m)

    def block(x: Tensor) -> Tensor:
        return x + (3 * x).sin()

    states, kept = [rule.start(stream(5))], []
    for _ in range(20 if m else 4):  # |γ| = 1 grows from step to step, and leaves the exact range
        state, side = rule.step(states[-1], block(rule.input(states[-1])), gamma)
        states.append(state)
        kept.append(side)
    state = states[-1]
    for k in range(len(kept) - 1, 0, -1):
        x, side = rule.input_back(state), kept[k]
        assert (side is None) == (m == 0)
        state = rule.undo(state, block(x), gamma, None if side is None else pack(side, m))
        assert all(torch.equal(rebuilt, made) for rebuilt, made in zip(state, states[k], strict=True))
    assert torch.equal(rule.input_back(state), quantize(stream(5), 9))
    assert kept[0] is None


@pytest.mark.parametrize("gamma", [PlusMinus(0.3), PlusMinus(0.0), Uniform(0.5), Normal(0.2)])
def test_other_distributions_have_no_inverse_and_round_both_terms(gamma: PlusMinus | Uniform | Normal) -> None:
    """Eq. 21 without side bits: each term is rounded, and the rule says that it cannot be reversed."""
    rule = QuantisedBdia(9, gamma)
    drawn = gamma.sample((4, 1, 1), torch.Generator().manual_seed(0))
    before, x, y = quantize(stream(1), 9), quantize(stream(2), 9), stream(3)
    (_, after), side = rule.step((before, x), y, drawn)
    assert (rule.reversible, rule.side_bits, side) == (False, 0, None)
    assert torch.equal(after, quantize(before * drawn, 9) + quantize(mix(x, y, drawn), 9))


def test_quantised_inference_is_equation_22() -> None:
    """x₊ = Q_l[y], from Q_l[x_0]."""
    rule = QuantisedEuler(bits=6)
    state = rule.start(stream(1))
    assert torch.equal(rule.output(state), quantize(stream(1), 6))
    assert torch.equal(rule.output(rule.step(state, stream(2), None)[0]), quantize(stream(2), 6))


def test_the_gradient_goes_straight_through_quantisation() -> None:
    """Q_l rounds the value and passes the gradient on."""
    x = stream(1).requires_grad_()
    y = straight_through(x, 6)
    assert torch.equal(y, quantize(x, 6))
    y.backward(stream(2))
    assert torch.equal(x.grad, stream(2))


def test_euler_has_no_inverse() -> None:
    """Undoing the plain transformer names what to use instead."""
    with pytest.raises(MethodError, match="'stored' or 'checkpoint'"):
        Euler().undo((stream(1),), stream(1), None, None)
    with pytest.raises(MethodError, match="'stored' or 'checkpoint'"):
        Euler().input_back((stream(1),))


@pytest.mark.parametrize("bits", [0, -1, 24, 9.5, True])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    """l outside 1…23 is an error that says so."""
    with pytest.raises(MethodError, match="l must be an int from 1 to 23"):
        QuantisedBdia(bits=bits)
