"""How high a step reaches at any depth, from steps counted at three small ones.

A step has the same moments at any depth: before the first block, at its forward, at that of the second, …, at the
head, at the last block's backward, …, at the optimiser's step. How high each reaches is a straight line in depth, and
which is the highest may change with it; so the lines are drawn one by one, and the peak is the highest of them. Moments
are told by their block's distance from the nearer end of its chain, of which a model of stages has one for each:
between those that are told, the levels lie on a line as well, so none is above the ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal, NamedTuple

import msgspec

from bench import models, obstacles, resolve
from bench.case import Plan
from bench.fakes.figures import counted
from bench.meters.breakdown import Survey
from bench.meters.level import moment_of
from bench.meters.trace import Event

_LEAST: Final = 6
"""Of a chain, three blocks from either end: what a block hands on is still there as the next one works."""


class Moment(NamedTuple):
    """A stretch of a step in which the same blocks hold memory."""

    pass_: int
    """Forwards, backwards and the optimiser's step, numbered as they come."""
    chain: int
    end: Literal["first", "last"] | None
    """The end of its chain from which its block is told; None before any block has run."""
    between: int
    """How many blocks lie between that end and it."""
    inside: bool
    """Whether the block itself works, or what comes after it."""


class Line(NamedTuple):
    """nbytes + each · (depth − start)."""

    start: int
    nbytes: int
    each: Fraction

    def at(self, depth: int) -> int:
        """Bytes at `depth`."""
        return round(self.nbytes + self.each * (depth - self.start))


class Deeper(NamedTuple):
    """`peak_bytes` of a plan's step as a function of its depth, from steps that were counted at small ones."""

    lines: Mapping[Moment, Line]
    first: int
    """The depth from which on they hold."""

    def peak(self, depth: int) -> int:
        """Bytes of the highest moment."""
        return max(line.at(depth) for line in self.lines.values())


def deeper(plan: Plan) -> Deeper | None:
    """The lines of `plan`'s moments through two depths; None where a step at a third does not lie on them, here nor at
    twice the depth, as for what stores a state every √N blocks, or where depth does not repeat blocks of one kind.

    Raises: as `count` does.
    """
    chains = models.factor(plan.case.model, "depth")
    apart = obstacles.apart(plan.case)
    least = obstacles.smallest(resolve.method(plan.case.method), plan.case, "depth")
    first = max(_LEAST * chains, 2 * ((plan.case.keep or 0) + 3) * chains, least)
    first += -first % apart
    # A moment is the highest of several, of which another may take over as blocks are added: so once more, deeper.
    return _through(plan, first, apart, first + 2 * apart) or _through(plan, 2 * first, apart, 4 * first)


def _through(plan: Plan, first: int, apart: int, last: int) -> Deeper | None:
    """The lines through a depth and the next; None where the `last` depth does not lie on them."""
    near, far, third = (_heights(plan, depth) for depth in (first, first + apart, last))
    if not (near.keys() <= far.keys() <= third.keys()):
        return None
    lines = {moment: Line(first, nbytes, Fraction(far[moment] - nbytes, apart)) for moment, nbytes in near.items()}
    found = Deeper(lines, first)
    told = all(line.at(last) == third[moment] for moment, line in lines.items())
    return found if told and found.peak(last) == max(third.values()) else None


def _heights(plan: Plan, depth: int) -> dict[Moment, int]:
    """The highest level of each moment of a whole step at `depth`, absolute, in bytes."""
    step = counted(msgspec.structs.replace(plan, case=msgspec.structs.replace(plan.case, depth=depth)))
    start, end = (
        next(moment.time_ns for moment in step.trace.moments if moment.text == moment_of(mark))
        for mark in ("step start", "step end")
    )
    events = [event for event in step.trace.events if start < event.time_ns < end]
    before = events[0].level - events[0].nbytes
    # What is there before the step is known by its sum alone.
    there = step.reading.peak_bytes - max(event.level for event in events)
    found: dict[Moment, int] = {Moment(0, 0, None, 0, False): there + before}
    walk = _Walk(step.survey, step.chains)
    for event in events:
        if event.nbytes > 0:  # a release tells what ran when its memory was taken
            moment = walk.at(event)
            found[moment] = max(found.get(moment, 0), there + event.level)
    return found


class _Walk:
    """Tells the moments of a step as its events come."""

    def __init__(self, survey: Survey, chains: Sequence[int]) -> None:
        self._survey = survey
        # Blocks are called, and numbered, chain by chain.
        self._places = [(chain, below, length) for chain, length in enumerate(chains) for below in range(length)]
        self._pass = 0
        self._doing: Literal["forward", "backward", "optimizer"] = "forward"
        self._block: int | None = None

    def at(self, event: Event) -> Moment:
        """The moment of the next event."""
        part, block = self._survey.doing(event.running)
        if part == "optimizer_step":
            self._turn("optimizer")
        elif any(kind == "node" for kind, _ in event.running):
            self._turn("backward")
        elif block is not None:
            self._turn("forward")
        if block is not None:
            self._block = block
        if self._block is None:
            return Moment(self._pass, 0, None, 0, inside=False)
        chain, below, length = self._places[self._block]
        above = length - 1 - below
        inside = block is not None
        if below < above:
            return Moment(self._pass, chain, "first", below, inside)
        return Moment(self._pass, chain, "last", above, inside)

    def _turn(self, doing: Literal["forward", "backward", "optimizer"]) -> None:
        if doing != self._doing:
            self._doing, self._block = doing, None
            self._pass += 1
