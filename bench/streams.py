"""The standard streams of this process: open from the start, and pointed at nothing once nobody reads them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TextIO, TypeVar

Event = TypeVar("Event")


def open_missing() -> None:
    """Opens those that were closed: else the next file opened would take their place, and what is meant for them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin, sys.stdout, sys.stderr = (
        stream or os.fdopen(number, mode)
        for number, (stream, mode) in enumerate(((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w")))
    )


def abandon(stream: TextIO) -> None:
    """Points a stream at nothing: Python would complain once more of what is left when it flushes at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def show(lines: Iterable[str]) -> None:
    """Lines on stdout."""
    for line in lines:
        print(line)


def unheard(tell: Callable[[Event], None]) -> Callable[[Event], None]:
    """As `tell`, which writes to stderr, as long as somebody reads that. Who has left can be told of nothing, that
    neither, and what goes on is gone on with to its end."""

    def try_to_tell(event: Event) -> None:
        try:
            tell(event)
        except OSError:
            abandon(sys.stderr)

    return try_to_tell
