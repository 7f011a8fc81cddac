"""Tolerances: each metric's unit, how far is still the same, suites and the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import tolerance
from bench.errors import UsageError
from bench.tolerance import METRICS, Metric, Tolerances


@pytest.mark.parametrize("text", ["", "lots", "-1", "5%%", "64KB", "1 parsec", "%", "1e3", "10x", "٣"])
def test_a_tolerance_of_bytes_that_means_nothing_is_refused(text: str) -> None:
    """A tolerance that cannot be read is an error in one line that repeats it and shows one that can."""
    with pytest.raises(UsageError, match="expected a share such as") as caught:
        Tolerances().overlaid([text])
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "text", "expected"),
    [
        ("activation_bytes", "10x", "a share such as 0.5%, or bytes such as 64KiB"),
        ("side_bytes", "0.5", None),
        ("bits_per_activation", "2%", "a number of bits an activation"),
        ("bits_per_activation", "64KiB", "a number of bits an activation"),
        ("gradient_error", "5%", "a factor of 1 or more such as 10x"),
        ("gradient_error", "0.5x", "a factor of 1 or more such as 10x"),
        ("gradient_error", "10", "a factor of 1 or more such as 10x"),
        ("rounding_error", "2x", "a number of units of 2^-l"),
        ("rate_ratio", "0.2", "a share such as 20%"),
        ("bit_exact", "1", "there is no tolerance"),
    ],
)
def test_a_value_of_another_unit_is_refused(metric: Metric, text: str, expected: str | None) -> None:
    """A tolerance in another metric's unit is one line with what this one takes."""
    if expected is None:
        assert tolerance.parse(metric, text).absolute == 0
        return
    with pytest.raises(UsageError, match=r"expected|there is no") as caught:
        tolerance.parse(metric, text)
    assert expected in str(caught.value)
    assert metric in str(caught.value)


def test_an_unknown_metric_names_the_likeliest() -> None:
    """A metric that is none is one line with the name that was meant."""
    with pytest.raises(UsageError, match="unknown metric 'peak_byte': did you mean 'peak_bytes'"):
        Tolerances().overlaid(["peak_byte=1KiB"])
    with pytest.raises(
        UsageError, match=r"mine.toml: \[tolerance\]: unknown metric 'rate_rat': did you mean 'rate_ratio'"
    ):
        tolerance.texts({"rate_rat": "5%"}, "mine.toml: [tolerance]")


def test_what_is_not_given_is_exact_or_noise() -> None:
    """Without a word, bytes are exact, an exact 0 is 0, and a rounding may differ as processors do."""
    none = Tolerances()
    assert not any(none.of(metric).allows(100, 101) for metric in tolerance.BYTES)
    assert none.of("gradient_error").allows(0.0, 0.0)
    assert not none.of("gradient_error").allows(0.0, 1e-300)
    assert none.of("gradient_error").allows(1e-4, 1e-3)
    assert not none.of("gradient_error").allows(1e-4, 1.01e-3)
    assert not none.of("gradient_error").allows(1.01e-3, 1e-4)
    assert none.of("rounding_error").allows(0.5, 0.5004)
    assert none.of("bits_per_activation").allows(1.0, 1.04)
    assert not none.of("bits_per_activation").allows(1.0, 1.06)
    assert none.of("rate_ratio").allows(1.0, 0.81)
    assert not none.of("rate_ratio").allows(1.0, 0.79)


def test_the_command_line_lies_over_the_suite() -> None:
    """A bare value is of all bytes and of nothing else; one with a metric is of that one; the last word counts."""
    suite = tolerance.of_table({"peak_bytes": "1KiB", "gradient_error": "2x"})
    assert suite.of("peak_bytes").allows(0, 1024)
    assert not suite.of("activation_bytes").allows(0, 1)
    over = suite.overlaid(["10B", "peak_bytes=0"])
    assert over.of("activation_bytes").allows(0, 10)
    assert not over.of("peak_bytes").allows(0, 1)
    assert over.of("bits_per_activation") == Tolerances().of("bits_per_activation")
    assert not over.of("gradient_error").allows(1.0, 2.1)
    assert not suite.overlaid(["peak_bytes=5KiB", "0"]).of("peak_bytes").allows(0, 1)
    assert suite.of("peak_bytes").allows(0, 1024)


def test_a_table_is_text_in_the_order_of_the_metrics() -> None:
    """A suite's numbers become text, and a value that is none is refused with its place."""
    table = {"rounding_error": 0.25, "activation_bytes": 64, "peak_bytes": "1%"}
    assert tolerance.texts(table, "x") == {"activation_bytes": "64", "peak_bytes": "1%", "rounding_error": "0.25"}
    for wrong in (True, [], {}, -1, 1e300, "x"):
        with pytest.raises(UsageError, match=r"^mine.toml: peak_bytes .*: expected a share") as caught:
            tolerance.texts({"peak_bytes": wrong}, "mine.toml")
        assert "\n" not in str(caught.value)


@given(old=st.floats(1e-12, 1e12), new=st.floats(1e-12, 1e12), factor=st.integers(1, 100))
def test_a_factor_allows_both_ways_alike(old: float, new: float, factor: int) -> None:
    """What is within a factor one way is so the other way, and anything is within a factor of itself."""
    allowed = tolerance.parse("gradient_error", f"{factor}x")
    assert allowed.allows(old, new) == allowed.allows(new, old)
    assert allowed.allows(old, old)


def test_every_metric_has_a_tolerance_or_says_why_not() -> None:
    """Each metric takes a value of its unit, but for bits, which are exact or not."""
    values = {"bits_per_activation": "0.02", "gradient_error": "10x", "rounding_error": "0.1", "rate_ratio": "20%"}
    for metric in METRICS:
        if metric != "bit_exact":
            assert tolerance.parse(metric, values.get(metric, "64KiB")).allows(1, 1)
