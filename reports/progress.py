"""A run as it goes, on stderr: the rows as they come, how far it is, how long it will still take.

On a terminal a bar at the bottom; elsewhere plain lines, one a finished case, fit for a log. What all cases share
is said once, at the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import msgspec
from rich.progress import MofNCompleteColumn
from rich.text import Text

from bench import words
from bench.case import Case
from bench.events import JobStarted, RecordDone, RunEvent, RunStarted
from reports import settings, tables, units
from reports.bar import BarredLines, left


class Live(BarredLines):
    """Shows the events of `bench.runner.run`, to whose `on_event` it is given; `cases` are those of the run."""

    def __init__(self, stream: TextIO, cases: Sequence[Case]) -> None:
        super().__init__(stream, MofNCompleteColumn(), len(cases))
        rows = [msgspec.structs.asdict(case) for case in cases]
        self._shared = settings.sentence(rows)
        self._axes = settings.varying(rows)
        self._name_width = max((len(self._name(case)) for case in cases), default=0)

    def __call__(self, event: RunEvent) -> None:
        """Shows one event."""
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, JobStarted):
            self.show(doing=self._doing(event))
            self.ends_in(event.remaining_seconds)
        else:
            self.show(completed=event.done)
            self.ends_in(event.remaining_seconds)
            self.say(self._row(event))

    def _begin(self, event: RunStarted) -> None:
        self.say(Text(f"{units.cases(event.cases)}: {self._shared}", style="bold"))
        reused = len(event.reused)
        self.show(completed=reused)
        if reused:
            self.say(
                Text(f"{reused} of {units.cases(event.cases)} {words.be(event.cases)} measured already{_kept(event)}")
            )
        if event.stale:
            self.say(Text(f"measured again, as they rest on other code, data or settings: {event.stale}"))

    def _row(self, event: RecordDone) -> Text:
        case = event.record.case()
        figures = tables.row(event.record)[len(case.label()) :]  # without the label: most of it is shared
        row = Text.assemble(self._name(case).ljust(self._name_width), figures)
        if self.console.is_terminal:
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


def _kept(event: RunStarted) -> str:
    """What becomes of the cases that are measured already."""
    again = event.timed_again
    if not again:
        return f" and {'stays as it is' if len(event.reused) == 1 == event.cases else 'stay as they are'}"
    return f"; {again} of them {words.be(again)} timed again beside the rest of their group"
