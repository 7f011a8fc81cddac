"""The largest size within a limit: found exactly, in few predictions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import fit


def counted(peak: Callable[[int], int]) -> tuple[Callable[[int], int], list[int]]:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        return peak(number)

    return ask, asked


@pytest.mark.parametrize("limit", [1099, 1100, 1101, 5000, 5099])
def test_on_a_line_it_takes_four_predictions(limit: int) -> None:
    """The largest n with 1000 + 100 n within the limit, checked at n and n + 1."""
    ask, asked = counted(lambda n: 1000 + 100 * n)
    found = fit.search(ask, limit, axis="depth")
    expected = (limit - 1000) // 100 or None
    assert found.size == expected
    assert len(asked) <= 4
    if expected is not None:
        assert found.peak_bytes == 1000 + 100 * expected
        assert expected + 1 in asked


def test_a_line_that_bends_is_followed() -> None:
    """Where another moment becomes the highest, or blocks are kept in segments, n fits all the same and n + 1 does
    not."""
    bends: list[Callable[[int], int]] = [
        lambda n: max(5000 + 3 * n, 100 * n),
        lambda n: int(1000 * n**0.5) + n,
        lambda n: n * n,
    ]
    for peak in bends:
        ask, _ = counted(peak)
        found = fit.search(ask, 8_000, axis="depth")
        assert found.size is not None
        assert peak(found.size) <= 8_000 < peak(found.size + 1)


def test_twice_as_much_as_is_counted_is_a_size_like_any() -> None:
    """And not taken for none."""
    assert fit.search(lambda n: 100 + 10 * n, 2660, axis="depth").size == 256


@pytest.mark.parametrize("limit", [800, 1300, 1301, 2000, 40_000])
def test_a_step_is_kept_to(limit: int) -> None:
    """Of a model of three stages depth is a multiple of 3: the last one that fits, and no other is asked about."""
    ask, asked = counted(lambda n: max(1000 + 100 * n, 5 * n * n))
    found = fit.search(ask, limit, axis="depth", least=3, step=3)
    fitting = [n for n in range(3, 129, 3) if max(1000 + 100 * n, 5 * n * n) <= limit]
    assert found.size == (fitting[-1] if fitting else None)
    assert all(n % 3 == 0 for n in asked)


def test_a_step_ends_where_counting_does() -> None:
    """What is believed of depths beyond is a multiple as well."""
    ask, asked = counted(lambda n: 10 * n)
    found = fit.search(ask, 1_000_005, axis="depth", least=3, step=3)
    assert (found.size, max(asked)) == (99_999, 126)


def test_too_little_even_for_the_smallest_is_said() -> None:
    """What the smallest needs is told as well."""
    found = fit.search(lambda n: 100 * n, 150, axis="depth", least=2)
    assert (found.size, found.peak_bytes) == (None, 200)
    assert found.note == "depth 2, the smallest, needs more than the limit"


def test_what_does_not_grow_has_no_largest() -> None:
    """A model that does not heed an axis is not said to fit any size of it."""
    found = fit.search(lambda n: 100, 150, axis="batch")
    assert found.size is None
    assert "does not grow with batch" in (found.note or "")


def test_beyond_what_is_counted_the_line_is_believed() -> None:
    """No more blocks are counted than can be in a reasonable time, and it is said what the answer rests on."""
    ask, asked = counted(lambda n: 10 * n)
    found = fit.search(ask, 1_000_005, axis="depth")
    assert found.size == 100_000
    assert max(asked) == fit.MOST["depth"]
    assert "line through what was counted up to depth 128" in (found.note or "")


@given(
    steps=st.lists(st.integers(0, 50), min_size=30, max_size=30), base=st.integers(1, 100), share=st.floats(0.0, 1.0),
)  # fmt: skip
def test_whatever_grows_is_searched_to_the_end(steps: list[int], base: int, share: float) -> None:
    """Of any levels that do not fall, such as those of batches cut into parts, it finds the last one that fits, asking
    at most about twice as often as halving would."""
    levels = [base]
    for step in steps:
        levels.append(levels[-1] + step)
    last = levels[-1] + 1000
    ask, asked = counted(lambda n: levels[n - 1] if n <= len(levels) else last + n)
    limit = base + int(share * (levels[-1] - base))
    found = fit.search(ask, limit, axis="depth")
    expected = max(n for n, level in enumerate(levels, 1) if level <= limit)
    assert found.size == expected
    assert len(asked) <= 18
