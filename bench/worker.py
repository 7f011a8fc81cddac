"""The child process: one job on standard input, its events on the pipe that the job names, and out.

Started by its path with `-P`, so this file finds its own project first, whatever else is called `bench` where it
was started.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import stat
import sys
import threading
from pathlib import Path


def main() -> None:
    """Does the one job."""
    job = _first_line()
    live_with_parent()  # before torch, whose import takes seconds
    _find_own_packages()
    child = importlib.import_module("bench.child")
    on_purpose = (importlib.import_module("bdia.errors").BdiaError, importlib.import_module("bench.errors").BenchError)
    try:
        child.work(job)
    except on_purpose as error:  # its message is for the user, without a traceback or the name of its class
        sys.exit(" ".join(str(error).split()))


def live_with_parent() -> None:
    """Ends this process, and its group where it leads one, when its standard input ends: the parent holds the other end
    for as long as it lives, and writes nothing more."""
    if os.getpgrp() == os.getpid() and hasattr(fcntl, "F_SETSIG") and stat.S_ISFIFO(os.fstat(0).st_mode):
        # The system's own doing, so that native code which holds Python's lock is ended as well.
        fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _find_own_packages() -> None:
    """Imports this project's packages before anything else of their names; what they import later, torch too, is
    found as anywhere."""
    root = str(Path(__file__).resolve().parent.parent)
    sys.path.insert(0, root)
    try:
        for name in ("bdia", "bench"):
            importlib.import_module(name)
    finally:
        sys.path.remove(root)


def _first_line() -> bytes:
    """The job. Read without Python's buffers, which a thread that waits would keep locked at the end."""
    line = b""
    while not line.endswith(b"\n"):
        content = os.read(0, 2**16)
        if not content:
            sys.exit("the parent sent no job")
        line += content
    return line


def _exit_with_parent() -> None:
    """Waits for the end of standard input: where the system has no word for it, or it ended before it was asked."""
    while os.read(0, 2**10):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
