"""Writing so that a file is whole at every moment, whatever happens to the writer. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path


def append(file: int, line: bytes) -> None:
    """Adds a line and has it on the disk, or leaves the file as it was.

    Raises: OSError where there is no room.
    """
    size = os.fstat(file).st_size
    try:
        write(file, line)
        os.fsync(file)
        if os.fstat(file).st_size != size + len(line):  # a full tmpfs may take less than it says it took
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


def write(file: int, content: bytes) -> None:
    """Writes all of it."""
    while content:
        content = content[os.write(file, content) :]


def replace(path: Path, content: bytes) -> None:
    """Writes a file at one stroke: a reader sees the old one or the new one, also after a power cut.

    Raises: OSError where there is no room; nothing is left of the new one then.
    """
    fresh = part(path)
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def part(path: Path) -> Path:
    """Where a file is while it is written."""
    return path.with_name(path.name + ".part")


def end_line(file: int, is_whole: Callable[[bytes], bool]) -> None:
    """Makes a file of lines end with a whole one, so that the next does not stick to one that was torn."""
    content = os.pread(file, os.fstat(file).st_size, 0)
    if not content or content.endswith(b"\n"):
        return
    start = content.rfind(b"\n") + 1
    if is_whole(content[start:]):
        write(file, b"\n")
    else:
        os.ftruncate(file, start)
