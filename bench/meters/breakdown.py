"""Where the bytes of a peak are: each allocation alive at the highest moment, with its part and its block.

Whose an allocation is, is told by what is known of its storage (states of the stream, side bits, gradients), else by
what ran when it was made: a block's forward, a node of the backward that belongs to an operator of a block, the
optimiser's step. Nothing is allocated or held for it.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch._C._autograd import _get_sequence_nr

from bdia.backprop import Index, Kept, Watcher
from bdia.storages import storages
from bench.meters.lines import Lines
from bench.meters.trace import Event, Running, Trace, note, pointer, running
from bench.parts import PartName

Whose = tuple[PartName, int | None]
"""A part, and its block."""
OUTSIDE: Final[Whose] = ("head_and_loss", None)
REST: Final[Whose] = ("other", None)
ANOTHERS: Final = -1
"""In the place of a call: work that something other than the engine does on a chain, on no block in particular."""


@dataclass(frozen=True)
class Allocation:
    """One allocation that was alive at a peak."""

    whose: Whose
    nbytes: int
    line: str | None
    """Where it was made, `FILE:LINE`, if that was traced."""


@dataclass(frozen=True)
class Peak:
    """The highest moment of a stretch."""

    allocations: list[Allocation]
    """What was made in the stretch and is alive at that moment."""
    released: list[Allocation]
    """What was made before the stretch and released in it, up to that moment: a block that keeps something of each
    forward until the next has made as much again."""

    def parts(self, measured: int) -> dict[Whose, int]:
        """Bytes by part and block, of `measured` bytes in all: what cannot be told is `other`. Less than 0 where more
        was released than made."""
        sums: Counter[Whose] = Counter()
        for allocation in self.allocations:
            sums[allocation.whose] += allocation.nbytes
        for allocation in self.released:
            sums[allocation.whose] -= allocation.nbytes
        sums[REST] += measured - sums.total()
        return dict(sums)


class Survey(Watcher):
    """Follows steps under a trace, and tells afterwards whose the bytes of a peak were.

    Use: `with handle.observing(survey): …` around each forward and backward, `gradients` after the backward,
    `optimizing` around the optimiser's step; `peak` once the trace is read.
    """

    def __init__(self, lines: Lines | None = None) -> None:
        self._lines = lines
        self._known: list[tuple[int, Whose]] = []  # of note i: the pointer of a storage, and whose it is
        # The sequence numbers from which on another call is under way, or None; they grow from forward to forward.
        self._from: list[int] = []
        self._under_way: list[int | None] = []
        self._inside: list[tuple[int, ExitStack]] = []  # calls, the innermost last; ANOTHERS for work of no call

    @property
    def lines(self) -> AbstractContextManager[object]:
        """To be entered as well, where the lines of what is allocated are asked for."""
        return nullcontext() if self._lines is None else self._lines.noting()

    def forwarded(self, call: int, x: Tensor) -> None:
        self._note(x, ("residual_states", call))
        self._enter(call)

    def kept(self, call: int, part: Kept, held: Tensor) -> None:
        self._note(held, (part, call))

    def returned(self, call: int, x: Tensor) -> None:
        # Until a next block is given it: the state that a chain ends in is that of its last block.
        self._note(x, ("residual_states", call))
        self._leave(call)

    def rebuilt(self, call: int, x: Tensor, index: Index) -> None:
        self._note(x, ("residual_states", call))

    @contextmanager
    def working(self, call: int | None) -> Iterator[None]:
        number = ANOTHERS if call is None else call
        self._enter(number)
        try:
            yield
        finally:
            self._leave(number)

    def gradients(self, gradients: Iterable[Tensor | None]) -> None:
        """These are parameters' gradients, as the backward has left them."""
        for gradient in gradients:
            if gradient is not None:
                self._note(gradient, ("gradients", None))

    @contextmanager
    def optimizing(self) -> Iterator[None]:
        """Around the optimiser's step."""
        with running("optimizer", 0):
            yield

    def peak(self, trace: Trace, first: str, last: str) -> Peak:
        """The highest moment of `trace` between two moments, named by their texts."""
        start, end = (next(moment.time_ns for moment in trace.moments if moment.text == text) for text in (first, last))
        notes = [
            (moment.time_ns, *self._known[int(moment.text)])
            for moment in trace.moments
            if moment.text.isdigit() and moment.time_ns <= end  # later, an address may be another's
        ]
        replay = _Replay(notes, start)
        for event in trace.events:
            if event.time_ns > end:
                break
            replay.take(event)
        alive, released = replay.at_peak()
        return Peak([self._allocation(made) for made in alive], [self._allocation(made) for made in released])

    def _allocation(self, made: _Made) -> Allocation:
        event = made.event
        line = event.line if self._lines is None else self._lines.of(event.line, event.running)
        return Allocation(made.whose or self.doing(event.running), event.nbytes, line)

    def _note(self, tensor: Tensor, whose: Whose) -> None:
        for storage in storages(tensor):
            note(str(len(self._known)))
            self._known.append((pointer(storage), whose))

    def _enter(self, call: int) -> None:
        inside = ExitStack()
        inside.enter_context(running("call", call))
        self._inside.append((call, inside))
        self._now_under_way()

    def _leave(self, call: int) -> None:
        while self._inside:
            left, inside = self._inside.pop()
            inside.close()
            if left == call:  # and not one inside it that raised
                break
        self._now_under_way()

    def _now_under_way(self) -> None:
        self._from.append(_get_sequence_nr())
        self._under_way.append(self._inside[-1][0] if self._inside else None)

    def doing(self, running: Sequence[Running]) -> Whose:
        """Whose work it is that runs: of the innermost that is anyone's, as a node that no block's forward made may run
        inside a block's rerun."""
        for kind, number in reversed(running):
            if kind == "optimizer":
                return "optimizer_step", None
            call = number if kind == "call" else self._under_way_at(number)
            if call is not None:
                return REST if call == ANOTHERS else ("block", call)
        return OUTSIDE

    def _under_way_at(self, number: int) -> int | None:
        """The call that was under way when autograd gave this sequence number."""
        at = bisect.bisect_right(self._from, number) - 1
        return self._under_way[at] if at >= 0 else None


@dataclass
class _Made:
    """One allocation, from its event to its release."""

    event: Event
    index: int
    whose: Whose | None = None
    """What a note says of it."""
    released: int | None = None
    """The index of its release."""


class _Replay:
    """Goes through a trace, and keeps what it takes to say what was alive when the level was highest."""

    def __init__(self, notes: Sequence[tuple[int, int, Whose]], start_ns: int) -> None:
        self._notes = list(reversed(notes))
        self._start_ns = start_ns
        self._alive: dict[int, _Made] = {}
        self._made: list[_Made] = []  # since the start
        self._released: list[_Made] = []  # since the start, and made before it
        self._count = 0
        self._level = self._highest = 0
        self._peak = -1

    def take(self, event: Event) -> None:
        """The next event."""
        self._heed_notes(event.time_ns)
        counted = event.time_ns > self._start_ns
        if event.nbytes > 0:
            made = self._alive[event.pointer] = _Made(event, self._count)
            if counted:
                self._made.append(made)
        else:
            ended = self._alive.pop(event.pointer, None)
            if ended is not None:
                ended.released = self._count
                if counted and ended.event.time_ns <= self._start_ns:
                    self._released.append(ended)
        if counted:
            self._level += event.nbytes
            if self._level > self._highest:
                self._highest, self._peak = self._level, self._count
        self._count += 1

    def at_peak(self) -> tuple[list[_Made], list[_Made]]:
        """What was made since the start and alive then; what was made before it and released by then."""
        self._heed_notes(None)

        def gone(made: _Made) -> bool:
            return made.released is not None and made.released <= self._peak

        alive = [made for made in self._made if made.index <= self._peak and not gone(made)]
        return alive, [made for made in self._released if gone(made)]

    def _heed_notes(self, until_ns: int | None) -> None:
        while self._notes and (until_ns is None or self._notes[-1][0] <= until_ns):
            _, at, whose = self._notes.pop()
            if at in self._alive:
                self._alive[at].whose = whose
