"""What a training run shows as it goes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from synthetic_records import case, full

from bench.case import Case
from bench.curves import Point
from bench.events import RecordDone, RunStarted
from bench.record import Record
from bench.train_events import ArmStarted, Trained, TrainEvent
from reports.train_live import Live

CASES = [
    msgspec.structs.replace(case(method, seed=seed, train_steps=100), arm=method)
    for seed in (0, 1)
    for method in ("standard", "bdia")
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(events: Sequence[TrainEvent], stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    with Live(stream, CASES, "mine, small form") as live:
        for event in events:
            live(event)
    return stream.getvalue()


def looked(of: Case, step: int, remaining: float | None = None, begun_at: int = 0, **values: float | None) -> Trained:
    points = [Point(arm=str(of.arm), seed=of.seed, step=step, name=name, value=one) for name, one in values.items()]
    return Trained(of, step, begun_at, tuple(points), remaining)


def done(of: Case, **fields: Any) -> Record:
    return msgspec.structs.replace(full(of), **{"train_seconds": 12.0, "trained_steps": 100} | fields)


def test_a_log_has_a_line_a_look_and_one_for_each_arm_that_is_done() -> None:
    """Where there is no terminal, lines are whole and without colour: losses, accuracy, time a step and time left."""
    events: list[TrainEvent] = [
        RunStarted(4, (), 0),
        ArmStarted(CASES[0], 1, 4),
        looked(CASES[0], 0, validation_loss=2.5, validation_accuracy=0.1),
        looked(
            CASES[0], 50, 90.0, train_loss=1.5, validation_loss=None, validation_accuracy=0.5, step_seconds=0.04
        ),
        RecordDone(done(CASES[0]), 1, 4, 1.0, 80.0),
        ArmStarted(CASES[1], 2, 4),
        RecordDone(done(CASES[1], status="oom", message="no room"), 2, 4, 1.0, 80.0),
    ]  # fmt: skip
    first, *rest = shown(events).splitlines()
    assert first.startswith("mine, small form: 2 arms of 2 seeds: gpt · depth ")
    assert rest[0] == "[1/4] standard seed 0    0/100  validation 2.5000  accuracy 10.0%"
    assert rest[1] == (
        "[1/4] standard seed 0   50/100  train 1.5000  validation —  accuracy 50.0%  40 ms a step"
        "  (about 1 min 30 s left)"
    )
    assert rest[2].startswith("[1/4] standard seed 0  100/100  done  ")
    assert rest[2].endswith("12.0 s of training")
    assert rest[3].startswith("[2/4] bdia seed 0      100/100  oom")
    assert rest[3].endswith("no room")
    assert len(rest) == 4


def test_what_is_gone_on_with_is_told() -> None:
    """What stands already, what rests on something else, and where a checkpoint takes up an arm are a line each."""
    events: list[TrainEvent] = [
        RunStarted(4, (done(CASES[0]),), 1), ArmStarted(CASES[1], 2, 4, found=60), looked(CASES[1], 60, begun_at=60),
    ]  # fmt: skip
    lines = shown(events).splitlines()[1:]
    assert lines == [
        "1 of 4 are trained already",
        "trained again, as they rest on other code, data or settings: 1",
        "[2/4] bdia seed 0       60/100  goes on from its checkpoint",
    ]


@pytest.mark.parametrize(
    ("begun_at", "said"),
    [
        (30, "30/100  goes on from an earlier checkpoint: that of step 60 is damaged"),
        (0, " 0/100  begins anew: its checkpoint of step 60 is damaged, or rests on other code, data or settings"),
    ],
)
def test_a_checkpoint_that_is_of_no_use_is_told_of(begun_at: int, said: str) -> None:
    """Steps that were lost are not lost in silence, and it is said once."""
    looks = [looked(CASES[1], step, begun_at=begun_at) for step in (begun_at, begun_at + 10)]
    lines = shown([RunStarted(4, (), 0), ArmStarted(CASES[1], 2, 4, found=60), *looks]).splitlines()[1:]
    assert [line.removeprefix("[2/4] bdia seed 0       ") for line in lines] == [said]


def test_on_a_terminal_a_bar_counts_all_steps() -> None:
    """Of 400 steps a quarter stands already, and 20 more are 30%."""
    stream = Terminal()
    text = shown([RunStarted(4, (done(CASES[0]),), 0), looked(CASES[1], 20, 60.0)], stream)
    assert "30%" in text
    assert "bdia seed 0: step 20 of 100" in text
