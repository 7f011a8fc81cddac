"""Temporary folders that do not stay behind: gone when they are left or, after a SIGKILL, when the next one is made.

Whoever has one holds a lock on it, which the system takes away with the process. Imports no torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import signals


@contextlib.contextmanager
def folder(kind: str) -> Iterator[Path]:
    """A temporary folder that is gone afterwards, also where Ctrl-C is pressed while it is made or goes. Those of the
    same kind that processes have left behind which are no more go first."""
    # Another word than earlier versions had, whose folders nobody held.
    prefix = f"bdia-bench-{kind}."
    with signals.deferred(), contextlib.ExitStack() as held:
        _sweep(prefix)
        made = _make(prefix, held)
        with signals.lifted():
            yield made.resolve()


def _make(prefix: str, held: contextlib.ExitStack) -> Path:
    """A new one, locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        # Another process may take it for left behind, and remove it, from when it is made until it is locked.
        with contextlib.suppress(BlockingIOError, FileNotFoundError), contextlib.ExitStack() as one:
            one.enter_context(_locked(path))
            if path.exists():
                one.callback(shutil.rmtree, path, ignore_errors=True)
                held.push(one.pop_all())
                return path


def _sweep(prefix: str) -> None:
    """Removes those of this user that nobody holds."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid != os.getuid():
                continue
            with _locked(path, sure=True):
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path, *, sure: bool = False) -> Iterator[None]:
    """Holds a folder. Where the file system knows no locks nobody is `sure` of one, and all the same has it.

    Raises: BlockingIOError where another process does; OSError where it is none.
    """
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            if sure:
                raise
        yield
    finally:
        os.close(number)
