"""Writing so that a file is whole at every moment, whatever happens to the writer. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import os
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
