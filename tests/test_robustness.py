"""What may happen to a run: kills, faults in children, full disks, readers that leave. Nothing is lost, nothing counted
twice, nobody left behind."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chaos
import psutil
import pytest
from synthetic_records import case
from test_bench_runner import Bench, plan

from bench import child, limits, supervise
from bench.case import Case, Plan
from bench.protocol import Event, Finished, Job

REAL = Path(child.__file__).with_name("worker.py")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_random_kills_of_a_sweep_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL to the run or a child, in mid-line too, and impatient Ctrl-C: gone on with, every record that was on disk
    is there, each case once, as without the kills, and no process is left."""
    seen = chaos.wreak(tmp_path, kills=20, seed=3)
    assert sum(seen.done.values()) == 20
    assert seen.done["parent in mid-line"]
    assert seen.torn


def test_ctrl_c_at_any_line_loses_nothing(tmp_path: Path) -> None:
    """Wherever in the run, the pipes and the store an interruption comes, no process, no open file and no torn line is
    left, every record that was told of is stored, and the run can be gone on with."""
    assert chaos.interrupt_lines(tmp_path, sample=10, seed=1) == 10


GARBAGE = {
    "binary": r"b'\x00\xff\xfe' * 100 + b'\n'",
    "half a line": r"""b'{"type": "finished", "member": 0, "fie'""",
    "no event": r"b'[1, 2]\nnull\n{}\n'",
    "another event": r"""b'{"type": "exploded", "member": 0}\n'""",
    "no member": r"""b'{"type": "finished", "member": 7, "fields": {"loss": 1.0}}\n'""",
    "a negative member": r"""b'{"type": "started", "member": -1}\n'""",
    "fields of no kind": r"""b'{"type": "finished", "member": 0, "fields": [1]}\n'""",
    "deeply nested": r"""b'{"type": "finished", "member": 0, "fields": {"loss": ' + b'[' * 10**6 + b'\n'""",
    "a surrogate": r"""b'{"type": "finished", "member": 0, "fields": {"los\\ud800": 1}}\n'""",
    "too large a number": r"""b'{"type": "finished", "member": 0, "fields": {"side_bytes": 1e999}}\n'""",
    "measured nonsense": r"""b'{"type": "measured", "member": 0, "fields": {"pekes": 1}, "doing": "x"}\n'""",
    "no end": r"b'x' * 40 * 2**20",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_on_the_pipe_costs_its_case_and_no_other(tmp_path: Path, bench: Bench, garbage: str) -> None:
    """Whatever a child writes in place of an answer makes one row that says so in one line; the next case is measured,
    and what is stored can be read and shown."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        f"import json, os, sys\nsys.path.insert(0, {str(chaos.FAKE.parent)!r})\nimport fake_worker\n"
        "job = json.loads(sys.stdin.readline())\nif job['members'][0]['case']['method'] == 'bdia':\n"
        f"    content = {garbage}\n    while content:\n        content = content[os.write(job['events'], content):]\n"
        "else:\n    fake_worker.act(job, 0, 'ok')\n"
    )
    found = bench.run([plan("bdia", ["memory"]), plan("standard", ["memory"])], worker=worker)
    assert [one.status for one in found.records] == ["error", "ok"]
    message = found.records[0].message or ""
    assert message.startswith(("its answer is not readable", "the child process ended without an answer"))
    assert len(message) < 200
    assert "\n" not in message
    message.encode()
    assert len(bench.lines()) == 2


def native(folder: Path) -> Plan:
    """A model of the user's that reads from a null pointer."""
    file = folder / "native.py"
    file.write_text("import ctypes\n\ndef workload(case):\n    ctypes.string_at(0)\n")
    axes: dict[str, Any] = dict.fromkeys(("depth", "width", "heads", "seq", "batch", "bits", "vocab", "data"))
    of = Case(method="standard", model=f"{file}:workload", dtype="fp32", train_steps=0, device="cpu", seed=0, **axes)
    return Plan(of, frozenset(("memory",)))


def measured(plan: Plan, **job: Any) -> tuple[supervise.End, list[Event]]:
    """What a real child makes of it."""
    events: list[Event] = []
    todo = Job(kind="measure", members=(plan,), rounds=1, warmup=0, threads=2, events=-1, **job)
    return supervise.run(todo, events.append, timeout_seconds=120, worker=REAL), events


def test_a_crash_in_native_code_is_told_by_its_signal(tmp_path: Path) -> None:
    """A null pointer in what a user's model calls ends its child, and the run hears which signal it was."""
    end, events = measured(native(tmp_path))
    assert (end.status, end.message) == ("error", "killed by signal 11 (SIGSEGV)")
    assert not [event for event in events if isinstance(event, Finished)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process takes")
def test_a_memory_limit_makes_a_real_oom() -> None:
    """A case that needs more than its process may have runs out of memory in its own words, on a machine that has
    plenty; without the limit it would take a GiB."""
    large = case("standard", depth=2, width=2048, heads=2, seq=8, batch=1)
    end, events = measured(Plan(large, frozenset(("memory",))), memory_limit=limits.parse("600MiB").size)
    assert end.status == "ok"
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.status, finished.fields) == ("oom", {})
    assert (finished.message or "").startswith("can't allocate memory: you tried to allocate")


@pytest.mark.parametrize("text", ["4", "0GiB", "4GB", "-1GiB", "GiB", "1e3MiB"])
def test_a_memory_limit_needs_a_unit(text: str) -> None:
    """What is no size above 0 with its unit is one line with an example."""
    with pytest.raises(limits.UsageError, match=r"expected a size above 0 with its unit, as in 4GiB or 512MiB"):
        limits.parse(text)


def test_a_memory_limit_is_bytes() -> None:
    """Units are powers of two, and fractions are taken."""
    assert [limits.parse(text).size for text in ("512KiB", "1.5 GiB")] == [2**19, 3 * 2**29]


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends who does not listen on Linux only")
def test_native_code_that_never_returns_ends_with_its_parent(tmp_path: Path) -> None:
    """A child that hangs in native code, holding Python's lock, ends when its parent is killed, and so does what it
    started."""
    hangs = (
        f"import ctypes, os, subprocess, sys; sys.path.insert(0, {str(chaos.ROOT)!r}); from bench import worker;"
        "worker.live_with_parent();"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], stdin=subprocess.DEVNULL);"
        "print('ready', flush=True); ctypes.PyDLL(None).sleep(600)"
    )
    parent = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdin=subprocess.PIPE,"
        "stdout=subprocess.PIPE, start_new_session=True); child.stdout.readline(); print('ready', flush=True);"
        "child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent, hangs], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2
        process.kill()
    until = time.monotonic() + 20
    while any(alive(one) for one in family) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(alive(one) for one in family)


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_clock_that_jumps_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits and durations go by a clock that nobody sets."""
    chance = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: chance.uniform(-1e10, 1e10))
    found = bench.run([plan("standard"), plan("bdia")], timeout_seconds=60.0)
    assert [one.status for one in found.records] == ["ok", "ok"]
    assert 0 < found.elapsed_seconds < 60
    assert all((getattr(event, "remaining_seconds", None) or 0) < 60 for event in bench.events)


class Command:
    """The command line in a process of its own, with children that make figures up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self._suite = folder / "small.toml"
        self._suite.write_text(chaos.SUITE.replace("DEPTHS", "[2, 3]").replace("MEASURE", '["memory"]'))

    def run(self, *more: str, behaviours: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Starts it."""
        environment = {"FAKE_WORKER": json.dumps(behaviours or {}), "FAKE_WORKER_LOG": str(self.folder / "log")}
        line = ["run", str(self._suite), "--device", "cpu", "--out", str(self.out), *more]
        return subprocess.Popen(
            [sys.executable, str(Path(chaos.__file__)), "fake", *line],
            env=os.environ | environment, cwd=chaos.ROOT, **options,
        )  # fmt: skip

    def answer(self, *more: str, **options: Any) -> tuple[int, str]:
        """Runs it: exit code and stderr."""
        with self.run(*more, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options) as process:
            said = process.communicate(timeout=120)[1].decode()
        return process.returncode, said

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of ten pages."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={10 * resource.getpagesize()}", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_keeps_what_was_written(command: Command, small_disk: Path) -> None:
    """A disk that fills up ends the run with exit code 2 and one line; with room it is gone on with, nothing lost."""
    command.out = small_disk / "out"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 8 * resource.getpagesize())  # what is left: a page for each of the run's files
    code, said = command.answer()
    assert code == 2, said
    last = said.splitlines()[-1]
    assert last.startswith("bdia-bench: ")
    assert "No space left on device" in last
    assert "Traceback" not in said
    kept = command.records()
    assert 0 < len(kept) < 6
    filler.unlink()
    assert command.answer("--resume")[0] == 0
    assert command.records()[: len(kept)] == kept
    assert len({(one["method"], one["depth"]) for one in command.records()}) == len(command.records()) == 6
    assert {file.name for file in command.out.iterdir()} == {"results.jsonl", "run.json"}


def test_of_two_runs_into_one_directory_the_second_is_refused(command: Command) -> None:
    """A run that another one is in the way of is exit code 2 and one line, and the other goes on undisturbed."""
    hang = {"measure bdia depth=2": "stubborn"}
    with command.run(behaviours=hang, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as first:
        until = time.monotonic() + 60
        log = command.folder / "log"
        while not (log.exists() and "measure bdia" in log.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        for again in ((), ("--resume",), ("--rerun", "all")):
            code, said = command.answer(*again)
            assert (code, said.count("\n")) == (2, 1)
            assert "another run is writing there; wait for it, or give another --out" in said
        first.send_signal(signal.SIGTERM)
        code = first.wait(60)
        assert first.stderr is not None
        assert (code, first.stderr.read().decode().splitlines()[-1].partition(":  ")[0][:12]) == (143, "bdia-bench: ")
    assert [one["method"] for one in command.records()] == ["standard", "checkpoint"]
    assert command.answer("--resume")[0] == 0
    assert len(command.records()) == 6


@pytest.mark.parametrize("how", ["left", "closed"])
def test_nobody_reading_changes_neither_results_nor_exit_code(command: Command, how: str) -> None:
    """Where the readers of stdout and stderr have left, or there never were any, the run is measured to its end, and
    its exit code is that of its cases."""
    if how == "left":
        read, write = os.pipe()
        os.close(read)
        given = {"stdout": write, "stderr": write}
    else:
        given = {"preexec_fn": lambda: os.closerange(0, 3)}
    with command.run(behaviours={"measure bdia depth=2": "oom"}, **given) as process:
        code = process.wait(120)
    if how == "left":
        os.close(write)
    assert code == 3
    assert [one["status"] for one in command.records()] == ["ok", "ok", "oom", "ok", "ok", "skipped"]
