"""What a run shows as it goes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from synthetic_records import case, full, record

from bench.case import Case
from bench.events import JobStarted, RecordDone, RunEvent, RunStarted
from reports.progress import Live

CASES = [case(method, depth=depth) for depth in (6, 12) for method in ("standard", "bdia")]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(events: Sequence[RunEvent], stream: io.StringIO | None = None, cases: Sequence[Case] = CASES) -> str:
    stream = stream or io.StringIO()
    with Live(stream, cases) as live:
        for event in events:
            live(event)
    return stream.getvalue()


def test_a_log_has_a_line_a_case() -> None:
    """Where there is no terminal, each record is one line without colour, with how far it is and the time left."""
    events = [RecordDone(full(of), number, 4, 1.0, 90.0) for number, of in enumerate(CASES, 1)]
    lines = shown(events).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("[2/4] bdia depth=6 ")
    assert lines[1].endswith("(about 1 min 30 s left)")
    assert lines[3].endswith("0 (exact)")
    assert not any("\x1b" in line for line in lines)


def test_what_all_cases_share_is_said_once() -> None:
    """The first line tells the axes that all cases share; rows tell those in which they differ, and no time left where
    none is known."""
    text = shown([RunStarted(4, (), 0), RecordDone(full(CASES[0]), 1, 4, 1.0, None)])
    first, row = text.splitlines()
    assert "width 256" in first
    assert "width" not in row
    assert "left" not in row


def test_one_case_is_one_case() -> None:
    """A run of one case is counted in the singular, also where it is measured already."""
    text = shown([RunStarted(1, (full(CASES[0]),), 0)], cases=CASES[:1])
    assert text.startswith("1 case: gpt · depth 6 ")
    assert "\n1 of 1 case is measured already and stays as it is\n" in text


def test_a_failed_case_says_why() -> None:
    """A case that failed is a line with its status and its message."""
    failed = record(CASES[0], status="oom", message="out of memory: 3 GiB")
    assert "oom  out of memory: 3 GiB" in shown([RecordDone(failed, 1, 4, 1.0, None)])


def test_resuming_is_said() -> None:
    """A resumed run says how many cases stand, and how many stored ones have to be measured again."""
    text = shown([RunStarted(4, (full(CASES[0]), full(CASES[1])), 1)])
    assert "2 of 4 cases are measured already" in text
    assert "measured again, as they rest on other code, data or settings: 1" in text


def test_a_terminal_has_a_bar_with_the_time_left() -> None:
    """On a terminal a bar tells how far it is, what is being measured, and how long it will still take."""
    text = shown([RunStarted(4, (), 0), JobStarted("measure", (CASES[1],), 125.0)], Terminal())
    assert "0/4" in text
    assert "measuring bdia depth=6" in text
    assert "about 2 min 0" in text


def test_timing_is_of_a_group() -> None:
    """The cases that are timed together are told by what they share."""
    text = shown([JobStarted("time", tuple(CASES[:2]), None)], Terminal())
    assert "timing 2 cases side by side, depth=6" in text
    assert "not known yet" in text


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (0, "measured already and stay as they are"),
        (1, "measured already; 1 of them is timed again beside the rest of their group"),
        (2, "measured already; 2 of them are timed again beside the rest of their group"),
    ],
)
def test_new_times_of_stored_cases_are_announced(again: int, said: str) -> None:
    """A resumed run says how many of the cases that stand get new times."""
    assert f"2 of 4 cases are {said}\n" in shown([RunStarted(4, (full(CASES[0]), full(CASES[1])), 0, again)])
