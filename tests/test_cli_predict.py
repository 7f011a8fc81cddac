"""`predict` on the command line: what it refuses, what it prints and stores, what it is compared with, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from synthetic_records import CPU

import cli
from bench import fits, probe
from bench.case import Plan
from bench.fakes.figures import count

Answer = tuple[int, str, str]
Bench = Callable[..., Answer]
ROOT = Path(__file__).parent.parent
SMALL = ("--method", "standard,bdia", "--depth", "3", "--width", "36", "--heads", "3", "--seq", "17", "--batch", "3")
SUITE = """\
title = "Tiny"
question = "How much?"
[defaults]
model = "gpt"
width = 36
heads = 3
seq = 17
batch = 3
depth = [2, 3]
method = ["standard", "bdia"]
bits = 9
[[cases]]
measure = ["memory"]
"""


@pytest.fixture(autouse=True)
def a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs one command line in this process: its exit code, stdout and stderr."""
    monkeypatch.setattr(probe, "probe", lambda device, threads: CPU)

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = cli.execute([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out.replace("\u00a0", " "), err.replace("\u00a0", " ")

    return run


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nope", "unknown suite 'nope'"),
        ("quick --memory lots", "--memory 'lots': expected a size above 0 with its unit"),
        ("quick --method bdai", "did you mean 'bdia'?"),
        ("quick --depth 0", "--depth 0: expected a whole number at least 1"),
        ("quick --device cpu,cuda", "a run is on one device"),
        ("quick --resume", "name its directory with --out"),
        ("quick --against nowhere", "nowhere"),
        ("quick --depth 3 --keep 4 --method bdia", "keep 4"),
        ("quick --method standard --keep 2", "runs no block again"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, line: str, said: str) -> None:
    """What cannot be is one line with the cure, code 2, and nothing is written."""
    code, out, err = bench("predict", *line.split())
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
    assert list(Path().iterdir()) == []


def test_a_suite_that_measures_no_memory_is_refused(bench: Bench) -> None:
    """There is nothing to predict of times alone."""
    Path("fast.toml").write_text(SUITE.replace('["memory"]', '["throughput"]'))
    code, out, err = bench("predict", "fast.toml")
    assert (code, out) == (2, "")
    assert "fast.toml measures no memory" in err


def test_records_are_those_that_a_run_measures(bench: Bench) -> None:
    """A case predicted and measured on this machine has equal bytes, and is told from the other by one field."""
    Path("tiny.toml").write_text(SUITE)
    assert bench("run", "tiny.toml", "--out", "measured", "--no-figures")[0] == 0
    code, out, err = bench("predict", "tiny.toml", "--out", "predicted", "--against", "measured")
    assert code == 0, err
    assert "predicted beside measured" in out
    assert "Predicted to the byte: 4 cases." in out
    both = [
        [json.loads(line) for line in (Path(name) / "results.jsonl").read_text().splitlines()]
        for name in ("predicted", "measured")
    ]
    for one, other in zip(*both, strict=True):
        assert (one["predicted"], other.get("predicted", False)) == (True, False)
        for name in ("method", "depth", "activation_bytes", "peak_bytes", "static_bytes", "side_bytes", "parameters"):
            assert one[name] == other[name], name
        assert one.get("rss_bytes") is one.get("step_seconds") is None


def test_a_run_stands_for_its_cases(bench: Bench) -> None:
    """Given a run's directory in the place of a suite, its cases are predicted and set beside; its axes are fixed."""
    Path("tiny.toml").write_text(SUITE)
    bench("run", "tiny.toml", "--out", "measured", "--no-figures", "--depth", "2")
    code, out, err = bench("predict", "measured", "--out", "predicted")
    assert code == 0, err
    assert "Predicted to the byte: 2 cases." in out
    code, out, err = bench("predict", "measured", "--depth", "5")
    assert (code, out) == (2, "")
    assert "--depth: measured is a run, whose cases are what they are" in err


def test_predicted_and_measured_never_share_a_directory(bench: Bench) -> None:
    """Neither is added to the other, and a prediction is nothing to be compared with."""
    Path("tiny.toml").write_text(SUITE)
    bench("predict", "tiny.toml", "--out", "predicted", "--depth", "2")
    code, _, err = bench("run", "tiny.toml", "--out", "predicted", "--resume", "--depth", "2")
    assert code == 2
    assert "holds a run that is predicted, and this one is measured" in err
    code, _, err = bench("compare", "predicted", "predicted")
    assert code == 4
    assert "holds what was predicted, and nothing measured" in err


def test_what_fits_is_found_told_and_stored(bench: Bench) -> None:
    """The deepest model and the largest batch of each method: counted at that size they fit, and one more does not."""
    code, out, err = bench("predict", "quick", *SMALL, "--memory", "8MiB", "--out", "out")
    assert code == 0, err
    assert "what fits in 8MiB · predicted" in out
    assert "In 8MiB, predicted depths at batch 3 go to: standard " in out
    found = fits.read(Path("out"))
    assert [fit.case.method for fit in found] == ["standard", "bdia"]
    for fit in found:
        for axis in ("depth", "batch"):
            largest = getattr(fit, axis)
            assert largest.note is None
            assert largest.peak_bytes <= 8 * 2**20
            for more, over in ((0, False), (1, True)):
                case = msgspec.structs.replace(fit.case, **{axis: largest.size + more})
                peak = count(Plan(case, frozenset({"memory"})))["peak_bytes"]
                assert (peak > 8 * 2**20) is over
                assert over or peak == largest.peak_bytes
    code, again, err = bench("report", "out")
    assert (code, "what fits in 8.0 MiB" in again) == (0, True), err


def test_offload_is_a_row_that_says_why(bench: Bench) -> None:
    """What is moved off a card is known on one alone: that is a status, and no figure."""
    code, out, _ = bench("predict", "quick", *SMALL, "--method", "standard,offload", "--device", "cuda", "--out", "out")
    assert code == 0
    assert "what offload moves off a card's memory is known on one alone" in out.replace("\n", " ")
    records = [json.loads(line) for line in (Path("out") / "results.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok", "unsupported"]
    assert "as on a CPU" in records[0]["message"]
    assert records[1].get("peak_bytes") is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_how_to_go_on(number: int) -> None:
    """Exit code 128 + the signal, what is kept, and a command that goes on to the same end."""
    line = ["predict", "quick", "--depth", "3,16", *SMALL[:2], *SMALL[4:], "--out", "out"]
    command = [sys.executable, "-c", "import cli; cli.main()", *line]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said = ""
    while "[1/" not in said:
        said += process.stderr.readline()
    process.send_signal(number)
    out, rest = process.communicate()
    assert (process.returncode, out) == (128 + number, "")
    assert "--resume" in rest
    kept = len((Path("out") / "results.jsonl").read_text().splitlines())
    ended = subprocess.run([*command, "--resume"], capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    assert 1 <= kept < len((Path("out") / "results.jsonl").read_text().splitlines()) == 4
