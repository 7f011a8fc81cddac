"""A run as it goes, on stderr: the rows as they come, how far it is, how long it will still take.

On a terminal a bar at the bottom; elsewhere plain lines, one a finished case, fit for a log. What all cases share
is said once, at the start.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self, TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from bench import words
from bench.case import Case
from bench.events import JobStarted, RecordDone, RunEvent, RunStarted
from reports import settings, tables, units

LOG_WIDTH: Final = 200
"""Columns of a line where there is no terminal to fit: a log wants its rows whole."""


class Live(AbstractContextManager["Live"]):
    """Shows the events of `bench.runner.run`, to whose `on_event` it is given; `cases` are those of the run."""

    def __init__(self, stream: TextIO, cases: Sequence[Case]) -> None:
        rows = [msgspec.structs.asdict(case) for case in cases]
        self._shared = settings.sentence(rows)
        self._axes = settings.varying(rows)
        self._name_width = max((len(self._name(case)) for case in cases), default=0)
        on_terminal = stream.isatty()
        self._console = Console(file=stream, width=None if on_terminal else LOG_WIDTH, highlight=False)
        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeLeft(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            disable=not on_terminal,
        )
        self._task = self._bar.add_task("starting", total=len(cases), ends=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: RunEvent) -> None:
        """Shows one event."""
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, JobStarted):
            self._bar.update(self._task, description=self._doing(event), ends=end(event.remaining_seconds))
        else:
            self._bar.update(self._task, completed=event.done, ends=end(event.remaining_seconds))
            self._say(self._row(event))

    def _begin(self, event: RunStarted) -> None:
        self._say(Text(f"{units.cases(event.cases)}: {self._shared}", style="bold"))
        reused = len(event.reused)
        self._bar.update(self._task, completed=reused)
        if reused:
            self._say(
                Text(f"{reused} of {units.cases(event.cases)} {words.be(event.cases)} measured already{_kept(event)}")
            )
        if event.stale:
            self._say(Text(f"measured again, as they rest on other code, data or settings: {event.stale}"))

    def _row(self, event: RecordDone) -> Text:
        case = event.record.case()
        figures = tables.row(event.record)[len(case.label()) :]  # without the label: most of it is shared
        row = Text.assemble(self._name(case).ljust(self._name_width), figures)
        if self._console.is_terminal:
            return row
        done = f"[{str(event.done).rjust(len(str(event.cases)))}/{event.cases}] "
        known = event.remaining_seconds is not None and event.done < event.cases
        time_left = f"  ({left(event.remaining_seconds)})" if known else ""
        return Text.assemble(done, row, time_left)

    def _doing(self, event: JobStarted) -> str:
        """What the child is at: a case, or several that differ in method, l and γ only."""
        one = self._name(event.cases[0])
        if event.kind != "time":
            doing = "predicting" if event.kind == "predict" else "measuring"
            return f"{doing} {one}" if len(event.cases) == 1 else f"{doing} {len(event.cases)} cases from {one} on"
        point = one.removeprefix(event.cases[0].method).strip()
        return f"timing {len(event.cases)} cases side by side{', ' if point else ''}{point}"

    def _name(self, case: Case) -> str:
        return settings.which(msgspec.structs.asdict(case), self._axes)

    def _say(self, line: Text) -> None:
        self._console.print(line, soft_wrap=True)


class TimeLeft(ProgressColumn):
    """The runner's estimate, counted down between its events."""

    def render(self, task: Task) -> Text:
        ends: float | None = task.fields["ends"]
        return Text(left(None if ends is None else ends - time.monotonic()), style="dim")


def _kept(event: RunStarted) -> str:
    """What becomes of the cases that are measured already."""
    again = event.timed_again
    if not again:
        return f" and {'stays as it is' if len(event.reused) == 1 == event.cases else 'stay as they are'}"
    return f"; {again} of them {words.be(again)} timed again beside the rest of their group"


def end(remaining_seconds: float | None) -> float | None:
    """When that will be, by the clock that `TimeLeft` goes by."""
    return None if remaining_seconds is None else time.monotonic() + remaining_seconds


def left(seconds: float | None) -> str:
    """How long it will still take, in words."""
    if seconds is None:
        return "time left not known yet"
    return f"about {units.seconds(seconds)} left" if seconds >= 1 else "about to finish"
