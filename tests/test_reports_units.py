"""The only formatting of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import units

FORMATTERS = (
    units.size, units.seconds, units.rate, units.ratio, units.error, units.bits, units.slope, units.integer,
    units.yes_no, units.ByteScale("MiB", 1).number,
)  # fmt: skip


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_what_was_not_measured_is_a_dash(formatter: object) -> None:
    """None is an em dash in every format, never 0."""
    assert callable(formatter)
    assert formatter(None) == "—"


@pytest.mark.parametrize(
    ("formatted", "expected"),
    [
        (units.size(0), "0 B"), (units.size(1023), "1023 B"), (units.size(1024), "1.0 KiB"),
        (units.size(2**20), "1.0 MiB"), (units.size(2**20 - 1), "1.0 MiB"), (units.size(12_897_485), "12.3 MiB"),
        (units.size(3 * 2**30), "3.0 GiB"),
        (units.seconds(0.0), "0 s"), (units.seconds(0.00042), "420 µs"),
        (units.seconds(0.0413), "41.3 ms"), (units.seconds(0.9999), "1.00 s"),
        (units.seconds(2.314), "2.31 s"), (units.seconds(41.26), "41.3 s"), (units.seconds(185), "3 min 05 s"),
        (units.seconds(59.999), "1 min 00 s"), (units.seconds(7440), "2 h 04 min"),
        (units.rate(2778.4), "2,778"), (units.rate(12345.4), "12.3k"), (units.rate(9999.9), "10.0k"),
        (units.rate(999_700), "1.00M"), (units.rate(123_456), "123k"),
        (units.rate(41.23), "41.2"), (units.rate(0.0512), "0.0512"),
        (units.ratio(0.0397), "0.040×"), (units.ratio(0.78), "0.78×"), (units.ratio(25.21), "25.2×"),
        (units.ratio(0.00012), "1.2e-4×"), (units.ratio(132.4), "132×"),
        (units.error(0.0), "0 (exact)"), (units.error(2.1e-3), "2.1e-3"), (units.error(1e-12), "1.0e-12"),
        (units.error(3.6), "3.6"), (units.error(2.04e8), "2.0e8"), (units.error(float("inf")), "not finite"),
        (units.error_range(0.0, 2e-3), "0–2.0e-3"),
        (units.bits(1.031), "1.03"), (units.bits(32.06), "32.1"), (units.bits(511.7), "512"),
        (units.bits(-0.0004), "0.00"),
        (units.integer(1024), "1024"), (units.integer(50304), "50,304"),
        (units.yes_no(True), "yes"), (units.yes_no(False), "no"),
        (units.change(100, 100), "="), (units.change(10**9, 10**9 + 1), "+<0.01%"),
        (units.change(10**9, 10**9 - 1), "-<0.01%"), (units.change(200, 201), "+0.50%"), (units.change(0, 5), "+∞%"),
        (units.change(None, 5), "—"), (units.tick(0.5), "0.5"), (units.tick(2000.0), "2,000"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_documented(formatted: str, expected: str) -> None:
    """Each kind of number has one way of being written."""
    assert formatted == expected


@given(st.floats(min_value=5e-324, max_value=1e300))
def test_only_zero_is_called_exact(error: float) -> None:
    """An error above 0, however small, is never shown as 0."""
    assert "exact" not in units.error(error)
    assert units.error(error) not in ("0", "0.0")


@given(st.integers(min_value=1, max_value=2**45))
def test_a_size_is_read_back_within_its_rounding(value: int) -> None:
    """A size with its unit means the same number of bytes, to the decimal that is shown."""
    number, unit = units.size(value).split()
    factor = dict(units.BYTE_UNITS)[unit]
    assert abs(float(number) * factor - value) <= 0.0501 * factor


def test_a_column_of_bytes_shares_one_unit() -> None:
    """The unit of a column follows its smallest size, unless that would make the largest unreadable."""
    scale = units.ByteScale.of([12 * 2**20, 1550 * 2**20, None])
    assert (scale.unit, scale.number(12 * 2**20), scale.number(None), scale.number(0)) == ("MiB", "12.0", "—", "0")
    assert units.ByteScale.of([900 * 2**10, 1550 * 2**20]).unit == "MiB"
    assert units.ByteScale.of([64, 900]) == units.ByteScale("B", 0)
    assert units.ByteScale.of([None]).number(None) == "—"
    assert units.ByteScale.of([0, None, 0]) == units.ByteScale("B", 0)


@pytest.mark.parametrize(
    ("sums", "terms", "unit", "decimals"),
    [
        ([100 * 2**20, None], [40 * 2**10, 100 * 2**20], "MiB", 3),
        ([100 * 2**20], [200 * 2**10], "MiB", 2),
        # A speck has no say, nor has one below 0; neither do whole bytes get decimals.
        ([100 * 2**20], [512, -512, 0, 30 * 2**20], "MiB", 2),
        ([900], [64], "B", 0),
        ([], [], "B", 0),
    ],
)
def test_parts_share_the_unit_of_their_sums(sums: list[int | None], terms: list[int], unit: str, decimals: int) -> None:
    """The unit is that of the sums, with as many decimals as their smaller parts need."""
    assert units.ByteScale.of_sums(sums, terms) == units.ByteScale(unit, decimals)


@given(st.integers(min_value=-(2**45), max_value=2**45), st.sampled_from(["B", "KiB", "MiB", "GiB"]))
def test_no_size_but_zero_is_shown_as_zero(value: int, unit: str) -> None:
    """What would round to nothing is less than the last digit, and said to be."""
    text = units.ByteScale(unit, 0 if unit == "B" else 2).number(value)
    assert (text == "0") == (value == 0)
    assert text.lstrip("-") not in ("0.00", "0.0")


def test_many_values_are_told_by_their_ends() -> None:
    """A few are listed, many are their ends and how many they are."""
    assert units.values([6, 12, 24]) == "6, 12, 24"
    assert units.values([50_304]) == "50,304"
    assert units.values([2, 4, 8, 16, 32]) == "2–32 (5)"
