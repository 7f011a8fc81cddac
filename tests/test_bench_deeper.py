"""Steps of any depth from three small ones: the peak is to the byte what counting at that depth gives."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from test_bench_fakes import plan_of

from bench import models
from bench.case import Plan
from bench.fakes.deeper import Deeper, Moment, deeper
from bench.fakes.figures import count
from bench.peers import PEERS, Peer

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


@pytest.mark.parametrize(("turn", "first"), [(5, 6), (9, 12)])
def test_lines_that_hold_from_further_on_are_found_there(
    monkeypatch: pytest.MonkeyPatch, turn: int, first: int
) -> None:
    """Where a moment is the highest of two, and the second of them is that from `turn` on, its line is the second's."""
    from bench.fakes import deeper as module

    def heights(plan: Plan, depth: int) -> dict[Moment, int]:
        return {Moment(0, 0, "last", 0, inside=False): max(100 + depth, 100 + turn + 3 * (depth - turn))}

    monkeypatch.setattr(module, "_heights", heights)
    found = deeper(plan_of("bdia"))
    assert found is not None
    assert found.first == first
    assert found.peak(1000) == 100 + turn + 3 * (1000 - turn)


@pytest.mark.parametrize("peer", [peer for peer in PEERS if not peer.switch], ids=lambda peer: peer.name)
def test_peers_of_any_depth_are_told_to_the_byte(peer: Peer) -> None:
    """An even depth, as two functions make one step of some."""
    if not peer.library.installed:
        pytest.skip(peer.missing)
    found = deeper(plan_of(peer.name, depth=4))
    assert found is not None
    assert found.peak(22) == counted_at(peer.name, {}, 22)


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
