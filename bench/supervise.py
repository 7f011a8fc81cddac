"""Runs one child process to its end, whatever that is. Imports no torch.

A child leads a process group of its own, so that it can be killed with what it started; its events come through a
pipe of their own; its standard input is a line of life, at whose end it exits, should the parent be killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from bench.protocol import Event, Job, Kind
from bench.record import Status

WORKER: Final = Path(__file__).with_name("worker.py")
POLL_SECONDS: Final = 0.1
"""How soon the end of a child is noticed whose own children keep the pipe open."""
KEEP_PAGES: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
"""A glibc malloc that keeps its pages, as CUDA's allocator does; or page faults flatter whoever saves memory."""
WAITING: Final[Mapping[Kind, Mapping[str, str]]] = {
    "time": {"GOMP_SPINCOUNT": "30000"},
    "measure": {"OMP_WAIT_POLICY": "passive"},
    "examine": {"OMP_WAIT_POLICY": "passive"},
    "stacks": {"OMP_WAIT_POLICY": "passive"},
}
"""How OpenMP's threads wait for each other. They spin, and where another process wants the cores, a step of a small
model takes a hundred times as long: spin for a shorter while, which costs no time on a quiet machine, or not at
all where nothing is timed. What the user has set stays."""


@dataclass(frozen=True)
class End:
    """How a child ended: `status` is `ok` where it did all it was to do."""

    status: Status
    message: str | None
    seconds: float


def run(job: Job, on_event: Callable[[Event], None], *, timeout_seconds: float | None, worker: Path = WORKER) -> End:
    """Runs `job` in a fresh process and passes its events on as they come.

    It may take `timeout_seconds` for each of the job's members. When this returns, or raises (KeyboardInterrupt),
    the process and its group are gone.
    """
    start = time.monotonic()
    allowed = None if timeout_seconds is None else timeout_seconds * len(job.members)
    events, theirs = os.pipe()
    with tempfile.TemporaryFile() as errors:
        try:
            child = _start(job, theirs, errors, worker)
        except OSError as error:
            os.close(events)
            return End("error", f"the child process cannot be started: {error.strerror}", 0.0)
        finally:
            os.close(theirs)
        try:
            with contextlib.closing(_Lines(events, on_event)) as lines:
                deadline = None if allowed is None else start + allowed
                in_time = _follow(child, lines, deadline)
        finally:
            kill(child)
        seconds = time.monotonic() - start
        if not in_time:
            share = "" if len(job.members) == 1 else f" ({timeout_seconds:g} s for each of {_together(job)})"
            return End("timeout", f"not done after {allowed:g} s{share}; allow more with --timeout", seconds)
        status, message = _judge(child.returncode, lines.garbage, _last_line(errors))
        return End(status, message, seconds)


def _start(job: Job, events: int, errors: IO[bytes], worker: Path) -> subprocess.Popen[bytes]:
    environment = {**WAITING[job.kind], **os.environ}
    if job.kind == "time":
        environment.update(KEEP_PAGES)
    child = subprocess.Popen(
        [sys.executable, "-P", str(worker)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment, pass_fds=(events,),
        start_new_session=True,
    )  # fmt: skip
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died already: its end tells
        child.stdin.write(msgspec.json.encode(msgspec.structs.replace(job, events=events)) + b"\n")
        child.stdin.flush()
    return child


class _Lines:
    """The events a child writes, cut out of the pipe's bytes."""

    def __init__(self, pipe: int, on_event: Callable[[Event], None]) -> None:
        self._pipe = pipe
        self._on_event = on_event
        self._rest = b""
        self.garbage: str | None = None
        """The first line that was no event."""

    def wait(self, seconds: float) -> bool:
        """Waits for bytes and passes whole lines on; False at the end of the pipe."""
        if not select.select([self._pipe], [], [], seconds)[0]:
            return True
        content = os.read(self._pipe, 2**16)
        *whole, self._rest = (self._rest + content).split(b"\n")
        for line in whole:
            try:
                event: Event = msgspec.json.decode(line, type=Event)
            except msgspec.MsgspecError:
                self.garbage = self.garbage or line.decode(errors="replace")[:80]
            else:
                self._on_event(event)
        return bool(content)

    def drain(self) -> None:
        """Passes on what is in the pipe now, without waiting for more."""
        while select.select([self._pipe], [], [], 0)[0] and self.wait(0):
            pass

    def close(self) -> None:
        """Closes this end of the pipe."""
        os.close(self._pipe)


def _follow(child: subprocess.Popen[bytes], lines: _Lines, deadline: float | None) -> bool:
    """Passes events on until the child has ended; False if it had not by the deadline."""
    open_pipe = True
    while child.poll() is None:
        left = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - time.monotonic())
        if left <= 0:
            return False
        if open_pipe:
            open_pipe = lines.wait(left)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(left)
    if open_pipe:
        lines.drain()
    return True


def _together(job: Job) -> str:
    return f"{len(job.members)} cases {'timed' if job.kind == 'time' else 'measured'} together"


def kill(child: subprocess.Popen[Any]) -> None:
    """Ends the child and what it started (its process group, which it leads), and waits for it; the system reaps
    the others."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    child.wait()


def _judge(code: int, garbage: str | None, last_line: str) -> tuple[Status, str | None]:
    """The status that the end of a process stands for."""
    if code == -signal.SIGKILL:
        return "oom", "killed by signal 9, most often because memory ran out"
    if code < 0:
        return "error", f"killed by signal {-code} ({_signal_name(-code)})" + (f": {last_line}" if last_line else "")
    if code:
        return "error", last_line or f"exited with {code} and said nothing"
    if garbage is not None:
        return "error", f"its answer is not readable: {garbage!r}"
    return "ok", None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _last_line(errors: IO[bytes]) -> str:
    """The last line on the child's standard error that is not blank, of at most 400 characters."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 2**16))
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""
