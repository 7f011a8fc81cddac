"""Steps of any depth from three small ones: the peak is to the byte what counting at that depth gives."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from test_bench_fakes import plan_of

from bench import models
from bench.fakes.deeper import Deeper, deeper
from bench.fakes.figures import count

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("standard", {}),
    ("standard", {"vocab": 3000, "seq": 33, "batch": 5}),
    ("checkpoint", {"vocab": 3000}),
    ("bdia-stored", {"model": "vit"}),
    ("two-stream", {}),
    ("momentum", {"accumulate": 2}),
    ("bdia", {}),
    ("bdia", {"vocab": 3000, "seq": 33, "batch": 5}),
    ("bdia", {"keep": 2, "micro_batches": 2}),
    ("bdia", {"loss_chunks": 3, "accumulate": 2}),
    ("bdia", {"model": "hf:gpt2", "width": 48, "seq": 12, "batch": 2, "vocab": 300}),
    ("bdia", {"model": "resnet", "width": 8}),
]


def counted_at(method: str, axes: dict[str, Any], depth: int) -> int:
    return int(count(plan_of(method, **axes, depth=depth))["peak_bytes"])


@pytest.mark.parametrize(("method", "axes"), SETTINGS)
def test_any_depth_is_told_to_the_byte(method: str, axes: dict[str, Any]) -> None:
    """Odd depths and even ones, above and between those that were counted; of stages, in each."""
    found = deeper(plan_of(method, **axes))
    assert found is not None
    stages = models.factor(axes.get("model", "gpt"), "depth")
    for depth in (found.first + stages, 15 * stages, 22 * stages)[: 2 if stages > 1 else 3]:
        assert found.peak(depth) == counted_at(method, axes, depth)


def test_another_moment_takes_over() -> None:
    """With a large vocabulary the head is the highest moment of few blocks, and the first block's backward of many: a
    straight line through the peaks of small depths would be too low."""
    axes = {"vocab": 3000, "seq": 33, "batch": 5}
    found = deeper(plan_of("bdia", **axes))
    assert found is not None
    low, high = found.first, found.first + 1
    slope = found.peak(high) - found.peak(low)
    deep = 400
    assert found.peak(deep) > found.peak(low) + slope * (deep - low)


def test_what_lies_on_no_line_is_left_to_counting() -> None:
    """A state every √N blocks makes steps of another kind at each depth."""
    assert deeper(plan_of("checkpoint-segments")) is None


def test_depths_that_were_not_counted_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps are counted, whatever is asked of them then."""
    from bench.fakes import deeper as module

    depths: list[int | None] = []
    real = module.counted
    monkeypatch.setattr(module, "counted", lambda plan: (depths.append(plan.case.depth), real(plan))[1])
    found = deeper(plan_of("bdia"))
    assert isinstance(found, Deeper)
    assert [found.peak(depth) for depth in (100, 10_000)][1] > 90 * found.peak(100)
    assert depths == [6, 8, 10]


def test_a_plan_is_left_as_it_was() -> None:
    """Depths are tried on copies."""
    plan = plan_of("bdia")
    before = msgspec.json.encode(plan)
    deeper(plan)
    assert msgspec.json.encode(plan) == before
