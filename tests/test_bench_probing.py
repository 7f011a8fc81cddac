"""Memory by small steps that are run, drawn out along straight lines: what is measured, at which sizes, and of what."""

from __future__ import annotations

from typing import Any

import pytest
from test_bench_fakes import SIZES, measured, plan_of

from bench import probing
from bench.case import Plan
from bench.fakes import figures

FIELDS = (*SIZES, "parameters", "samples", "tokens", "blocks", "stream_elements", "stream_dtype")


def sizes_asked(plan: Plan) -> tuple[list[tuple[int | None, int | None]], str]:
    asked: list[tuple[int | None, int | None]] = []

    def measure(small: Plan) -> dict[str, Any]:
        asked.append((small.case.depth, small.case.batch))
        return dict.fromkeys(FIELDS, 0)

    _, how = probing.probe(plan, measure)
    return asked, how


def test_two_depths_and_two_batches_give_the_rest() -> None:
    """A case between the probes' lines is that of a run, but where another moment is the highest."""
    plan = plan_of("bdia", depth=9, batch=5, seq=16)
    fields, how = probing.probe(plan)
    counted = figures.count(plan)
    assert how == "by steps measured at depth 4 and 6, batch 1 and 2"
    for name in ("static_bytes", "side_bytes", "parameters", "samples", "tokens", "blocks", "stream_elements"):
        assert fields[name] == counted[name], name
    assert fields["stream_dtype"] == counted["stream_dtype"] == "float32"


def test_parts_of_a_batch_are_the_stream_of_one() -> None:
    """With `accumulate` a forward is of a part, and so is the stream."""
    fields, _ = probing.probe(plan_of("standard", accumulate=2, batch=8))
    assert fields["stream_elements"] == 4 * 17 * 36


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({"depth": 30, "batch": 9}, [(4, 1), (4, 2), (6, 1), (6, 2)]),
        ({"depth": 30, "batch": 9, "keep": 3}, [(6, 1), (6, 2), (8, 1), (8, 2)]),
        ({"depth": 30, "batch": 9, "micro_batches": 3}, [(4, 3), (4, 6), (6, 3), (6, 6)]),
        ({"model": "resnet", "depth": 30, "batch": 9}, [(6, 1), (6, 2), (12, 1), (12, 2)]),
        ({"model": "resnet", "depth": 12, "batch": 2}, [(12, 2)]),
        ({"model": "hf:./mine", "depth": 30, "batch": 9}, [(30, 1), (30, 2)]),
        ({"depth": 5, "batch": 2}, [(5, 2)]),
    ],
)
def test_probes_are_small_and_possible(axes: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    """As many samples as parts are cut into, as many blocks as are kept, stages of an even number each; a checkpoint
    has the depth it has, and what is small anyway is measured itself."""
    asked, _ = sizes_asked(plan_of("bdia", **axes))
    assert asked == expected


def test_what_is_measured_is_a_run() -> None:
    """A case as small as its probes is measured, and nothing is drawn out."""
    plan = plan_of("checkpoint", depth=4, batch=2)
    fields, _ = probing.probe(plan)
    real = measured(plan)
    for name in SIZES:
        assert fields[name] == real[name], name


def test_a_peak_is_no_less_than_what_it_is_on_top_of() -> None:
    """Where another moment is the highest of small steps, its line is too low: what a step begins with and holds of
    activations is reached at the least."""
    plan = plan_of("standard", depth=30, batch=9)

    def measure(small: Plan) -> dict[str, Any]:
        depth, batch = small.case.depth or 0, small.case.batch or 0
        activation = 10 * depth * batch
        bare = 100 * depth
        return dict.fromkeys(FIELDS, 0) | {
            "activation_bytes": activation, "bare_bytes": bare, "peak_bytes": max(150 * depth, bare + activation),
        }  # fmt: skip

    fields, _ = probing.probe(plan, measure)
    assert fields["activation_bytes"] == 2700
    assert fields["peak_bytes"] == 3000 + 2700 > 150 * 30
    assert "bare_bytes" not in fields
