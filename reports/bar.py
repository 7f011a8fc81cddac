"""Lines as they come, on stderr; and with a bar below them, how far a run is and how long it will still take.

On a terminal the bar is at the bottom; elsewhere there are plain lines, fit for a log.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from reports import units

_LOG_WIDTH: Final = 200
"""Columns of a line where there is no terminal to fit: a log wants its rows whole."""


class Lines:
    """Lines on a stream, of any length."""

    def __init__(self, stream: TextIO) -> None:
        on_terminal = stream.isatty()
        self.console = Console(file=stream, width=None if on_terminal else _LOG_WIDTH, highlight=False)

    def say(self, line: Text) -> None:
        """Adds one."""
        self.console.print(line, soft_wrap=True)


class BarredLines(Lines, AbstractContextManager["BarredLines"]):
    """The same with a bar below them on a terminal, as long as it is entered; `far` tells how far it is."""

    def __init__(self, stream: TextIO, far: ProgressColumn, total: int) -> None:
        super().__init__(stream)
        self._bar = Progress(
            far,
            BarColumn(bar_width=20),
            _TimeLeft(),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=total, ends=None)

    def show(self, *, completed: int | None = None, doing: str | None = None) -> None:
        """Moves the bar to `completed` of its total, and says beside it what is being done; what is None stays."""
        self._bar.update(self._task, completed=completed, description=doing)

    def ends_in(self, seconds: float | None) -> None:
        """Says how long all will still take; None where that is not known."""
        self._bar.update(self._task, ends=None if seconds is None else time.monotonic() + seconds)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class _TimeLeft(ProgressColumn):
    """The runner's estimate, counted down between its events."""

    def render(self, task: Task) -> Text:
        ends: float | None = task.fields["ends"]
        return Text(left(None if ends is None else ends - time.monotonic()), style="dim")


def left(seconds: float | None) -> str:
    """How long it will still take, in words."""
    if seconds is None:
        return "time left not known yet"
    return f"about {units.seconds(seconds)} left" if seconds >= 1 else "about to finish"
