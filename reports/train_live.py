"""A training run as it goes, on stderr: a line a look at the validation set, and one for each arm that is done.

On a terminal a bar at the bottom counts all steps of all arms; elsewhere plain lines, fit for a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import msgspec
from rich.progress import TaskProgressColumn
from rich.text import Text

from bench import words
from bench.case import Case
from bench.curves import Point
from bench.events import RecordDone, RunStarted
from bench.record import Record
from bench.train_events import ArmStarted, Trained, TrainEvent
from reports import settings, units
from reports.bar import BarredLines, left

_LOSS_DECIMALS = 4


class Live(BarredLines):
    """Shows the events of `bench.train_run.run`, to whose `on_event` it is given; `cases` are those of the run, and
    `title` begins what is said of them."""

    def __init__(self, stream: TextIO, cases: Sequence[Case], title: str) -> None:
        self._counts = {(case.arm, case.seed): case.train_steps for case in cases}
        super().__init__(stream, TaskProgressColumn(), sum(self._counts.values()))
        rows = [msgspec.structs.asdict(case) for case in cases]
        self._title = title
        self._shared = settings.sentence(rows)
        self._seeds = len({case.seed for case in cases})
        self._arms = len({case.arm for case in cases})
        self._name_width = max((len(_name(case)) for case in cases), default=0)
        self._step_width = max((len(str(case.train_steps)) for case in cases), default=0)
        self._number, self._count = 0, len(cases)
        self._found: int | None = None
        self._done = 0

    def __call__(self, event: TrainEvent) -> None:
        """Shows one event."""
        match event:
            case RunStarted():
                self._begin(event)
            case ArmStarted():
                self._number, self._found = event.number, event.found
                self.show(doing=f"{_name(event.case)}: measuring memory, building the model")
            case Trained():
                self._trained(event)
            case RecordDone():
                self._finish(event)

    def _begin(self, event: RunStarted) -> None:
        what = f"{words.counted(self._arms, 'arm')} of {words.counted(self._seeds, 'seed')}"
        self.say(Text(f"{self._title}: {what}: {self._shared}", style="bold"))
        for record in event.reused:
            self._done += self._counts.pop((record.arm, record.seed), 0)
        self.show(completed=self._done)
        if event.reused:
            count = len(event.reused)
            self.say(Text(f"{count} of {self._count} {words.be(self._count)} trained already"))
        if event.stale:
            self.say(Text(f"trained again, as they rest on other code, data or settings: {event.stale}"))

    def _trained(self, event: Trained) -> None:
        case = event.case
        doing = f"{_name(case)}: step {event.step} of {case.train_steps}"
        self.show(completed=self._done + event.step, doing=doing)
        self.ends_in(event.remaining_seconds)
        if self._found is not None:  # once, as it begins
            self.say(self._line(case, event.begun_at, Text(_beginning(event.begun_at, self._found), "dim")))
            self._found = None
        seen = {point.name: point for point in event.points if point.block is None and point.gamma is None}
        if "validation_loss" in seen:
            told = Text(_figures(seen))
            if not self.console.is_terminal and event.remaining_seconds is not None:
                told.append(f"  ({left(event.remaining_seconds)})")
            self.say(self._line(case, event.step, told))

    def _finish(self, event: RecordDone) -> None:
        record = event.record
        self._done += self._counts.pop((record.arm, record.seed), 0)
        self.show(completed=self._done)
        self.ends_in(event.remaining_seconds)
        told = Text("done", "green") if record.status == "ok" else Text(record.status, "red")
        figures = _memory_and_time(record)
        told.append("".join(f"  {one}" for one in figures))
        if record.message is not None:
            told.append(f"  {record.message}", "dim")
        self.say(self._line(record.case(), record.trained_steps, told))

    def _line(self, case: Case, step: int | None, told: Text) -> Text:
        number = f"[{str(self._number).rjust(len(str(self._count)))}/{self._count}] "
        steps = f"{'' if step is None else step}".rjust(self._step_width)
        return Text.assemble(number, _name(case).ljust(self._name_width), f"  {steps}/{case.train_steps}  ", told)


def _name(case: Case) -> str:
    return f"{case.arm} seed {case.seed}"


def _beginning(at: int, found: int) -> str:
    """What became of a last checkpoint after `found` steps in a training that begins after `at`."""
    if at == found:
        return "goes on from its checkpoint"
    if at:
        return f"goes on from an earlier checkpoint: that of step {found} is damaged"
    return f"begins anew: its checkpoint of step {found} is damaged, or rests on other code, data or settings"


def _figures(seen: dict[str, Point]) -> str:
    """What a look has seen."""
    found = []
    for split in ("train", "validation"):
        if (loss := seen.get(f"{split}_loss")) is not None:
            found.append(f"{split} {units.fixed(loss.value, _LOSS_DECIMALS)}")
    if (accuracy := seen.get("validation_accuracy")) is not None:
        found.append(f"accuracy {units.percent(accuracy.value)}")
    if (step := seen.get("step_seconds")) is not None:
        found.append(f"{units.seconds(step.value)} a step")
    return "  ".join(found)


def _memory_and_time(record: Record) -> list[str]:
    """What a record has of memory and time."""
    found = []
    if record.activation_bytes is not None:
        found.append(f"{units.size(record.activation_bytes)} of activations")
    if record.train_seconds is not None:
        found.append(f"{units.seconds(record.train_seconds)} of training")
    return found
