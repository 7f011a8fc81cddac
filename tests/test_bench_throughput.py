"""Paired rounds, on a clock of the test's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.meters import throughput
from bench.meters.throughput import Member, MemberError, measure_rounds, paired_ratio, rate, rotated


class Bench:
    """One model on which members are attached: says what happened, and how long each member's step takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.attached: str | None = None
        self.log: list[str] = []
        monkeypatch.setattr(throughput, "perf_counter", lambda: self.now)

    @contextmanager
    def attach(self, name: str) -> Iterator[None]:
        assert self.attached is None
        self.now += 1000.0  # attaching is not timed
        self.attached = name
        try:
            yield
        finally:
            self.attached = None

    def member(self, name: str) -> Member:
        return Member(name, lambda: self.attach(name))

    def members(self) -> list[Member]:
        return [self.member(name) for name in self.seconds]

    def step(self) -> None:
        assert self.attached is not None
        self.log.append(self.attached)
        self.now += self.seconds[self.attached]

    def sync(self) -> None:
        self.log.append("sync")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch, {"a": 1.0, "b": 2.0, "c": 4.0})


def test_each_member_is_timed_once_a_round(bench: Bench) -> None:
    """As many times as rounds, of the step alone: neither warming up nor attaching counts."""
    seconds = measure_rounds(bench.members(), bench.step, rounds=4, warmup=2, sync=bench.sync)
    assert seconds == {"a": [1.0] * 4, "b": [2.0] * 4, "c": [4.0] * 4}
    assert [bench.log.count(name) for name in "abc"] == [6, 6, 6]
    assert bench.attached is None


def test_the_device_is_waited_for_at_both_ends(bench: Bench) -> None:
    """One step stands between two waits."""
    measure_rounds([bench.member("a")], bench.step, rounds=2, warmup=0, sync=bench.sync)
    assert bench.log == ["sync", "a", "sync"] * 2


def test_rounds_are_shared_and_their_order_rotates(bench: Bench) -> None:
    """Every round has each member once, and over three rounds each goes once at every place."""
    members = bench.members()
    measure_rounds(members, bench.step, rounds=3, warmup=0, sync=lambda: None)
    rounds = ["".join(bench.log[i : i + 3]) for i in (0, 3, 6)]
    assert rounds == ["abc", "bca", "cab"]
    assert rotated(members, 4) == rotated(members, 1)


def test_a_member_that_fails_is_named_with_its_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller learns whom to drop; the method is off the model, and a restart without it works."""

    def step() -> None:
        bench.step()
        if bench.attached == "b":
            raise MemoryError("no more")

    with pytest.raises(MemberError, match="b failed in round -1: MemoryError: no more") as caught:
        measure_rounds(bench.members(), step, rounds=1, warmup=1, sync=bench.sync)
    assert (caught.value.member, caught.value.round_index) == ("b", -1)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert bench.attached is None
    assert gc.isenabled()
    rest = [bench.member("a"), bench.member("c")]
    assert measure_rounds(rest, step, rounds=1, warmup=1, sync=bench.sync) == {"a": [1.0], "c": [4.0]}


def test_a_failed_step_is_not_kept_alive_by_its_traceback() -> None:
    """What the step held is gone once it failed, so that the next member does not pay for it."""
    gone: list[bool] = []

    class Tensor:
        def __del__(self) -> None:
            gone.append(True)

    def step() -> None:
        held = Tensor()
        raise RuntimeError(f"out of memory with {type(held).__name__}")

    @contextmanager
    def attach() -> Iterator[None]:
        yield

    with pytest.raises(MemberError):
        measure_rounds([Member("a", attach)], step, rounds=1, warmup=0, sync=lambda: None)
    assert gone == [True]


def test_an_interrupt_is_not_a_members_failure(bench: Bench) -> None:
    """Ctrl-C passes through, and the method is taken off."""

    def step() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_rounds(bench.members(), step, rounds=1, warmup=0, sync=bench.sync)
    assert bench.attached is None


@pytest.mark.parametrize(("names", "rounds", "warmup"), [("", 1, 0), ("aa", 1, 0), ("ab", 0, 0), ("ab", 1, -1)])
def test_rounds_that_make_no_sense_are_refused(bench: Bench, names: str, rounds: int, warmup: int) -> None:
    """No members, a name twice, no rounds, a negative warm-up."""
    members = [bench.member(name) for name in names]
    with pytest.raises(ValueError, match="expected at least"):
        measure_rounds(members, bench.step, rounds=rounds, warmup=warmup, sync=bench.sync)


def test_the_rate_is_of_the_median_step() -> None:
    """One slow step moves nothing."""
    assert rate([0.5, 0.5, 100.0], 8) == 16.0
    with pytest.raises(ValueError, match="no steps"):
        rate([], 8)


def test_ratios_are_taken_within_rounds() -> None:
    """What slows a whole round, or one member once, does not move the median of ratios."""
    assert paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0
    assert paired_ratio([3.0, 2.0, 90.0, 2.0, 2.0], [1.5, 1.0, 1.0, 1.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="2 and 1 rounds"):
        paired_ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="0 and 0 rounds"):
        paired_ratio([], [])
