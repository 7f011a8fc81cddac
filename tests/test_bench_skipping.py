"""What need not be tried after an OOM: what is larger in some size, smaller in none, and otherwise the same."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic_records import case, failed

from bench import skipping
from bench.case import MEASUREMENTS, Measurement, Plan


def plan(*measure: Measurement, **axes: Any) -> Plan:
    return Plan(case("bdia", **axes), frozenset(measure or MEASUREMENTS))


@pytest.mark.parametrize(
    ("axes", "sizes"),
    [
        ({"depth": 24}, ("depth",)),
        ({"depth": 24, "batch": 16}, ("depth", "batch")),
        ({"depth": 24, "seed": 3}, ("depth",)),
        ({"width": 512, "heads": 16}, ("width", "heads")),
        ({"width": 512, "heads": 4}, ()),
        ({"depth": 24, "batch": 4}, ()),
        ({"depth": 24, "bits": 6}, ()),
        ({"depth": 24, "gamma": "0.25"}, ()),
        ({"depth": 24, "dtype": "bf16"}, ()),
        ({"depth": 24, "train_steps": 5}, ()),
        ({"depth": 24, "data": "text.txt"}, ()),
        ({"depth": 24, "seq": None}, ()),
        ({"seed": 3}, ()),
        ({}, ()),
    ],
)
def test_larger_is_larger_in_some_size_and_else_the_same(axes: dict[str, Any], sizes: tuple[str, ...]) -> None:
    """A case is larger where a size is and none is smaller; other axes must agree, but for the seed."""
    assert skipping.larger(case("bdia", **axes), case("bdia")) == sizes


def test_a_method_is_skipped_for_its_own_oom_alone() -> None:
    """What another method needs says nothing of this one."""
    assert skipping.larger(case("bdia", depth=24), case("bdia-stored")) == ()


@pytest.mark.parametrize(
    ("left", "out"),
    [
        ({}, {"memory", "throughput", "reconstruction", "gradients"}),
        ({"step_seconds": [1.0]}, {"memory", "throughput", "reconstruction", "gradients"}),
        ({"activation_bytes": 1, "step_seconds": [1.0], "reconstruction": []}, {"gradients"}),
        ({"activation_bytes": 1, "reconstruction": []}, {"throughput", "gradients"}),
    ],
)
def test_what_left_no_reading_is_left_out(left: dict[str, Any], out: set[str]) -> None:
    """Of a larger case that is left out which left nothing of the smaller one; all, where its step did not fit."""
    small, large = plan(), plan(depth=24)
    found = skipping.left_out(large, [(small, failed(small.case, "oom", "no", **left))])
    assert found.measure == out
    assert found.than == "depth=12"
    assert (" left out: " in found.why(large)) == (len(out) < 4)
    assert found.why(large).endswith("; --no-skip measures it all the same")


def test_what_was_not_asked_of_the_smaller_is_tried() -> None:
    """A case that ran out over its reconstruction, of which alone it was asked, says nothing of a step's memory."""
    small, large = plan("reconstruction"), plan("memory", "reconstruction", depth=24)
    found = skipping.left_out(large, [(small, failed(small.case, "oom", "no"))])
    assert found.measure == {"reconstruction"}
    assert skipping.left_out(plan("memory", depth=24), [(small, failed(small.case, "oom", "no"))]) == skipping.NOTHING
