"""Runs one child process to its end, whatever that is. Imports no torch.

A child leads a process group of its own, so that it can be killed with what it started; its events come through a
pipe of their own; its standard input is a line of life, at whose end it exits, should the parent be killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from bench import meters, signals
from bench.pipes import Pipes, printable
from bench.protocol import Event, Job, Kind
from bench.record import UNREADABLE, Status

WORKER: Final = Path(__file__).with_name("worker.py")
_REFUSED: Final = os.strerror(errno.EAGAIN)
"""What the system says where a limit leaves no memory for a thread."""
POLL_SECONDS: Final = 0.1
"""How soon the end of a child is noticed whose own children keep the pipe open."""
STUCK_SECONDS: Final = 30.0
"""How long a process that was killed is waited for."""
KEEP_PAGES: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
"""A glibc malloc that keeps its pages, as CUDA's allocator does; or page faults flatter whoever saves memory."""
WAITING: Final[Mapping[Kind, Mapping[str, str]]] = {
    "time": {"GOMP_SPINCOUNT": "30000"},
    "train": {"OMP_WAIT_POLICY": "passive"},
    "measure": {"OMP_WAIT_POLICY": "passive"},
    "examine": {"OMP_WAIT_POLICY": "passive"},
    "stacks": {"OMP_WAIT_POLICY": "passive"},
    "predict": {"OMP_WAIT_POLICY": "passive"},
    "fit": {"OMP_WAIT_POLICY": "passive"},
    "probe": {"OMP_WAIT_POLICY": "passive"},
    "confirm": {"OMP_WAIT_POLICY": "passive"},
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
    heard = _Heard(on_event)
    with signals.deferred(), contextlib.ExitStack() as held:
        try:
            (events, their_events), (errors, their_errors) = _pipe(held), _pipe(held)
            child = _start(job, their_events.fileno(), their_errors.fileno(), worker)
        except OSError as error:
            return End("error", f"the child process cannot be started: {error.strerror}", 0.0)
        try:
            number = their_events.fileno()  # the same in the child
            their_events.close()
            their_errors.close()
            assert child.stdin is not None
            pipes = Pipes(
                msgspec.json.encode(msgspec.structs.replace(job, events=number)) + b"\n",
                down=child.stdin.fileno(), up=events.fileno(), errors=errors.fileno(), on_line=heard.line,
            )  # fmt: skip
            held.callback(pipes.close)
            with signals.lifted():
                in_time = _follow(child, pipes, None if allowed is None else start + allowed)
        finally:
            kill(child)
        pipes.drain()
    seconds = time.monotonic() - start
    if not in_time:
        share = "" if len(job.members) == 1 else f" ({timeout_seconds:g} s for each of {_together(job)})"
        return End("timeout", f"not done after {allowed:g} s{share}; allow more with --timeout", seconds)
    status, message = _judge(child.returncode, heard.garbage, pipes.last_line())
    if status == "error" and job.memory_limit is not None and _REFUSED in (message or ""):
        status = "oom"  # so little that libraries could not start their threads
    return End(status, message, seconds)


def _pipe(held: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """A pipe's two ends, closed at the latest with `held`."""
    read, write = os.pipe()
    return held.enter_context(open(read, "rb", 0)), held.enter_context(open(write, "wb", 0))  # noqa: PTH123


def _start(job: Job, events: int, errors: int, worker: Path) -> subprocess.Popen[bytes]:
    environment = {**WAITING[job.kind], **os.environ}
    if job.kind in ("time", "train"):
        environment.update(KEEP_PAGES)
    return subprocess.Popen(
        [sys.executable, "-P", str(worker)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment, pass_fds=(events,),
        start_new_session=True, bufsize=0,
    )  # fmt: skip


class _Heard:
    """Takes lines for events, and remembers the first that was none."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self.garbage: str | None = None

    def line(self, line: bytes) -> None:
        """Passes on the event that a line is."""
        try:
            event: Event = msgspec.json.decode(line, type=Event)
        except UNREADABLE:
            self.garbage = self.garbage or printable(line[:400].decode(errors="replace"))[:80]
        else:
            self._on_event(event)


def _follow(child: subprocess.Popen[bytes], pipes: Pipes, deadline: float | None) -> bool:
    """Passes events on until the child has ended; False if it had not by the deadline."""
    while child.poll() is None:
        signals.check()
        left = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - time.monotonic())
        if left <= 0:
            return False
        if pipes.open:
            pipes.wait(left)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(left)
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
    with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in a driver, which the system alone can end
        child.wait(STUCK_SECONDS)


def _judge(code: int, garbage: str | None, last_line: str) -> tuple[Status, str | None]:
    """The status that the end of a process stands for."""
    if code == -signal.SIGKILL:
        return "oom", "killed by signal 9, most often because memory ran out"
    if code and meters.says_out_of_memory(last_line):
        return "oom", last_line
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
