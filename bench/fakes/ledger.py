"""What is allocated and released where nothing takes memory, and what runs meanwhile: a trace like the profiler's, so
that the same code says where the bytes are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch

from bdia.storages import address
from bench.fakes.scalars import Scalars
from bench.meters.trace import Event, Kind, Moment, Running, Trace, with_node


class _Held(NamedTuple):
    """One allocation."""

    nbytes: int
    pointer: int
    """What tells it from all others, as an address may be another's afterwards."""
    made_by: tuple[Running, ...]


class _Late(NamedTuple):
    """An allocation of which it is not known yet whether it took another's place."""

    key: int
    nbytes: int
    other: int
    made_by: tuple[Running, ...]


class Ledger:
    """Takes it down. Allocations have keys: the addresses of storages, or numbers below 0, which no address is."""

    def __init__(self) -> None:
        self.level = 0
        """Bytes that are allocated."""
        self.highest = 0
        """The highest level since this was last set."""
        self.scalars = Scalars(self._take, self.released, self._now)
        self._held: dict[int, _Held] = {}
        self._late: _Late | None = None
        self._pointers = itertools.count(1)
        self._keys = itertools.count(-1, -1)
        self._running: tuple[Running, ...] = ()
        self._recording = False
        self._events: list[Event] = []
        self._moments: list[Moment] = []
        self._times = itertools.count(1)

    def begin(self) -> None:
        """From here on there is a trace."""
        self._recording = True
        self._events, self._moments = [], []

    @property
    def trace(self) -> Trace:
        """What happened since `begin`."""
        return Trace(self._events, self._moments)

    def settle(self) -> None:
        """Takes into account what could not be known when it happened. Before the level is read."""
        self._settle_late()
        self.scalars.settle()

    def held(self, key: int) -> int:
        """Bytes of an allocation; 0 where there is none."""
        held = self._held.get(key)
        return 0 if held is None else held.nbytes

    def allocated(self, key: int, nbytes: int) -> None:
        """There is an allocation. One that has the key is released, once this is there: its size is new."""
        self._settle_late()
        before = self._held.pop(key, None)
        if nbytes:
            self._allocate(key, nbytes, self._now())
        self._release(before)

    def released(self, key: int) -> None:
        """There is no such allocation any more, if there was one."""
        if self._late is not None and self._late.other == key:
            late, self._late = self._late, None
            self._held[late.key] = self._held.pop(key)
            return
        self._settle_late()
        self._release(self._held.pop(key, None))

    def allocated_or_taken(self, key: int, nbytes: int, other: int) -> None:
        """There is an allocation; or it is the `other`, if that is as large and is released next."""
        self._settle_late()
        if self.held(other) == nbytes:
            self._late = _Late(key, nbytes, other, self._now())
        else:
            self._allocate(key, nbytes, self._now())

    @contextmanager
    def taken(self, nbytes: int) -> Iterator[None]:
        """So much is allocated inside, and no longer."""
        if not nbytes:
            yield
            return
        self._settle_late()
        key = self._take(nbytes, self._now())
        yield
        self.released(key)

    def pointer(self, storage: torch.UntypedStorage) -> int:
        """The `Event.pointer` of a storage's allocation; 0, which is none, where it has none."""
        held = self._held.get(address(storage))
        return 0 if held is None else held.pointer

    def note(self, text: str) -> None:
        """Marks this moment in the trace."""
        self.settle()
        if self._recording:
            self._moments.append(Moment(next(self._times), text))

    @contextmanager
    def running(self, kind: Kind, number: int) -> Iterator[None]:
        """What is allocated inside is allocated by this."""
        with self._inside((*self._now(), (kind, number))):
            yield

    @contextmanager
    def nested(self) -> Iterator[None]:
        """A backward runs inside, and it in whatever runs now: the node of another backward, it may be."""
        with self._inside(self._now()):
            yield

    @contextmanager
    def _inside(self, running: tuple[Running, ...]) -> Iterator[None]:
        before, self._running = self._running, running
        try:
            yield
        finally:
            self._running = before

    def _now(self) -> tuple[Running, ...]:
        node = torch._C._current_autograd_node() if torch._C._current_graph_task_id() != -1 else None
        if node is None:
            return self._running
        now = with_node(self._running, cast("Any", node)._sequence_nr())
        # A node that something runs inside of is further out than that.
        return self._running if now[-1:] and now[-1] in self._running else now

    def _settle_late(self) -> None:
        if self._late is not None:
            late, self._late = self._late, None
            self._allocate(late.key, late.nbytes, late.made_by)

    def _take(self, nbytes: int, made_by: tuple[Running, ...]) -> int:
        """An allocation of no storage: its key."""
        key = next(self._keys)
        self._allocate(key, nbytes, made_by)
        return key

    def _allocate(self, key: int, nbytes: int, made_by: tuple[Running, ...]) -> None:
        held = self._held[key] = _Held(nbytes, next(self._pointers), made_by)
        self._event(held.pointer, nbytes, made_by)
        self.highest = max(self.highest, self.level)

    def _release(self, held: _Held | None) -> None:
        if held is not None:
            self._event(held.pointer, -held.nbytes, held.made_by)

    def _event(self, pointer: int, nbytes: int, made_by: tuple[Running, ...]) -> None:
        self.level += nbytes
        if self._recording:
            self._events.append(Event(next(self._times), pointer, nbytes, self.level, made_by))
