"""A frontier as it goes, on stderr: a line a probe, and what was found of each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TextIO

import msgspec
from rich.text import Text

from bench import frontier
from bench.case import Case
from bench.frontier_events import Doing, Done, FrontierEvent
from bench.frontier_run import Settings
from bench.frontier_search import MOST_PROBES
from bench.record import Record
from reports import settings, units
from reports.bar import Lines

_DOING: Final = {"probe": "probing", "confirm": "training", "time": "timing"}


class Live(Lines):
    """Shows the events of `bench.frontier_run.run`, to whose `on_event` it is given; `cases` are those that are looked
    into, at any value of what is looked for."""

    def __init__(self, stream: TextIO, cases: Sequence[Case], looking: Settings) -> None:
        super().__init__(stream)
        self._over = looking.over
        rows = [msgspec.structs.asdict(self._without(case)) for case in cases]
        self._axes = settings.varying(rows)
        self._name_width = max((len(self._name(case)) for case in cases), default=0)
        self.say(Text(f"the largest {self._over} that fits {looking.limit_text}: {settings.sentence(rows)}", "bold"))

    def __call__(self, event: FrontierEvent) -> None:
        """Shows one event."""
        match event:
            case Done():
                self.say(self._done(event))
            case Doing(kind="time"):
                values = sorted({getattr(case, self._over) for case in event.cases})
                at = ", ".join(map(units.integer, values))
                what = f"{len(event.cases)} side by side" if len(event.cases) > 1 else self._name(event.cases[0])
                self.say(Text(f"timing {what} at {self._over} {at}", "dim"))

    def _done(self, event: Done) -> Text:
        record = event.record
        value = f"{self._over} {units.integer(frontier.value_of(record))}"
        if event.kind == "confirm":
            steps = record.confirmed_steps
            what = f"largest: {steps} training steps fit" if steps else "does not fit as it trains"
        elif frontier.fits(record):
            what = "fits"
        else:
            what = record.status if frontier.hindered(record) else f"does not fit{_by(record)}"
        line = Text(f"{self._name(record.case()).ljust(self._name_width)}  ")
        number = f"{event.number}" if event.number else ""
        line.append(f"{number:>2}{'' if not number else f'/{MOST_PROBES}'}".ljust(5), "dim")
        line.append(f"  {value:<14}")
        line.append(f"{units.size(record.peak_bytes):>10}  ")
        line.append(what, "green" if frontier.fits(record) else "red" if frontier.hindered(record) else "yellow")
        if record.message is not None and frontier.hindered(record):
            line.append(f"  {record.message}", "dim")
        return line

    def _name(self, case: Case) -> str:
        return settings.which(msgspec.structs.asdict(self._without(case)), self._axes)

    def _without(self, case: Case) -> Case:
        return msgspec.structs.replace(case, **{self._over: None})


def _by(record: Record) -> str:
    """By how much more than the limit a step took; nothing where memory ran out before it could be told."""
    if record.peak_bytes is None or record.limit_bytes is None or record.peak_bytes <= record.limit_bytes:
        return ""
    return f", by {units.size(record.peak_bytes - record.limit_bytes)}"
