"""The time left: a line through what was measured."""

from __future__ import annotations

import pytest
from synthetic_records import case

from bench.case import Plan
from bench.estimate import Pace, step_work, work
from bench.protocol import Job, Kind


def job(kind: Kind, *depths: int, train_steps: int = 0) -> Job:
    members = tuple(
        Plan(case=case(depth=depth, train_steps=train_steps), measure=frozenset(("memory",))) for depth in depths
    )
    return Job(kind=kind, members=members, rounds=5, warmup=1, threads=2, events=-1)


def paced(*jobs: tuple[float, float]) -> Pace:
    pace = Pace()
    for work_, seconds in jobs:
        pace.add(work_, seconds)
    return pace


def test_nothing_is_told_before_it_can_be_believed() -> None:
    """There is no estimate after fewer than three jobs, nor of one that is over five times as large as any so far."""
    assert [paced(*[(10.0, 4.0)] * count).seconds(10.0) for count in range(4)] == [None, None, None, pytest.approx(4.0)]
    assert paced(*[(10.0, 4.0)] * 3).seconds(50.1) is None
    assert paced(*[(10.0, 4.0)] * 3, (20.0, 8.0)).seconds(50.1) is not None


def test_jobs_of_one_size_scale() -> None:
    """Where all jobs had the same work, time is taken to be proportional to it."""
    assert paced(*[(10.0, 4.0)] * 3).seconds(20.0) == pytest.approx(8.0)


def test_several_jobs_make_a_line() -> None:
    """Of jobs of several sizes, starting a process and working are told apart."""
    pace = paced((10.0, 4.0), (20.0, 5.0), (30.0, 6.0))
    assert pace.seconds(0.0) == pytest.approx(3.0)
    assert pace.seconds(40.0) == pytest.approx(7.0)


def test_no_estimate_is_below_zero() -> None:
    """Noise that would put the line below zero, or let it fall, does not."""
    steep, falling = paced((10.0, 1.0), (15.0, 15.5), (20.0, 30.0)), paced((10.0, 5.0), (15.0, 4.5), (20.0, 4.0))
    assert steep.seconds(1.0) == pytest.approx(1.0 * 15.5 / 15.0)
    assert falling.seconds(100.0) == pytest.approx(4.5)


def test_work_grows_with_what_there_is_to_do() -> None:
    """Work is proportional to members and steps, and grows with depth, width squared, and training."""
    assert work(job("time", 4, 4)) == 2 * work(job("time", 4))
    assert work(job("time", 4)) == 6 * step_work(case(depth=4))
    assert work(job("measure", 4, train_steps=100)) > 10 * work(job("measure", 4))
    assert step_work(case(width=512)) > 3.5 * step_work(case(width=256))
    assert step_work(case(seq=None, vocab=None)) > 0
