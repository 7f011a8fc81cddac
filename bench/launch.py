"""A run of the command line in a process of its own, whose every end is told. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench import signals, supervise
from bench.errors import EXIT_FAILED_CASE, EXIT_NOTHING_MEASURED, EXIT_OK, EXIT_USAGE, BenchError

GRACE_SECONDS: Final = 15.0
"""How long a run may take to end its own children once it is told to."""
MEASURED: Final = (EXIT_OK, EXIT_FAILED_CASE, EXIT_NOTHING_MEASURED)
"""Exit codes of a run that left records to compare."""

# The standard input is a line of life: at its end the run is told to stop, as by SIGTERM, and says no more. `-P` and
# the path given first: whatever else is called `cli` where it was started is not meant.
_CODE: Final = """\
import os, signal, sys, threading
def watch():
    while os.read(0, 1024):
        pass
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
root, sys.argv = sys.argv[1], ["bdia-bench", *sys.argv[2:]]
sys.path.insert(0, root)
from cli import main
main()
"""


class SideError(BenchError):
    """A run left nothing to compare."""

    exit_code = EXIT_NOTHING_MEASURED


def run(root: Path, folder: Path, words: Sequence[str], name: str, say: Callable[[str], None]) -> None:
    """A run by the code in `root`, in `folder`, told of as `name`. When this returns or raises, its process is gone.

    Raises: SideError, with the last line that the process said.
    """
    theirs, life = os.pipe()
    child = None
    last = ""
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, str(root), *words], cwd=folder, stdin=theirs,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, "PWD": str(folder)}, start_new_session=True,
        )  # fmt: skip
        assert child.stderr is not None
        for line in child.stderr:
            if last:
                say(last)
            last = line.rstrip()
        code = child.wait()
    finally:
        with signals.deferred():
            os.close(theirs)
            os.close(life)
            if child is not None:
                _end(child)
    if code in MEASURED or code < 0:
        say(last)
    if code not in MEASURED:
        why = f"killed by signal {-code}" if code < 0 else last.removeprefix("bdia-bench: ") or f"exited with {code}"
        error = SideError(f"{name} cannot be measured: {why}")
        error.exit_code = EXIT_USAGE if code == EXIT_USAGE else EXIT_NOTHING_MEASURED
        raise error


def _end(child: subprocess.Popen[str]) -> None:
    """Waits for a run whose line of life is cut to end its own children, and then ends it whatever it does."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    supervise.kill(child)
    if child.stderr is not None:
        child.stderr.close()
