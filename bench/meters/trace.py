"""A trace: every allocation and release of torch's allocator on one device, in order, with what was running.

From `torch.profiler`'s tree of events; the flat list has neither address nor level. The profiler also places an
allocation below the operator that made it, and each operator of a backward carries the sequence number of the forward's
operator that it belongs to. Ranges and moments of our own (`running`, `note`) stand in the same tree, so no clock of
ours has to agree with the profiler's; none of this allocates anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, cast

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from bdia.storages import address
from bench.meters import MeterError

if TYPE_CHECKING:
    from torch._C._profiler import _ProfilerEvent

Kind = Literal["call", "node", "optimizer"]
Running = tuple[Kind, int]
"""A block's call in the forward, by its number; a node of a backward, by its sequence number; the optimiser's step."""

_PREFIX: Final = "bdia-bench "
_NODE: Final = "autograd::engine::evaluate_function"
_NO_SEQUENCE: Final = 1 << 62
"""From here on a sequence number only says that the node comes early, as those that accumulate gradients do."""


class Event(NamedTuple):
    """One allocation (`nbytes` > 0) or release (`nbytes` < 0), and the allocator's own level after it.

    That level is taken under the allocator's lock, so a maximum over it holds whatever the order of events.
    """

    time_ns: int
    pointer: int
    nbytes: int
    level: int
    running: tuple[Running, ...] = ()
    """The innermost last: a block that asks for gradients as it is run again has nodes of its own in another's."""
    line: str | None = None
    """`FILE:LINE` of the innermost `at_line` around it."""


class Moment(NamedTuple):
    """When a note was made, and its text."""

    time_ns: int
    text: str


@dataclass(frozen=True)
class Trace:
    """What happened, in order of time."""

    events: list[Event]
    moments: list[Moment]


class Tracer:
    """Traces between `start` and `stop`; one at a time in a process."""

    def start(self) -> None:
        """Begins."""
        # Kineto announces each session on stderr unless told otherwise before its first one.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self._profile.start()

    def stop(self) -> None:
        """Ends."""
        self._profile.stop()

    def read(self, device: torch.device) -> Trace:
        """The events of `device`'s allocator.

        Raises: MeterError where the profiler has none.
        """
        results = self._profile.profiler.kineto_results if self._profile.profiler is not None else None
        if results is None:
            raise MeterError("the profiler returned no events")
        return _trace(results.experimental_event_tree(), device)


class Scribe(Protocol):
    """What keeps a trace of its own, in place of the profiler's."""

    def note(self, text: str) -> None:
        """As the function does."""

    def running(self, kind: Kind, number: int) -> AbstractContextManager[object]:
        """As the function does."""
        ...

    def pointer(self, storage: torch.UntypedStorage) -> int:
        """As the function does."""
        ...


_scribe: Scribe | None = None


@contextmanager
def kept_by(scribe: Scribe) -> Iterator[None]:
    """Has `scribe` take down what is noted and what runs inside."""
    global _scribe
    before, _scribe = _scribe, scribe
    try:
        yield
    finally:
        _scribe = before


def note(text: str) -> None:
    """Marks this moment in the trace."""
    if _scribe is not None:
        _scribe.note(text)
        return
    with record_function(f"{_PREFIX}note {text}"):
        pass


def running(kind: Kind, number: int) -> AbstractContextManager[object]:
    """What is entered with it is running, and so is what runs inside."""
    return record_function(f"{_PREFIX}{kind} {number}") if _scribe is None else _scribe.running(kind, number)


def pointer(storage: torch.UntypedStorage) -> int:
    """The `Event.pointer` of what `storage` has."""
    return address(storage) if _scribe is None else _scribe.pointer(storage)


def with_node(now: tuple[Running, ...], sequence_number: int) -> tuple[Running, ...]:
    """What runs, and in it the node of a backward that has this sequence number; those that accumulate gradients tell
    nothing."""
    return (*now, ("node", sequence_number)) if 0 <= sequence_number < _NO_SEQUENCE else now


@contextmanager
def at_line(line: str) -> Iterator[None]:
    """What is allocated inside is allocated at this line."""
    with record_function(f"{_PREFIX}line {line}"):
        yield


def _trace(tree: list[_ProfilerEvent], device: torch.device) -> Trace:
    """Events of one thread keep their order where times are equal, as the sort is stable."""
    events: list[Event] = []
    moments: list[Moment] = []
    pending: list[tuple[_ProfilerEvent, tuple[Running, ...], str | None]] = [
        (event, (), None) for event in reversed(tree)
    ]
    while pending:
        event, now, line = pending.pop()
        name = event.name
        if name == "[memory]":
            fields = cast("torch._C._profiler._ExtraFields_Allocation", event.extra_fields)
            if fields.device.type == device.type and device.index in (None, fields.device.index):
                level = fields.total_allocated
                events.append(Event(event.start_time_ns, fields.ptr, fields.alloc_size, level, now, line))
        elif name.startswith(_PREFIX):
            kind, _, told = name.removeprefix(_PREFIX).partition(" ")
            if kind == "note":
                moments.append(Moment(event.start_time_ns, told))
            elif kind == "line":
                line = told
            else:
                now = (*now, (cast("Kind", kind), int(told)))
        elif name.startswith(_NODE):
            now = with_node(now, _sequence_number(event))
        pending.extend((child, now, line) for child in reversed(event.children))
    return Trace(sorted(events, key=lambda event: event.time_ns), sorted(moments))


def _sequence_number(node: _ProfilerEvent) -> int:
    """That of a node of a backward. Where hooks run before it, only what runs inside under its name tells it."""
    inner = (child for child in node.children if child.name == node.name.removeprefix(f"{_NODE}: "))
    numbers = (
        cast("torch._C._profiler._ExtraFields_TorchOp", event.extra_fields).sequence_number for event in (node, *inner)
    )
    return next((number for number in numbers if number >= 0), _NO_SEQUENCE)
