"""The search for the largest value that fits: how many probes it takes, and what it then knows."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bench.frontier_search import GROWTH, MOST_PROBES, Reading, Search

Memory = Callable[[int], int]
ENDLESS = 2**31 - 1


def probed(
    memory: Memory, limit: int, *, low: int = 1, step: int = 1, most: int = ENDLESS, blind: bool = False,
    level: Memory | None = None,
) -> tuple[Search, list[int]]:  # fmt: skip
    """A search over that function and what it probed, in order; `blind` to the bytes of what does not fit."""
    search, values = Search(limit, low=low, step=step, most=most), []
    while (value := search.next()) is not None:
        values.append(value)
        taken = memory(value)
        seen = taken <= limit or not blind
        levels = level(value) if seen and level is not None else None
        search.tell(value, Reading(taken <= limit, taken if seen else None, levels))
    return search, values


def shown(search: Search, memory: Memory, limit: int, step: int = 1) -> bool:
    """Whether it ended with a value that fits beside one that does not, one step on."""
    largest, beyond = search.largest, search.beyond
    if largest is None or beyond is None:
        return False
    return memory(largest) <= limit < memory(beyond) and beyond == largest + step


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("true", [1, 2, 3, 4, 5, 16, 31, 32, 33, 100, 511, 4000])
def test_a_line_takes_few_probes(true: int, blind: bool) -> None:
    """Where memory is a line, seven probes find the largest value, whether or not a failed one tells its bytes."""

    def memory(value: int) -> int:
        return 10_000_000 + 123_457 * value

    search, values = probed(memory, memory(true) + 1000, blind=blind)
    assert (search.largest, search.beyond) == (true, true + 1)
    assert len(values) == len(set(values)) == search.used <= 7


SHAPES: dict[str, tuple[Memory, Memory | None]] = {
    "rounded to pages": (lambda value: 5_000_000 + -(-70_001 * value // 2**16) * 2**16, None),
    "bent upwards": (lambda value: 3_000_000 + 50_000 * value + 900 * value**2, None),
    "square": (lambda value: 3_000_000 + 900 * value**2, None),
    "bent downwards": (lambda value: 3_000_000 + int(50_000 * (value + 20 * value**0.5)), None),
    "the optimiser first": (
        lambda value: max(40_000_000, 12_000_000 + 500_000 * value), lambda value: 30_000_000 + 500_000 * value
    ),
}  # fmt: skip


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("true", [60, 77, 200, 611])
@pytest.mark.parametrize("shape", SHAPES)
def test_other_shapes_stay_within_the_probes(shape: str, true: int, blind: bool) -> None:
    """Steps, curves and a plateau end within twelve probes as well, with both sides of the limit measured."""
    memory, level = SHAPES[shape]
    limit = memory(true)
    search, values = probed(memory, limit, blind=blind, level=level)
    assert shown(search, memory, limit)
    assert len(values) <= MOST_PROBES


def test_noise_is_never_believed() -> None:
    """Where memory varies by a hundredth from value to value, a search that closes has measured both sides, and one
    that does not claims no more than its bracket."""
    chance = random.Random(1)
    closed = 0
    for _ in range(300):
        noise: dict[int, float] = {}
        base, slope, true = chance.randint(10**6, 10**9), chance.randint(10**4, 10**7), chance.randint(1, 400)

        def memory(value: int, noise: dict[int, float] = noise, base: int = base, slope: int = slope) -> int:
            return int((base + slope * value) * noise.setdefault(value, 1 + chance.uniform(-0.01, 0.01)))

        limit = base + slope * true
        search, values = probed(memory, limit, blind=chance.random() < 0.5)
        assert len(values) == len(set(values)) <= MOST_PROBES
        largest, beyond = search.largest, search.beyond
        assert largest is None or memory(largest) <= limit
        assert beyond is None or memory(beyond) > limit
        closed += search.closed
    assert closed > 290


def test_what_fits_again_above_is_not_taken_for_the_largest() -> None:
    """With a hole in what fits, the search ends at an edge that it has measured, and never with a larger value that
    was refused in between."""
    fits = {value: value <= 20 or 30 <= value <= 90 for value in range(1, 1000)}
    search = Search(100, low=1, most=999)
    while (value := search.next()) is not None:
        search.tell(value, Reading(fits[value], value if fits[value] else None))
    assert search.largest in (20, 90)
    assert search.beyond == (search.largest or 0) + 1


def test_nothing_fits_after_one_probe() -> None:
    """Where the smallest value does not fit, no other is tried."""
    search, values = probed(lambda value: 100 + value, 50, low=4, step=2)
    assert (values, search.largest, search.beyond, search.closed) == ([4], None, 4, True)


def test_the_largest_that_is_allowed_ends_it() -> None:
    """A search that reaches `most` ends there, with nothing beyond it."""
    search, values = probed(lambda value: value, 10**9, most=100)
    assert (search.largest, search.beyond, search.closed) == (100, None, True)
    assert max(values) == 100


def test_values_are_multiples_of_the_step() -> None:
    """With a step, only its multiples are probed, and the largest is known to one step."""
    search, values = probed(lambda value: 1000 * value, 1_000_000, low=64, step=64)
    assert all(value % 64 == 0 for value in values)
    assert (search.largest, search.beyond) == (960, 1024)


def test_no_probe_is_far_beyond_what_fits() -> None:
    """Each probe is at most eight times the largest that fits so far: a guess from small cases may be far off."""
    largest = 1
    for value in probed(lambda value: 10**9 + value, 2 * 10**9)[1]:
        assert value <= GROWTH * largest
        largest = max(largest, value)


def test_what_does_not_hold_is_taken_back() -> None:
    """A value that turns out not to fit after all bounds the search from above, which goes on below it."""
    search, _ = probed(lambda value: 1000 * value, 40_500)
    assert search.largest == 40
    search.tell(40, Reading(fits=False))
    while (value := search.next()) is not None:
        search.tell(value, Reading(value < 38))
    assert (search.largest, search.beyond, search.closed) == (37, 38, True)


def test_a_memory_that_does_not_follow_is_noticed() -> None:
    """Three values that take the same bytes throughout end the search: what is varied has no say."""
    search, values = probed(lambda value: 1000, 5000, level=lambda value: 700)
    assert (search.flat, search.closed, len(values)) == (True, False, 3)


@pytest.mark.parametrize("given", [{"low": 0}, {"low": 3, "step": 2}, {"low": 8, "most": 4}])
def test_what_cannot_be_searched_is_refused(given: dict[str, int]) -> None:
    """The smallest value must be a multiple of the step, and allowed."""
    with pytest.raises(ValueError, match="expected a multiple of step"):
        Search(100, **({"low": 1, "most": 10} | given))


def test_a_guess_is_kept_where_probes_run_short() -> None:
    """Memory of a bent line, as measured: a first guess eight times too far leaves just as many halvings as probes, and
    the line through both ends is believed all the same."""

    def memory(batch: int) -> int:
        return 5623582 + 202677 * (batch - 4) if batch < 16 else 8055700 + 266272 * (batch - 16)

    search = Search(32 * 2**20, low=4, most=10**6)
    while (value := search.next()) is not None:
        search.tell(value, Reading(memory(value) <= 32 * 2**20, memory(value), memory(value) + 1_265_000))
    assert (search.largest, search.beyond, search.closed) == (111, 112, True)
    assert search.used <= 8
