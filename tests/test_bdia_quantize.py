"""Q_l, parity and the exact range, against integer arithmetic."""

from __future__ import annotations

import math

import pytest
import torch

from bdia.quantize import exact_limit, headroom, is_exact, quantize, shift_of, to_multiple


@pytest.mark.parametrize("bits", [1, 6, 9, 14])
def test_quantize_rounds_to_the_nearest_multiple(bits: int) -> None:
    """Q_l agrees with rounding y·2^l in float64."""
    y = torch.randn(7, 13, generator=torch.Generator().manual_seed(bits)) * 30
    expected = (y.double() * 2**bits).round() / 2**bits
    assert torch.equal(quantize(y, bits).double(), expected)


def test_quantize_leaves_its_argument_alone() -> None:
    """Q_l returns a new tensor."""
    y = torch.tensor([0.3, -0.7])
    before = y.clone()
    assert quantize(y, 3).data_ptr() != y.data_ptr()
    assert torch.equal(y, before)


@pytest.mark.parametrize("bits", [1, 6, 9])
def test_parity_is_the_floored_modulus(bits: int) -> None:
    """Parity agrees with Python's own modulus of integers, negative ones included."""
    integers = [*range(-9, 10), 2**20 + 1, -(2**20) - 1]
    x = torch.tensor(integers, dtype=torch.float32) * 2.0**-bits
    even, odd = to_multiple(x, bits, 1)
    assert odd is not None
    assert odd.tolist() == [n % 2 == 1 for n in integers]
    assert (even * 2**bits).tolist() == [n + n % 2 for n in integers]


@pytest.mark.parametrize("m", range(1, 9))
def test_the_nearest_multiple_and_its_shift(m: int) -> None:
    """x + s·2^-l is the nearest multiple of 2^(m-l), halfway cases up, and s·2^-l comes back from m bits."""
    integers = [*range(-300, 301), 2**20 + 1, -(2**20) - 1]
    x = torch.tensor(integers, dtype=torch.float32) * 2.0**-6
    multiple, side = to_multiple(x, 6, m)
    assert side is not None
    nearest = [(2 * n + 2**m) // 2 ** (m + 1) * 2**m for n in integers]
    assert (multiple * 2**6).tolist() == nearest
    assert set(side.to(torch.uint8).tolist()) <= set(range(2**m))
    assert torch.equal(multiple - shift_of(side, 6, m), x)


@pytest.mark.parametrize("bits", [6, 9, 20])
def test_the_limit_is_where_fp32_stops_holding_multiples(bits: int) -> None:
    """At 2^(24-l) one more unit of 2^-l is lost, and just below it is not."""
    limit, unit = torch.tensor(exact_limit(bits)), 2.0**-bits
    assert (limit + unit) - limit == 0
    assert (limit - unit) + unit == limit
    assert limit - unit != limit


def test_headroom_names_the_tightest_step() -> None:
    """The block named is the step with the largest max|x₊| + ½·max|x₋|, and max|x| is over all states."""
    room = headroom([1.0, 2.0, 8.0, 7.9, 1.0], bits=9)  # steps: 2, 8+.5, 7.9+1, 1+4
    assert (room.block, room.max_abs, room.exact) == (2, 8.0, True)


@pytest.mark.parametrize("bits", range(1, 24))
def test_the_largest_bits_are_exact_and_one_more_is_not(bits: int) -> None:
    """`largest_bits` is the last l that passes the guard."""
    maxima = [1.5, 3.0, 1.4 * 2 ** (23 - bits)]
    room = headroom(maxima, bits)
    assert room.largest_bits is not None
    tightest = max(1.5, 3.0, maxima[2] + 0.75)
    assert is_exact(tightest, 0.0, room.largest_bits)
    assert room.largest_bits == 23 or not is_exact(tightest, 0.0, room.largest_bits + 1)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_stream_that_is_not_finite_has_no_headroom(bad: float) -> None:
    """Infinity and NaN leave no l at all, wherever they appear."""
    for place in range(3):
        maxima = [1.0, 1.0, 1.0]
        maxima[place] = bad
        room = headroom(maxima, bits=6)
        assert room.largest_bits is None
        assert not room.exact
