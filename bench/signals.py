"""The signals that end a run from outside, heeded as Ctrl-C is: what is going on unwinds, and takes its children along.

Imports no torch.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

HEEDED: Final = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """One of the signals came; all that is said of Ctrl-C holds for it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def number(interrupt: KeyboardInterrupt) -> int:
    """The signal that an interruption stands for."""
    return interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT


@contextmanager
def heeded() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise Terminated. Who ignores one of them (nohup) or handles it, still does; in
    a thread beside the main one, which no signal reaches, nothing changes."""
    own = threading.current_thread() is threading.main_thread()
    taken = [which for which in HEEDED if own and signal.getsignal(which) is signal.SIG_DFL]

    def end(which: int, frame: FrameType | None) -> None:
        for other in taken:  # they may come in pairs, and what the first one began is not to be cut short
            signal.signal(other, signal.SIG_IGN)
        raise Terminated(which)

    try:
        for which in taken:
            signal.signal(which, end)
        yield
    finally:
        for which in taken:
            signal.signal(which, signal.SIG_DFL)
