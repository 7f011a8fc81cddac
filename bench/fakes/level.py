"""The level of an allocator that is never asked for anything."""

from __future__ import annotations

from bench.fakes.ledger import Ledger
from bench.meters.level import Level
from bench.meters.trace import Trace


class FakeLevel(Level):
    """Reads a ledger at each mark, and restarts its maximum there."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def _begin(self) -> None:
        self._ledger.begin()
        self._ledger.highest = self._ledger.level

    def _mark(self) -> None:
        self._ledger.settle()
        self._at.append(self._ledger.level)
        self._highest.append(self._ledger.highest)
        self._ledger.highest = self._ledger.level

    def _end(self, *, failed: bool) -> None:
        pass

    @property
    def trace(self) -> Trace:
        return self._ledger.trace

    def _check(self, i: int, j: int) -> None:
        pass
