"""The memory law: the line, its floor, and a fit that is none."""

from __future__ import annotations

from fractions import Fraction

import pytest
import synthetic_records as made

from bench import law
from bench.record import Record


def points(method: str, depths: tuple[int, ...] = (6, 12, 24), extra: int = 0, **axes: object) -> list[Record]:
    """Records of a method at several depths; `extra` bytes on top of the middle one."""
    found = []
    for depth in depths:
        case = made.case(method, depth=depth, **axes)
        size = made.activation_bytes(case) + (extra if depth == depths[len(depths) // 2] else 0)
        found.append(
            made.record(case, activation_bytes=size, stream_elements=made.elements(case), stream_dtype="float32")
        )
    return found


@pytest.mark.parametrize(
    ("method", "bits", "floor"),
    [("standard", 512.0, None), ("checkpoint", 32.0, 32), ("bdia-stored", 540.0, None), ("bdia-naive", 0.0, 0),
     ("bdia", 1.0, 1)],
)  # fmt: skip
def test_a_line_is_found_exactly(method: str, bits: float, floor: int | None) -> None:
    """Points on a line give its slope and intercept without rounding, beside the method's own floor."""
    (found,) = law.laws(points(method))
    assert found.bits_per_activation == bits
    assert found.deviation_bytes == 0
    assert found.linear is True
    assert found.floor_bits == floor
    case = made.case(method)
    assert found.intercept_bytes == made.activation_bytes(case) - 12 * Fraction(bits) * made.elements(case) / 8


def test_what_is_no_line_says_so() -> None:
    """A point off the line by more than a hundredth of what the blocks add makes no law; two points cannot tell."""
    assert [one.linear for one in law.laws(points("checkpoint", extra=8 * 2**20))] == [False]
    assert [one.linear for one in law.laws(points("checkpoint", extra=64))] == [True]
    assert [one.linear for one in law.laws(points("checkpoint", depths=(6, 12)))] == [None]


def test_only_depth_may_differ() -> None:
    """Cases that differ in another axis are another law; one depth alone is none."""
    found = law.laws([*points("bdia"), *points("bdia", seed=1), *points("bdia", depths=(6,), batch=4)])
    assert [one.series.seed for one in found] == [0, 1]
    assert all(one.series.depth is None for one in found)


def test_floors_follow_gamma_and_the_stream() -> None:
    """|γ| = 2^-m keeps m bits; a checkpoint keeps as many as its stream's dtype has. Where memory is highest in
    one of several stages, what the others kept may be gone."""
    assert law.floor_bits(made.case("bdia", gamma="0.25"), "float32") == 2
    assert law.floor_bits(made.case("checkpoint"), "bfloat16") == 16
    assert law.floor_bits(made.case("mine.py:METHOD"), "float32") is None
    assert law.floor_bits(made.case("bdia", model="resnet"), "float32") is None
    assert law.floor_bits(made.case("checkpoint", model="resnet"), "float32") is None
    assert law.floor_bits(made.case("bdia-naive", model="resnet"), "float32") == 0
