"""The level of an allocator that is never asked for anything."""

from __future__ import annotations

from bench.fakes.counter import Counter
from bench.meters.level import Level
from bench.meters.trace import Trace


class FakeLevel(Level):
    """Reads a counter at each mark, and restarts its maximum there."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self._counter = counter

    def _begin(self) -> None:
        self._counter.begin()
        self._counter.highest = self._counter.level

    def _mark(self) -> None:
        self._counter.settle()
        self._at.append(self._counter.level)
        self._highest.append(self._counter.highest)
        self._counter.highest = self._counter.level

    def _end(self, *, failed: bool) -> None:
        pass

    @property
    def trace(self) -> Trace:
        return self._counter.trace

    def _check(self, i: int, j: int) -> None:
        pass
