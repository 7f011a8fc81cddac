"""A child's pipes from the parent's side, within bounds: whatever a child writes, however much, costs little memory and
stops nothing. Imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Callable
from typing import Final

CHUNK: Final = 2**16
LONGEST_LINE: Final = 2**24
"""Bytes of a line, at most: a hundred thousand blocks. What is longer is thrown away up to its end."""
KEPT: Final = 2**16
"""Bytes of what a child complains of that are kept, its last."""
LEFT_IN_PIPES: Final = 2**20
"""More than pipes hold once nobody writes to them."""


class Lines:
    """Cuts bytes into lines as they come."""

    def __init__(self, on_line: Callable[[bytes], None], longest: int = LONGEST_LINE) -> None:
        self._on_line = on_line
        self._longest = longest
        self._begun = bytearray()
        self._too_long = False

    def feed(self, content: bytes) -> None:
        """Passes on each line that is whole now, without its end; of one that is too long, its first bytes, once."""
        *whole, rest = content.split(b"\n")
        for piece in whole:
            self._add(piece)
            line, self._begun = bytes(self._begun), bytearray()
            too_long, self._too_long = self._too_long, False
            if not too_long:
                self._on_line(line)
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        if self._too_long:
            return
        self._begun += piece
        if len(self._begun) > self._longest:
            self._too_long = True
            line, self._begun = bytes(self._begun[:CHUNK]), bytearray()
            self._on_line(line)


class Pipes:
    """The job goes down, lines come up, and the end of what is said on standard error is kept. Owns none of them."""

    def __init__(self, job: bytes, *, down: int, up: int, errors: int, on_line: Callable[[bytes], None]) -> None:
        self._job = memoryview(job)
        self._lines = Lines(on_line)
        self._errors = b""
        self._selector = selectors.DefaultSelector()
        os.set_blocking(down, False)  # a child that does not read must not hold its parent up
        self._selector.register(down, selectors.EVENT_WRITE, self._send)
        self._selector.register(up, selectors.EVENT_READ, self._receive)
        self._selector.register(errors, selectors.EVENT_READ, self._complain)

    @property
    def open(self) -> bool:
        """Whether anything may come yet."""
        return bool(self._selector.get_map())

    def wait(self, seconds: float) -> int:
        """Waits that long at most for something to pass on, and passes it on: the bytes read."""
        return sum(key.data(key.fd) for key, _ in self._selector.select(seconds))

    def drain(self) -> None:
        """Passes on what was left behind by a child that is gone. One that escaped may write for ever: not all of it
        is read."""
        left = LEFT_IN_PIPES
        while left > 0 and self.open:
            read = self.wait(0)
            if not read:
                return
            left -= read

    def last_line(self) -> str:
        """The last line on the child's standard error that is not blank, of at most 400 characters."""
        lines = [line.strip() for line in printable(self._errors.decode(errors="replace")).splitlines() if line.strip()]
        return lines[-1][:400] if lines else ""

    def close(self) -> None:
        """Lets go of the pipes."""
        self._selector.close()

    def _send(self, pipe: int) -> int:
        with contextlib.suppress(BlockingIOError):
            try:
                self._job = self._job[os.write(pipe, self._job[:CHUNK]) :]
            except BrokenPipeError:  # it died already: its end tells
                self._job = self._job[:0]
        if not self._job:
            self._selector.unregister(pipe)
        return 0

    def _receive(self, pipe: int) -> int:
        content = self._read(pipe)
        self._lines.feed(content)
        return len(content)

    def _complain(self, pipe: int) -> int:
        content = self._read(pipe)
        self._errors = (self._errors + content)[-KEPT:]
        return len(content)

    def _read(self, pipe: int) -> bytes:
        content = os.read(pipe, CHUNK)
        if not content:
            self._selector.unregister(pipe)
        return content


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor or cannot be encoded; line breaks stay."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in text)
