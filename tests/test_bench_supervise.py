"""One child process, run to its end, whatever that is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest
from synthetic_records import case

from bench import supervise
from bench.case import Plan
from bench.protocol import Event, Finished, Job, Kind, Started

FAKE = Path(__file__).with_name("fake_worker.py")


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, str]], None]:
    """Sets how the fake worker behaves."""
    monkeypatch.setenv("FAKE_WORKER_LOG", str(tmp_path / "log"))

    def behave(behaviours: dict[str, str]) -> None:
        monkeypatch.setenv("FAKE_WORKER", json.dumps(behaviours))

    behave({})
    return behave


Behave = Callable[[dict[str, str]], None]


def job(*methods: str, kind: Kind = "measure") -> Job:
    members = tuple(Plan(case=case(method), measure=frozenset(("memory",))) for method in methods)
    return Job(kind=kind, members=members, rounds=3, warmup=1, threads=2, events=-1)


def run(todo: Job, *, timeout_seconds: float | None = 60.0, worker: Path = FAKE) -> tuple[supervise.End, list[Event]]:
    events: list[Event] = []
    return supervise.run(todo, events.append, timeout_seconds=timeout_seconds, worker=worker), events


def is_running(pid: int) -> bool:
    """Whether the process lives; one that is dead and not yet reaped does not."""
    status = Path(f"/proc/{pid}/stat")
    if sys.platform == "linux":
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
    return subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False).returncode == 0


def wait_until(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
    return done()


def test_events_come_in_order(behave: Behave) -> None:
    """What the child says of each member arrives, in order."""
    end, events = run(job("standard", "bdia"))
    assert (end.status, end.message) == ("ok", None)
    assert [(type(event), event.member) for event in events] == [
        (Started, 0), (Finished, 0), (Started, 1), (Finished, 1),
    ]  # fmt: skip


def test_what_a_model_prints_is_no_event(behave: Behave) -> None:
    """Standard output and error of the child do not mix with its events."""
    behave({"measure bdia": "chatty"})
    end, events = run(job("bdia"))
    assert end.status == "ok"
    assert len(events) == 2


@pytest.mark.parametrize(
    ("behaviour", "status", "message"),
    [
        ("crash", "error", "RuntimeError: it broke"),
        ("kill", "oom", "killed by signal 9, most often because memory ran out"),
        ("segfault", "error", "killed by signal 11 (SIGSEGV)"),
        ("garbage", "error", "its answer is not readable: '\ufffd\ufffd not an event'"),
    ],
)
def test_each_way_to_die_has_its_status(behave: Behave, behaviour: str, status: str, message: str) -> None:
    """A crash, a signal and an unreadable answer are told apart, in one line."""
    behave({"measure bdia": behaviour})
    end, _ = run(job("bdia"))
    assert (end.status, end.message) == (status, message)


@pytest.mark.parametrize(("limit", "status"), [(2**20, "oom"), (None, "error")])
def test_no_memory_for_threads_is_the_limits_doing(behave: Behave, limit: int | None, status: str) -> None:
    """Where a limit to memory was asked for, a library that cannot start its threads has run out of it."""
    behave({"measure bdia": "threadless"})
    end, _ = run(msgspec.structs.replace(job("bdia"), memory_limit=limit))
    assert (end.status, end.message) == (status, "libgomp: Thread creation failed: Resource temporarily unavailable")


def test_a_child_that_hangs_is_killed_with_all_it_started(behave: Behave) -> None:
    """After the timeout a child that ignores SIGTERM is gone, and so are its own children that hold its pipe."""
    behave({"measure bdia": "stubborn"})
    start = time.monotonic()
    end, events = run(job("bdia"), timeout_seconds=1.0)
    assert time.monotonic() - start < 20
    assert (end.status, end.message) == ("timeout", "not done after 1 s; allow more with --timeout")
    assert events == [Started(0)]


def test_what_a_child_leaves_behind_is_killed(behave: Behave, tmp_path: Path) -> None:
    """A process that the child started and left ends with it, although it holds the pipe open."""
    behave({"measure bdia": "orphan"})
    end, events = run(job("bdia"))
    assert end.status == "ok"
    assert len(events) == 2
    left = int((tmp_path / "orphan").read_text())
    assert wait_until(lambda: not is_running(left))


def test_an_interrupt_kills_the_child_and_goes_on(behave: Behave, tmp_path: Path) -> None:
    """Ctrl-C while a child runs: the child is gone, and KeyboardInterrupt is passed on."""
    behave({"measure bdia": "stubborn"})
    log = tmp_path / "log"

    def interrupt() -> None:
        wait_until(log.exists)
        os.kill(os.getpid(), signal.SIGINT)

    before = psutil.Process().children(recursive=True)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(job("bdia"))
    assert psutil.Process().children(recursive=True) == before


def test_no_file_is_left_open(behave: Behave) -> None:
    """Neither pipes nor temporary files stay open after a child, however it ended."""
    folder = Path("/dev/fd")
    run(job("bdia"))
    before = len(list(folder.iterdir()))
    for behaviour in ("ok", "crash", "garbage"):
        behave({"measure bdia": behaviour})
        run(job("bdia"))
    run(job("bdia"), worker=FAKE.with_name("nowhere.py"))
    assert len(list(folder.iterdir())) == before


def test_a_worker_that_is_not_there_is_an_error() -> None:
    """A child that cannot begin is an error with what Python said."""
    end, events = run(job("bdia"), worker=FAKE.with_name("nowhere.py"))
    assert end.status == "error"
    assert end.message is not None
    assert "nowhere.py" in end.message
    assert events == []


def test_children_that_time_keep_their_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that time get a malloc that keeps its pages, the others the user's; threads do not spin for long."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, sys\njob = json.loads(sys.stdin.readline())\n"
        "names = ('MALLOC_MMAP_MAX_', 'MALLOC_TRIM_THRESHOLD_', 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')\n"
        "fields = {name: os.environ.get(name) for name in names}\n"
        "event = {'type': 'finished', 'member': 0, 'fields': fields}\n"
        "os.write(job['events'], json.dumps(event).encode() + b'\\n')\n"
    )
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)

    def settings(kind: Kind) -> list[object]:
        _, (event,) = run(job("bdia", kind=kind), worker=worker)
        assert isinstance(event, Finished)
        return list(event.fields.values())

    assert settings("time") == ["0", "-1", None, "30000"]
    assert settings("measure") == [None, None, "passive", None]
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert settings("measure") == [None, None, "active", None]


def test_a_timeout_of_several_cases_says_what_each_may_take(behave: Behave) -> None:
    """Cases that share a child may take the seconds of one for each of them, and the message says so."""
    behave({"time bdia": "stubborn"})
    end, _ = run(job("standard", "bdia", kind="time"), timeout_seconds=0.5)
    assert (end.status, end.message) == (
        "timeout", "not done after 1 s (0.5 s for each of 2 cases timed together); allow more with --timeout",
    )  # fmt: skip
