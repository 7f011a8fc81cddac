"""Kills a sweep at random moments, goes on with it until it is complete, and sees to it that nothing is lost, nothing
counted twice, and nobody left behind. By hand, with real measurements:

python tests/chaos.py --kills 100 --real

Or presses Ctrl-C at every line of the code that runs a sweep, one after another:

python tests/chaos.py --lines
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import types
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
FAKE: Final = Path(__file__).with_name("fake_worker.py")
SUITE: Final = """\
title = "Chaos"
rounds = 2
warmup = 1
[defaults]
model = "gpt"
method = ["standard", "checkpoint", "bdia"]
depth = DEPTHS
width = 32
heads = 2
seq = 16
batch = 2
[[cases]]
measure = MEASURE
"""
METHODS: Final = 3
INTERRUPTED: Final = ("runner.py", "supervise.py", "pipes.py", "store.py", "files.py")
PATIENCE_SECONDS: Final = 60.0
EXACT: Final = ("static_bytes", "activation_bytes", "peak_bytes", "saved_bytes", "side_bytes", "rng_bytes", "bit_exact",
                "gradient_error", "activation_parts", "peak_parts", "status", "message")  # fmt: skip
"""What two runs of a case have in common, to the byte."""


@dataclass
class Seen:
    """What happened."""

    done: Counter[str] = field(default_factory=Counter)
    """Signals by what they were sent to."""
    torn: int = 0
    """Kills that left half a line."""
    sweeps: int = 0
    starts: int = 0
    lines: int = 0
    """Records on disk at the moment of a kill, over all kills."""

    def __str__(self) -> str:
        sent = ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))
        return (
            f"{sum(self.done.values())} kills ({sent}) of {self.sweeps} sweeps in {self.starts} starts; "
            f"{self.torn} left half a line; {self.lines} records were on disk, all were kept"
        )


def main() -> None:
    """By hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="measure, rather than start children that make figures up")
    parser.add_argument("--lines", action="store_true", help="Ctrl-C at every line, instead of kills")
    given = parser.parse_args()
    # A shell starts what it runs in the background deaf to Ctrl-C, and what that starts is deaf as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        if given.lines:
            print(f"{interrupt_lines(Path(folder))} lines, each with Ctrl-C at it: nothing was lost")
            return
        print(wreak(Path(folder), kills=given.kills, seed=given.seed, real=given.real, tell=print))


def wreak(folder: Path, *, kills: int, seed: int, real: bool = False, tell: Any = lambda text: None) -> Seen:
    """Kills that often.

    Raises: AssertionError for whatever must not be.
    """
    chance, seen = random.Random(seed), Seen()
    # Real children take seconds each.
    depths, measure = ([2, 3], ["memory", "gradients"]) if real else ([2, 3, 4], ["memory", "throughput"])
    (folder / "chaos.toml").write_text(SUITE.replace("DEPTHS", str(depths)).replace("MEASURE", json.dumps(measure)))
    sweep = _Sweep(folder, "undisturbed", real, METHODS * len(depths))
    start = time.monotonic()
    assert sweep.start().wait(PATIENCE_SECONDS * 10) == 0, sweep.said()
    usual = time.monotonic() - start
    undisturbed = sweep.complete()
    tell(f"undisturbed: {len(undisturbed)} cases in {usual:.1f} s")
    while sum(seen.done.values()) < kills:
        sweep = _Sweep(folder, f"sweep{seen.sweeps}", real, METHODS * len(depths))
        seen.sweeps += 1
        while not sweep.finished():
            seen.starts += 1
            process = sweep.start()
            while process.poll() is None:
                if sum(seen.done.values()) >= kills:
                    assert process.wait(PATIENCE_SECONDS * 10) in (0, 3), sweep.said()
                    break
                try:
                    process.wait(chance.expovariate(1 / (usual * (0.1 if real else 0.2))))
                except subprocess.TimeoutExpired:
                    _strike(process, sweep, chance, seen)
                    tell(str(seen))
            sweep.inspect(seen)
        found = sweep.complete()
        assert found.keys() == undisturbed.keys()
        for case, record in found.items():
            for name in EXACT:
                assert record[name] == undisturbed[case][name], (case, name, record[name], undisturbed[case][name])
    return seen


def _strike(process: subprocess.Popen[bytes], sweep: _Sweep, chance: random.Random, seen: Seen) -> None:
    """Kills the run, or one of its children, which it survives; or ends it as people do, impatiently."""
    whom = chance.choices(
        ["parent", "parent in mid-line", "child", "Ctrl-C twice", "SIGTERM"], weights=[35, 15, 30, 10, 10]
    )[0]
    if whom == "child":
        try:
            children = psutil.Process(process.pid).children(recursive=True)
            chance.choice(children or [psutil.Process()]).send_signal(signal.SIGKILL if children else 0)
        except psutil.NoSuchProcess:  # gone by itself
            return
        if children:
            seen.done["child"] += 1
        return
    if whom == "parent in mid-line":
        while process.poll() is None and not sweep.torn():
            time.sleep(0.001)
    soft = {"Ctrl-C twice": signal.SIGINT, "SIGTERM": signal.SIGTERM}.get(whom)
    process.send_signal(soft or signal.SIGKILL)
    if whom == "Ctrl-C twice":
        time.sleep(chance.uniform(0, 0.02))
        process.send_signal(signal.SIGINT)
    code = process.wait(PATIENCE_SECONDS)
    if soft is None:
        seen.done[whom] += code == -signal.SIGKILL
    elif code in (0, 3):
        return  # it was done just then
    else:
        seen.done[whom] += 1
        # A signal that comes before the program's first line finds Python's own handlers, or Python on its way to them.
        said = sweep.said()
        starting = "Fatal Python error: init_import_site" in said or said.strip() == "KeyboardInterrupt"
        assert code in (128 + soft, -soft) or starting, (code, said)


class _Sweep:
    """One directory, and those who work on it."""

    def __init__(self, folder: Path, name: str, real: bool, cases: int) -> None:
        self._folder = folder
        self._out = folder / name
        self._errors = folder / f"{name}.stderr"
        self._real = real
        self._cases = cases
        self._mark = uuid.uuid4().hex
        self._before = b""
        self._retry = False

    def start(self) -> subprocess.Popen[bytes]:
        """Goes on with the run."""
        again = ["--rerun", "failed"] if self._retry else ["--resume"]
        line = ["run", str(self._folder / "chaos.toml"), "--device", "cpu", "--out", str(self._out), *again]
        environment = os.environ | {"CHAOS": self._mark, "FAKE_WORKER_LOG": str(self._folder / "log")}
        with self._errors.open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, __file__, "real" if self._real else "fake", *line],
                cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, env=environment,
            )  # fmt: skip

    def torn(self) -> bool:
        """Whether a line has been begun and not ended."""
        return not self._content().endswith(b"\n") and self._content() != b""

    def said(self) -> str:
        """What the last start said on stderr."""
        return self._errors.read_text()

    def inspect(self, seen: Seen) -> None:
        """Looks at what a start left behind, however it ended."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._left() and time.monotonic() < until:
            time.sleep(0.02)
        assert not self._left(), f"processes are left: {self._left()}"
        assert "Traceback" not in self.said() or "cli.main()" not in self.said(), self.said()
        content = self._content()
        assert content.startswith(self._before), "a record was lost"
        self._before = content[: content.rfind(b"\n") + 1]
        seen.torn += content != self._before
        seen.lines += self._before.count(b"\n")

    def finished(self) -> bool:
        """Whether every case is there, none failed because its child was killed, and no kill left a file half written
        behind the last of them, which the next start clears away."""
        records = self._records()
        failed = [record for record in records.values() if record["status"] != "ok"]
        self._retry = bool(failed) and len(records) == self._cases
        whole = not (self._out / "run.json.part").exists()
        return len(records) == self._cases and not failed and whole

    def complete(self) -> dict[str, dict[str, Any]]:
        """The records of a finished run, by case; nothing else is in its directory."""
        names = {file.name for file in self._out.iterdir()}
        assert names - {"figures"} == {"results.jsonl", "run.json"}, names
        json.loads((self._out / "run.json").read_text())
        for line in self._content().splitlines():
            json.loads(line)
        return self._records()

    def _records(self) -> dict[str, dict[str, Any]]:
        """The last whole line of each case."""
        lines = self._content().split(b"\n")[:-1]
        records = [json.loads(line) for line in lines]
        return {f"{record['method']} {record['depth']}": record for record in records}

    def _content(self) -> bytes:
        file = self._out / "results.jsonl"
        return file.read_bytes() if file.exists() else b""

    def _left(self) -> list[int]:
        """The processes of this run that live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("CHAOS") == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


def interrupt_lines(folder: Path, sample: int | None = None, seed: int = 0) -> int:
    """Has Ctrl-C come as each line of `INTERRUPTED` is first run, in a sweep of its own, or at some of them. Returns at
    how many.

    Raises: AssertionError for whatever must not be.
    """
    os.environ["FAKE_WORKER_LOG"] = str(folder / "log")
    lines: dict[tuple[str, int], None] = {}
    _interrupted(folder / "all", lambda line: lines.setdefault(line))
    chosen = list(lines) if sample is None else random.Random(seed).sample(list(lines), sample)
    for number, line in enumerate(chosen):
        _interrupt_line(folder / str(number), line)
    return len(chosen)


def _interrupt_line(out: Path, at: tuple[str, int]) -> None:
    files = len(os.listdir("/dev/fd"))  # noqa: PTH208

    def press(line: tuple[str, int]) -> None:
        if line == at:
            signal.raise_signal(signal.SIGINT)

    told = _interrupted(out, press)
    where = f"Ctrl-C at {at[0]}:{at[1]}"
    assert psutil.Process().children() == [], f"{where} left a process"
    assert len(os.listdir("/dev/fd")) == files, f"{where} left a file open"  # noqa: PTH208
    results = out / "results.jsonl"
    content = results.read_bytes() if results.exists() else b""
    assert content == b"" or content.endswith(b"\n"), f"{where} left half a line"
    assert not out.exists() or {file.name for file in out.iterdir()} <= {"results.jsonl", "run.json"}, where
    assert told <= [json.loads(line)["method"] for line in content.splitlines()], where
    _interrupted(out, lambda line: None)
    assert results.read_bytes().startswith(content), f"{where} lost a record"
    methods = [json.loads(line)["method"] for line in results.read_bytes().splitlines()[len(content.splitlines()) :]]
    assert set(methods) | {json.loads(line)["method"] for line in content.splitlines()} == {"standard", "bdia"}, where


def _interrupted(out: Path, on_line: Callable[[tuple[str, int]], object]) -> list[str]:
    """A sweep of two cases with `on_line` called at each line it runs: the methods whose records were told of."""
    sys.path.insert(0, str(ROOT))
    from bench import runner, signals, store
    from bench.case import Case, Plan
    from bench.events import RecordDone

    axes = dict.fromkeys(("depth", "width", "heads", "seq", "batch"), 2)
    plans = [
        Plan(
            Case(method=method, model="gpt", **axes, bits=None, vocab=256, dtype="fp32", train_steps=0, device="cpu",
                 seed=0, data=None),
            frozenset(("memory", "throughput")),
        )
        for method in ("standard", "bdia")
    ]  # fmt: skip
    settings = runner.Settings(suite="chaos", rounds=1, warmup=0, environment="", worker=FAKE)
    about = store.Run(suite="chaos", started="", arguments=[], environment={})
    told: list[str] = []

    def hear(event: object) -> None:
        if isinstance(event, RecordDone):
            told.append(event.record.method)

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        name = Path(frame.f_code.co_filename)
        if name.parent.name != "bench" or name.name not in INTERRUPTED:
            return None
        if event == "line":
            on_line((name.name, frame.f_lineno))
        return trace

    def sweep() -> None:
        with signals.deferred(), store.Store(out, about, resume=True) as opened, signals.lifted():
            runner.run(plans, opened, settings, hear)

    with signals.heeded():
        sys.settrace(trace)
        try:
            sweep()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
    return told


def drive(real: bool, line: list[str]) -> None:
    """The command line, with children that measure nothing, and lines that are written slowly enough to be torn."""
    sys.path.insert(0, str(ROOT))
    from synthetic_records import CPU

    import cli
    from bench import files, probe, session

    # Tables and figures take longer than the whole sweep.
    sys.modules["reports.report"] = types.SimpleNamespace(conclude=lambda *arguments, **options: None)  # type: ignore[assignment]

    def slowly(file: int, content: bytes) -> None:
        for start in range(0, len(content), 500):
            os.write(file, content[start : start + 500])
            time.sleep(0.005)

    setattr(files, "write", slowly)  # noqa: B010
    if not real:
        # Without pandas, whose import takes longer than the whole sweep.
        sys.modules["reports.progress"] = types.SimpleNamespace(Live=_Live)  # type: ignore[assignment]
        own = session.Session._settings
        setattr(session.Session, "_settings", lambda self: dataclasses.replace(own(self), worker=FAKE))  # noqa: B010
        setattr(probe, "probe", lambda device, threads: CPU)  # noqa: B010
    sys.argv = ["bdia-bench", *line]
    cli.main()


class _Live(contextlib.AbstractContextManager[Any]):
    def __init__(self, *arguments: object) -> None: ...

    def __exit__(self, *arguments: object) -> None: ...

    def __call__(self, event: object) -> None:
        print(type(event).__name__, file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] in (["real"], ["fake"]):
        drive(sys.argv[1] == "real", sys.argv[2:])
    else:
        main()
