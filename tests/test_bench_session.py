"""Sessions: what an interruption leaves behind, at the start and in mid-run, and what is said of it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from synthetic_records import full

from bench import limits, probe, runner, session, signals
from bench.case import Plan
from bench.environment import capture
from bench.errors import UsageError
from bench.events import RunEvent, Summary
from bench.runner import Settings
from bench.session import Request, RunInterruptedError
from bench.store import Store

SLOW_PROBE = """\
import subprocess, sys, time
from pathlib import Path
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # of a slow probe"])
Path("started").touch()
time.sleep(600)  # slow probe
"""
"""A probe that takes its time, and has started a process of its own."""
REQUEST = Request(
    suite="quick", axes={"depth": "2", "method": "standard,bdia", "seed": "0", "train_steps": "0"}, out=Path("out"),
    arguments=["run", "--depth", "2", "--out", "out"],
)  # fmt: skip
INTERRUPTS = pytest.mark.parametrize(
    ("which", "code", "said"),
    [
        (signal.SIGINT, 130, "interrupted: "),
        (signal.SIGTERM, 143, "interrupted by SIGTERM: "),
        (signal.SIGHUP, 129, "interrupted by SIGHUP: "),
    ],
)


@pytest.fixture(autouse=True)
def a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


def slow_probes() -> list[int]:
    """The processes that SLOW_PROBE makes."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if "slow probe" in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def send_when(ready: Callable[[], bool], which: signal.Signals) -> threading.Thread:
    """Sends this process the signal as soon as `ready`; or never, rather than when nobody heeds it."""

    def send() -> None:
        until = time.monotonic() + 20
        while not ready() and time.monotonic() < until:
            time.sleep(0.01)
        if signal.getsignal(which) is not signal.SIG_DFL:
            os.kill(os.getpid(), which)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@INTERRUPTS
def test_an_interruption_at_the_start_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, which: signal.Signals, code: int, said: str
) -> None:
    """Ctrl-C, SIGTERM and SIGHUP while the environment is probed end the probe and what it started, in one line."""
    monkeypatch.setattr(probe, "_CODE", SLOW_PROBE)
    before = signal.getsignal(which)
    thread = send_when(Path("started").exists, which)
    with pytest.raises(RunInterruptedError) as caught:
        session.prepare(REQUEST)
    thread.join()
    assert caught.value.exit_code == code
    assert str(caught.value) == f"{said}nothing was measured yet; give the same command again"
    assert signal.getsignal(which) == before
    until = time.monotonic() + 20
    while slow_probes() and time.monotonic() < until:  # the system takes a moment to end what was killed
        time.sleep(0.02)
    assert slow_probes() == []


@INTERRUPTS
def test_an_interruption_in_mid_run_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, which: signal.Signals, code: int, said: str
) -> None:
    """The line tells how many of this run's cases are stored, and the command that goes on; whatever other cases the
    directory holds do not count."""

    def run(plans: Sequence[Plan], store: Store, settings: Settings, tell: Callable[[RunEvent], None]) -> Summary:
        store.append(full(plans[0].case))
        store.append(full(msgspec.structs.replace(plans[0].case, depth=99)))
        if signal.getsignal(which) is not signal.SIG_DFL:
            os.kill(os.getpid(), which)
            time.sleep(20)
        raise AssertionError("nobody heeds the signal")

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(probe, "probe", lambda device, threads: capture("cpu", threads=threads))
    prepared = session.prepare(REQUEST)
    with pytest.raises(RunInterruptedError) as caught:
        prepared.measure(lambda event: None, lambda message: None)
    assert caught.value.exit_code == code
    assert str(caught.value) == (
        f"{said}1 of 2 cases are in out; go on with: bdia-bench run --depth 2 --out out --resume"
    )


def test_only_the_first_of_two_signals_counts() -> None:
    """A second signal does not cut short what the first one began, and afterwards all is as it was."""
    done = []
    before = [signal.getsignal(which) for which in signals.HEEDED]

    @signals.heeded()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("cleaned up")

    with pytest.raises(signals.Terminated) as caught:
        work()
    assert (signals.number(caught.value), done) == (signal.SIGHUP, ["cleaned up"])
    assert [signal.getsignal(which) for which in signals.HEEDED] == before


IMPATIENT = """
import os, signal, sys
import cli
from bench import errors

own = cli.execute

def press(frame, event, argument):
    signal.raise_signal(signal.SIGINT)
    return press

def execute(arguments):
    def answer(arguments):
        signal.raise_signal(signal.SIGTERM)
    cli._answer = answer
    code = own(arguments)
    frame = sys._getframe()
    while frame:
        frame.f_trace = press
        frame = frame.f_back
    sys.settrace(press)
    return code

cli.execute = execute
sys.argv[1:] = ["run"]
cli.main()
"""


LATE = """
import os, signal, sys
import cli

class Late:  # than Python gives up handlers of its own
    def __del__(self, kill=os.kill, me=os.getpid(), which=signal.SIGINT):
        kill(me, which)

def answer(arguments):
    signal.raise_signal(signal.SIGTERM)

sys.late = Late()
cli._answer = answer
sys.argv[1:] = ["run"]
cli.main()
"""


def test_no_signal_spoils_the_end_of_an_interrupted_program() -> None:
    """Ctrl-C at each line that runs after the answer to a signal, or as Python ends: one line of what happened, and the
    exit code."""
    for script in (IMPATIENT, LATE):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (143, "", "bdia-bench: interrupted\n")


def test_a_signal_that_nobody_answered_is_an_exit_code() -> None:
    """As one that comes between a command's end and the program's."""
    script = "from bench import signals; import signal; raise SystemExit(signals.heeded_to_the_end(WORK))"
    for work, code in {"lambda: signal.raise_signal(signal.SIGHUP)": 129, "lambda: 3": 3}.items():
        line = [sys.executable, "-c", script.replace("WORK", work)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_all_is_as_it_was_even_after_a_signal_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first signal may come while the handlers are given back: it is raised, once all of them are."""
    before = [signal.getsignal(which) for which in signals.HEEDED]
    own = signal.signal

    def give(which: signal.Signals, handler: Any) -> Any:
        if giving_back and which is signal.SIGTERM:
            giving_back.clear()
            signal.raise_signal(signal.SIGINT)
        return own(which, handler)

    giving_back: list[bool] = []
    monkeypatch.setattr(signal, "signal", give)
    with pytest.raises(signals.Terminated), signals.heeded():
        giving_back.append(True)
    assert [signal.getsignal(which) for which in signals.HEEDED] == before
    with signals.heeded():
        signals.check()  # and it is over


def test_what_must_not_be_cut_in_two_is_finished_first() -> None:
    """A signal within `deferred` is raised at its end, within `lifted` at once, and one that was lost in a destructor
    at the next check."""
    done = []

    def work(wait: AbstractContextManager[None]) -> None:
        with signals.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("begun")
            with wait:
                done.append("finished")

    with signals.heeded():
        with pytest.raises(KeyboardInterrupt):
            work(nullcontext())
        with pytest.raises(KeyboardInterrupt):
            signals.check()
    with signals.heeded(), pytest.raises(KeyboardInterrupt):
        work(signals.lifted())
    with signals.heeded():
        signals.check()  # what an earlier run heard does not end this one
    assert done == ["begun", "finished", "begun"]


def test_who_ignores_a_signal_still_does() -> None:
    """Under nohup the end of the terminal ends no run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.heeded():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_leaves_signals_alone() -> None:
    """Where Python lets no one handle signals, a session goes on without."""
    seen: list[object] = []

    def work() -> None:
        with signals.heeded():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_in_a_thread_a_program_is_its_work() -> None:
    """Signals are none of a thread's business."""
    found: list[object] = []

    def work() -> int:
        found.append(signal.getsignal(signal.SIGTERM))
        return 3

    thread = threading.Thread(target=lambda: found.append(signals.heeded_to_the_end(work)))
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL, 3]
    with signals.heeded(), pytest.raises(signals.Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_two_runs_in_one_second_get_two_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory that is named after the time is created for one run alone, whatever the clock says."""
    monkeypatch.setattr(time, "strftime", lambda *arguments: "20250101-000000")
    monkeypatch.setattr(probe, "probe", lambda device, threads: capture("cpu", threads=threads))
    prepared = session.prepare(dataclasses.replace(REQUEST, out=None))
    assert not prepared.directory.exists()
    names = [prepared.claimed().directory.name for _ in range(3)]
    assert names == [f"quick-20250101-000000{again}" for again in ("", "-2", "-3")]
    assert dataclasses.replace(prepared, request=REQUEST, directory=Path("out")).claimed().directory == Path("out")


def test_a_memory_limit_that_would_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA a process's memory says nothing, which is said before anything is measured."""
    on_cuda = msgspec.structs.replace(capture("cpu", threads=2), device="cuda")
    monkeypatch.setattr(probe, "probe", lambda device, threads: on_cuda)
    with pytest.raises(UsageError, match="--memory-limit: it limits a process's memory on the CPU, and this run is on"):
        session.prepare(dataclasses.replace(REQUEST, memory_limit=limits.parse("4GiB")))
    assert session.prepare(REQUEST).environment.device == "cuda"
