"""How long the rest of a run will take, from what was measured so far. Pure functions of numbers; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bench.case import Case
from bench.protocol import Job

STEPS_OF_MEASURING: Final = 6
"""About as many training steps as memory, reconstruction and gradients take together."""

FEWEST: Final = 3
"""Jobs after which the time of another is told: the first one pays for what later ones find in the system's cache."""
REACH: Final = 5
"""How many times the work of the largest job so far that may be."""


def work(job: Job) -> float:
    """The multiplications of a job, up to a common factor: steps x samples x tokens x weights."""
    total = 0.0
    for plan in job.members:
        timed = job.rounds + job.warmup
        steps = timed if job.kind == "time" else STEPS_OF_MEASURING
        total += (steps + plan.case.train_steps) * step_work(plan.case)
    return total


def step_work(case: Case) -> float:
    """One training step: 12 D² weights a block and V·D in the output layer, for each token. Sizes that a model of the
    user's settles itself are the same in every case of it, so that any will do for them."""
    tokens = case.seq or 65  # a vision model of 8 x 8 patches and a class token
    depth, width, batch = case.depth or 12, case.width or 256, case.batch or 8
    return batch * tokens * (12.0 * depth * width**2 + (case.vocab or 0) * width)


@dataclass
class Pace:
    """Seconds of a job as a straight line over its work: starting a process, and then so much a unit.

    Fitted by least squares, neither term below zero. What the first jobs say of much larger ones is far off, so of
    these it says nothing.
    """

    _jobs: list[tuple[float, float]] = field(default_factory=list)

    def add(self, work: float, seconds: float) -> None:
        """A job of this work took so many seconds."""
        self._jobs.append((work, seconds))

    def seconds(self, work: float) -> float | None:
        """The time a job of this work will take; None where that cannot be told from those that are done."""
        if len(self._jobs) < FEWEST or work > REACH * max(done for done, _ in self._jobs):
            return None
        count = len(self._jobs)
        mean_work = sum(work for work, _ in self._jobs) / count
        mean_seconds = sum(seconds for _, seconds in self._jobs) / count
        spread = sum((work - mean_work) ** 2 for work, _ in self._jobs)
        if spread == 0.0:
            return mean_seconds * (work / mean_work if mean_work else 1.0)
        slope = sum((work - mean_work) * (seconds - mean_seconds) for work, seconds in self._jobs) / spread
        if slope <= 0.0:
            return mean_seconds
        if mean_seconds < slope * mean_work:  # the line would start below zero
            return mean_seconds * (work / mean_work)
        return mean_seconds + slope * (work - mean_work)
