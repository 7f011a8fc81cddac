"""What the records of a frontier come to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from synthetic_records import case, record

from bench import frontier
from bench.frontier import value_of
from bench.record import Record

LIMIT = 1000


def probe(method: str, batch: int, peak: int | None = None, over: str = "batch", **measured: Any) -> Record:
    """A probe that took so many bytes, or ran out of memory."""
    fields: dict[str, Any] = {"limit_bytes": LIMIT, "frontier_over": over, "frontier_step": 1, "peak_bytes": peak}
    return record(case(method, **{over: batch}), **(fields | {"status": "ok" if peak else "oom"} | measured))


def timed(samples: float, rounds: str, steps: list[float] | None = None) -> dict[str, Any]:
    return {"samples_per_second": samples, "tokens_per_second": 8 * samples, "rounds_id": rounds,
            "step_seconds": steps or [1.0, 1.0, 1.0]}  # fmt: skip


@pytest.mark.parametrize(
    ("probes", "value", "beyond", "ending"),
    [
        ([probe("bdia", 1, 300), probe("bdia", 3, 1000), probe("bdia", 4, 1001)], 3, 4, "found"),
        ([probe("bdia", 1, 300), probe("bdia", 3, 900), probe("bdia", 8)], 3, 8, "open"),
        ([probe("bdia", 1, 300), probe("bdia", 3, 900)], 3, None, "at least"),
        ([probe("bdia", 1)], None, 1, "none"),
        ([probe("bdia", 1, 300), probe("bdia", 2, status="error")], 1, 2, "stopped"),
        ([probe("bdia", 1, status="timeout")], None, 1, "stopped"),
        ([probe("bdia", 1, 300), probe("bdia", 5), probe("bdia", 9, 900)], 1, 5, "open"),
    ],
)
def test_the_largest_is_below_all_that_did_not_fit(
    probes: list[Record], value: int | None, beyond: int | None, ending: str
) -> None:
    """The largest value has a measured peak within the limit, and nothing below it was refused."""
    (one,) = frontier.largests(probes)
    assert (one.value, one.beyond, one.ending, one.probes) == (value, beyond, ending, len(probes))


def test_only_probes_count() -> None:
    """Records of an ordinary run, whose peaks were held to nothing, are no part of a frontier."""
    assert frontier.largests([record(case("bdia"), peak_bytes=10)]) == []


def test_rates_at_the_largest_and_at_an_equal_value() -> None:
    """Beside the rate at each own largest stands the one where all have as many samples, as a ratio of its rounds."""
    probes = [
        probe("standard", 2, 900, **timed(10.0, "together")),
        probe("standard", 3),
        probe("bdia", 2, 300, **timed(8.0, "together", [1.0, 2.0, 4.0])),
        probe("bdia", 9, 990, **timed(9.0, "alone")),
        probe("bdia", 10),
    ]
    standard, bdia = frontier.largests(probes)
    assert (standard.equal_value, standard.samples_per_second, standard.rate_ratio) == (2, 10.0, None)
    assert (bdia.value, bdia.rate_ratio, bdia.equal_value) == (9, 0.9, 2)
    assert (bdia.equal_samples_per_second, bdia.equal_rate_ratio) == (8.0, 0.5)


def test_methods_are_compared_within_their_setting() -> None:
    """Two depths are two settings: each has its own equal batch, and its own standard."""
    probes = [probe("standard", 2, 900), probe("bdia", 9, 900)]
    probes += [msgspec.structs.replace(one, depth=48, batch=value_of(one) - 1) for one in probes]
    assert [one.equal_value for one in frontier.largests(probes)] == [2, 2, 1, 1]


def test_what_is_removable_is_what_the_blocks_hold() -> None:
    """The share of standard's peak that lies in blocks, at the largest that fits; where none does, at the smallest."""
    small = {"parameters": 80, "block": {"0-1": 5}, "residual_states": {"0": 10}}
    large = {"parameters": 80, "block": {"0-1": 60}, "residual_states": {"0": 40}, "head_and_loss": 10}
    probes = [
        probe("standard", 1, 100, peak_parts=small), probe("standard", 4, 250, peak_parts=large),
        probe("standard", 5, 2000, peak_parts=small), probe("bdia", 5, 200, peak_parts=small),
    ]  # fmt: skip
    (share,) = frontier.removable(probes).values()
    assert share == 160 / 250
    (share,) = frontier.removable(probes[2:]).values()
    assert share == 20 / 100


def test_a_step_in_parts_is_a_rival_and_no_yardstick() -> None:
    """Beside `standard` with its batch in parts, the whole batch is what others are compared with, and what is
    removable is of its peak."""
    whole, small = {"parameters": 50, "block": {"0": 50}}, {"parameters": 90, "block": {"0": 10}}
    probes = [
        probe("standard", 8, 900, peak_parts=small, **timed(9.0, "in parts")),
        probe("standard", 2, 900, peak_parts=whole, **timed(10.0, "alone")),
        probe("bdia", 9, 990, **timed(8.0, "its own")),
    ]
    probes[0] = msgspec.structs.replace(probes[0], accumulate=4)
    parts, reference, bdia = frontier.largests(probes)
    assert frontier.references([parts, reference, bdia]) == {frontier.group(bdia): reference}
    assert (parts.rate_ratio, reference.rate_ratio, bdia.rate_ratio) == (0.9, None, 0.8)
    assert list(frontier.removable(probes).values()) == [0.5]
