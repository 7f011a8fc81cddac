"""The signals that end a run: Ctrl-C, SIGTERM and SIGHUP, all heeded alike. What is going on unwinds, and takes its
children along; what must not be cut in two is finished first.

Imports no torch.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from bench.errors import EXIT_BY_SIGNAL

HEEDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_USUAL: Final = (signal.SIG_DFL, signal.default_int_handler)
"""What handles them where nobody has said otherwise."""


class Terminated(KeyboardInterrupt):
    """One of the signals came; all that is said of Ctrl-C holds for it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    came: Terminated | None = None
    """What the first signal began. Later ones do not cut that short: people press Ctrl-C twice."""
    waits: bool = False
    """What came is not raised yet."""


_state: Final = _State()


def number(interrupt: KeyboardInterrupt) -> int:
    """The signal that an interruption stands for."""
    return interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT


@contextmanager
def heeded() -> Iterator[None]:
    """Within it, the first of the signals raises Terminated, and the others are of no account. Who ignores one of them
    (nohup) or handles it, as a `heeded` further out does, still does; in a thread beside the main one, which no
    signal reaches, nothing changes."""
    held = {which: signal.getsignal(which) for which in HEEDED} if _in_main_thread() else {}
    taken = {which: handler for which, handler in held.items() if handler in _USUAL}
    try:
        for which in taken:
            signal.signal(which, _end)
        yield
    finally:
        if taken:
            # Python looks for signals where it calls something: none is raised before all handlers are back. Ctrl-C is
            # the last of them, as with Python's own handler the next one raises.
            _state.waits, outer, before = True, _state.waits, _state.came
            for which in reversed(taken):
                signal.signal(which, taken[which])
            _state.waits, _state.came, came = outer, None, _state.came
            if came is not None and came is not before:
                raise came


def heeded_to_the_end(work: Callable[[], int]) -> int:
    """The exit code of a program whose whole work this is, `heeded`; to be ended at once, as nothing is heeded then.
    A second, impatient Ctrl-C is ignored from then on, which would leave a traceback, or death by a signal, in place of
    that code; SIGTERM would end it still. What `work` has not answered ends here. In a thread, where signals are
    nobody's, it is `work` alone."""
    if not _in_main_thread():
        return work()
    try:
        for which in HEEDED:
            if signal.getsignal(which) in _USUAL:
                signal.signal(which, _end)
        code = work()
    except KeyboardInterrupt as interrupt:
        code = EXIT_BY_SIGNAL + number(interrupt)
    finally:
        _state.waits = True  # where nothing is called, so that no signal comes before it
        for which in HEEDED:
            if signal.getsignal(which) is _end:
                # Python gives its own handlers up as it ends, long before the process does; this one stays.
                signal.signal(which, signal.SIG_IGN if which is signal.SIGINT else signal.SIG_DFL)
    return code


@contextmanager
def deferred() -> Iterator[None]:
    """Within it nothing is cut in two: a signal that is heeded is raised when it is left."""
    if not _in_main_thread():
        yield
        return
    before, outer = _state.came, _state.waits
    _state.waits = True
    try:
        yield
    finally:
        _state.waits = outer
    if _state.came is not None and _state.came is not before and not outer:
        raise _state.came


@contextmanager
def lifted() -> Iterator[None]:
    """Within it, inside `deferred`, signals are raised at once again, and first of all one that has come: for waiting,
    which may be long."""
    if not _in_main_thread():
        yield
        return
    outer = _state.waits
    try:
        _state.waits = False
        check()
        yield
    finally:
        _state.waits = outer


def check() -> None:
    """Raises what has come. What was raised in a destructor is lost, and a run that goes on must hear of it here."""
    if _state.came is not None and _in_main_thread():
        raise _state.came


def _end(which: int, frame: FrameType | None) -> None:
    if _state.came is None:
        _state.came = Terminated(which)
        if not _state.waits:
            raise _state.came


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
