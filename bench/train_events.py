"""What a training run tells as it goes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench.case import Case
from bench.curves import Point
from bench.events import RecordDone, RunStarted


@dataclass(frozen=True)
class ArmStarted:
    """An arm begins at one seed: number `number` of `count`, the ones trained before included. `found` is the step of
    its last checkpoint, which may be of no use."""

    case: Case
    number: int
    count: int
    found: int | None = None


@dataclass(frozen=True)
class Trained:
    """`step` of the `case.train_steps` of an arm are done, and `points` were seen after them. `begun_at` is the step
    that it was gone on with: 0 of one that begins. `remaining_seconds`, of the whole run, is None until there is
    something to estimate it from."""

    case: Case
    step: int
    begun_at: int
    points: tuple[Point, ...]
    remaining_seconds: float | None


TrainEvent = RunStarted | ArmStarted | Trained | RecordDone
