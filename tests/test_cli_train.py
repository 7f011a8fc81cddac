"""`train` on the command line: what it refuses, what it prints, how it is gone on with, and runs that train."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import CPU

import cli
from bench import curves, probe, store, train_session
from bench.train_run import Settings

FAKE = Path(__file__).with_name("fake_trainer.py")
ROOT = Path(__file__).parent.parent
FILE = """
title = "Mine"
seeds = 2
[defaults]
model = "gpt"
depth = 2
width = 8
heads = 2
seq = 8
batch = 2
steps = 10
dropout = 0.1
eval_every = 5
eval_batches = 1
checkpoint_every = 5
[[arms]]
name = "standard"
method = "standard"
[[arms]]
name = "bdia"
method = "bdia"
"""
Answer = tuple[int, str, str]
Bench = Callable[..., Answer]


@pytest.fixture(autouse=True)
def a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in a folder with an experiment in it."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(FILE)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    """Runs one command line in this process, with children that train nothing: its exit code, stdout and stderr."""
    monkeypatch.setattr(probe, "probe", lambda device, threads: CPU)
    monkeypatch.setattr(train_session, "Settings", functools.partial(Settings, worker=FAKE))
    monkeypatch.setenv("FAKE_TRAINER_LOG", str(tmp_path / "log"))

    def run(*arguments: object, **behaviours: str) -> Answer:
        monkeypatch.setenv(
            "FAKE_TRAINER", json.dumps({name.replace("_", " "): how for name, how in behaviours.items()})
        )
        Path("log").write_text("")
        capsys.readouterr()
        code = cli.execute([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def asked() -> list[str]:
    """What children were asked, in order."""
    return Path("log").read_text().splitlines()


def records(directory: str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(directory) / store.RESULTS).read_text().splitlines()]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "missing argument 'EXPERIMENT|FILE.toml'"),
        ("tabel1", "unknown experiment 'tabel1': did you mean 'table1'?"),
        ("other.toml", "experiment file 'other.toml': No such file or directory"),
        ("broken.toml", "broken.toml: not valid TOML"),
        ("unknown.toml", "unknown.toml: [[arms]] 2: unknown key 'metod': did you mean 'method'?"),
        ("mine.toml --steps 0", "--steps '0': expected a whole number, at least 1"),
        ("mine.toml --seeds 0", "--seeds '0': expected a whole number, at least 1"),
        ("mine.toml --timeout 0", "--timeout '0': expected seconds above 0"),
        ("mine.toml --resume", "--resume goes on with a run: name its directory with --out"),
        ("mine.toml --arms bdai", "--arms: unknown arm 'bdai': did you mean 'bdia'?"),
        ("mine.toml --device gpu", "--device 'gpu': expected one of auto, cpu, cuda"),
        ("mine.toml --data nothing.txt", "data 'nothing.txt' is not there"),
        ("table1 --full", "table1: arm standard: no data is given: this is about CIFAR-10; give with --data"),
        ("fig3 --full", "train.bin and val.bin"),
        ("mine.toml --batch 4", "unknown option --batch"),
    ],
)
def test_what_is_wrong_is_one_line(line: str, said: str, bench: Bench) -> None:
    """Whatever cannot be trained is refused before anything is written, with exit code 2."""
    Path("broken.toml").write_text("title = ")
    Path("unknown.toml").write_text(FILE.replace('method = "bdia"', 'metod = "bdia"'))
    code, out, err = bench("train", *line.split())
    assert code == 2
    assert said in err
    assert out == ""
    assert err.count("\n") == 1
    assert not Path("results").exists()


def test_arms_are_trained_and_recorded(bench: Bench) -> None:
    """Memory is measured of an arm's first seed, all of them are trained, and the records say of what they are."""
    code, _, err = bench("train", "mine.toml", "--out", "out", "--no-figures")
    assert code == 0
    assert asked() == [
        "probe standard 0", "train standard 0", "probe bdia 0", "train bdia 0", "train standard 1", "train bdia 1",
    ]  # fmt: skip
    found = records()
    assert [(one["arm"], one["seed"], one["activation_bytes"]) for one in found] == [
        ("standard", 0, 1000), ("bdia", 0, 1000), ("standard", 1, None), ("bdia", 1, None),
    ]  # fmt: skip
    for one in found:
        assert one["experiment"] == "mine"
        assert one["suite"] == "experiment mine"
        assert (one["recipe"]["steps"], one["train_steps"], one["recipe"]["dropout"]) == (10, 10, 0.1)
        assert one["validation_loss"] == 1.25
    assert "mine, small form, as this is a CPU (--full is the paper's): 2 arms of 2 seeds" in err
    assert "[4/4] bdia seed 1" in err
    assert "validation 1.5000" in err


def test_who_asks_a_cpu_for_days_is_told_so(bench: Bench) -> None:
    """The full form on a CPU says in its first line how long it takes, and what takes less."""
    assert (
        "mine, full form, which takes days on a CPU (--small takes minutes)" in bench("train", "mine.toml", "--full")[2]
    )
    assert "mine, small form: 2 arms" in bench("train", "mine.toml", "--small")[2]


def test_what_is_done_is_not_done_again(bench: Bench) -> None:
    """A run that is gone on with trains what is lacking alone, and one whose recipe has changed trains anew."""
    assert bench("train", "mine.toml", "--seeds", 1, "--out", "out", "--no-figures")[0] == 0
    code, _, err = bench("train", "mine.toml", "--out", "out", "--resume", "--no-figures")
    assert code == 0
    assert asked() == ["train standard 1", "train bdia 1"]
    assert "2 of 4 are trained already" in err
    code, _, err = bench(
        "train", "mine.toml", "--out", "out", "--resume", "--steps", 9, "--arms", "bdia", "--no-figures"
    )
    assert code == 0
    assert asked() == ["probe bdia 0", "train bdia 0", "train bdia 1"]
    assert bench("train", "mine.toml", "--out", "out")[0] == 2
    code, _, err = bench("train", "fig3", "--out", "out", "--resume")
    assert code == 2
    assert "holds a run of suite experiment mine" in err


def test_what_failed_is_a_row_and_is_taken_up_again(bench: Bench) -> None:
    """An arm that fails leaves the others alone, makes the code 3, and keeps its checkpoints for --resume."""
    lines = ("train", "mine.toml", "--seeds", 1, "--out", "out", "--no-figures")
    code, _, _ = bench(*lines, train_standard="kill", probe_bdia="oom")
    assert code == 3
    assert asked() == ["probe standard 0", "train standard 0", "probe bdia 0"]
    assert [(one["status"], one["activation_bytes"]) for one in records()] == [("oom", 1000), ("oom", None)]
    assert Path("out/checkpoints/standard-0/step-5").is_dir()
    assert bench(*lines, "--resume")[0] == 0
    assert {one["status"] for one in records()[2:]} == {"ok"}
    assert os.listdir("out/checkpoints/standard-0") == ["model.safetensors"]  # noqa: PTH208


def test_an_interruption_says_how_to_go_on(bench: Bench) -> None:
    """Ctrl-C ends with 130, how far it was, and the command that goes on."""

    def interrupt() -> None:
        until = time.monotonic() + 30
        while not Path("out/checkpoints/bdia-0/step-5").exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code, _, err = bench("train", "mine.toml", "--seeds", 1, "--out", "out", train_bdia="wait")
    thread.join()
    assert code == 130
    last = err.splitlines()[-1]
    assert "interrupted: 1 of 2 trainings are done in out, and bdia at seed 0 up to step 5" in last
    assert last.endswith("go on with: bdia-bench train mine.toml --seeds 1 --out out --resume")


def test_a_dry_run_lists_what_would_be_trained(bench: Bench) -> None:
    """It trains nothing and writes nothing."""
    code, out, _ = bench("train", "mine.toml", "--dry-run", "--arms", "bdia")
    assert code == 0
    assert out.splitlines()[-1] == "2 trainings; nothing was trained (--dry-run)"
    assert out.startswith("bdia seed 0: 10 steps: bdia gpt depth=2")
    assert asked() == []
    assert not Path("results").exists()


def test_an_arm_that_cannot_be_is_a_row(bench: Bench) -> None:
    """A γ that a method cannot invert makes its arm unsupported, with the reason, and the others are trained."""
    Path("mine.toml").write_text(FILE.replace('method = "bdia"', 'method = "bdia"\ngamma = 0.6'))
    assert bench("train", "mine.toml", "--seeds", 1, "--out", "out", "--no-figures")[0] == 0
    _, bdia = records()
    assert bdia["status"] == "unsupported"
    assert "gamma 0.6: bdia inverts bit for bit" in bdia["message"]


def command(directory: Path, *more: str) -> list[str]:
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); import cli; cli.main()"
    arguments = ["train", "mine.toml", "--steps", "60", "--seeds", "1", "--arms", "bdia", "--no-figures"]
    return [sys.executable, "-c", start, str(ROOT), *arguments, "--device", "cpu", "--out", str(directory), *more]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "mine.toml").write_text(FILE)
    done = subprocess.run(command(folder / "out"), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.parametrize("lines", [4, 17])
def test_a_run_that_was_killed_ends_with_the_same_weights(lines: int, whole: Path, tmp_path: Path) -> None:
    """Killed outright after some step, and gone on with, a run has the weights and curves of one that was not."""
    with subprocess.Popen(command(tmp_path / "cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        written, until = tmp_path / "cut" / curves.CURVES, time.monotonic() + 120
        while time.monotonic() < until and (not written.exists() or written.read_bytes().count(b"\n") < lines):
            time.sleep(0.005)
        run.kill()
    assert records(str(tmp_path / "cut")) == []
    first = json.loads((tmp_path / "cut" / "run.json").read_text())
    done = subprocess.run(command(tmp_path / "cut", "--resume"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    begun = "goes on from its checkpoint" in done.stderr
    assert begun == ("starting afresh" not in done.stderr)
    if begun:  # the first start is told of still, and this one beside it
        again = json.loads((tmp_path / "cut" / "run.json").read_text())
        assert (again["started"], again["arguments"]) == (first["started"], first["arguments"])
        assert [one["arguments"][-1] for one in again["resumed"]] == ["--resume"]
    (expected,), (found,) = records(str(whole)), records(str(tmp_path / "cut"))
    assert found["weights_digest"] == expected["weights_digest"]
    assert found["validation_loss"] == expected["validation_loss"]
    assert values(tmp_path / "cut") == values(whole)


def values(directory: Path) -> dict[tuple[object, ...], float | None]:
    """The curves but for times."""
    return {point.key: point.value for point in curves.read(directory) if point.name != "step_seconds"}
