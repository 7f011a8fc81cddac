"""The command line: exit codes, one-line errors, and what each command shows. Measuring is mostly made up here."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import msgspec
import psutil
import pytest
import torch
from matplotlib.axes import Axes
from synthetic_records import CPU, full
from synthetic_records import record as bare

import cli
from bench import axes, models, probe, resolve, runner, suite
from bench.case import Plan
from bench.doctor import Finding
from bench.environment import Environment
from bench.errors import UsageError
from bench.events import RecordDone, RunEvent, RunStarted, Summary
from bench.record import Record
from bench.runner import Settings
from bench.store import Run, Store
from reports import export, figures, request
from reports.figures import output

BDIA_BENCH = Path(sysconfig.get_path("scripts")) / "bdia-bench"
REAL_PROBE = probe.probe
SMALL = ("--depth", "2,4", "--method", "standard,checkpoint,bdia", "--seed", "0", "--train-steps", "0")
SUITE = """\
title = "Small"
rounds = 2
warmup = 1
[defaults]
model = "gpt"
method = ["standard", "checkpoint", "bdia"]
depth = [2, 4]
width = 32
heads = 2
seq = 16
batch = 2
[[cases]]
"""

Answer = tuple[int, str, str]
Bench = Callable[..., Answer]
Measure = Callable[[Plan], Record]


@pytest.fixture(autouse=True)
def a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs one command line in this process: its exit code, stdout and stderr. Torch is not asked for the device."""
    monkeypatch.setattr(probe, "probe", lambda device, threads: CPU)

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = cli.execute([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return path


def make_up(monkeypatch: pytest.MonkeyPatch, measure: Measure = lambda plan: full(plan.case), stop: int = -1) -> None:
    """Has `runner.run` make records up instead of measuring; before record number `stop` comes Ctrl-C."""

    def run(plans: Sequence[Plan], store: Store, settings: Settings, tell: Callable[[RunEvent], None]) -> Summary:
        held = {record.case(): record for record in store.records()}
        tell(RunStarted(len(plans), tuple(held.values()), 0))
        for number, plan in enumerate(plans):
            if number == stop:
                raise KeyboardInterrupt
            if plan.case not in held:
                held[plan.case] = store.append(msgspec.structs.replace(measure(plan), suite=settings.suite))
                tell(RecordDone(held[plan.case], len(held), len(plans), 1.0, 60.0))
        return Summary(tuple(held[plan.case] for plan in plans), len(plans), 0, 1.0)

    monkeypatch.setattr(runner, "run", run)


def failing(status: str) -> Measure:
    """Depth 4 of `bdia` ends with `status`, all else well."""

    def measure(plan: Plan) -> Record:
        if (plan.case.method, plan.case.depth) == ("bdia", 4):
            return bare(plan.case, status=status, message="it did not fit")
        return full(plan.case)

    return measure


def error_of(answer: Answer, code: int) -> str:
    """The one line of an error, which is all that is printed."""
    assert answer[0] == code, answer
    assert answer[1] == ""
    assert answer[2].startswith("bdia-bench: ")
    assert answer[2].endswith("\n")
    assert len(answer[2].splitlines()) == 1, answer[2]
    return answer[2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rnu", "Did you mean 'run'?"),
        ("run nope", "unknown suite 'nope'"),
        ("run quikc", "did you mean 'quick'?"),
        ("run none.toml", "suite file 'none.toml'"),
        ("run --dept 4", "unknown option --dept: did you mean --depth?"),
        ("run --method bdai", "did you mean 'bdia'?"),
        ("run --model gtp", "did you mean 'gpt'?"),
        ("run --model x", "or hf:NAME, hf:PATH, timm:NAME, FILE.py:FUNCTION, pkg.mod:FUNCTION"),
        ("run --depth 0", "--depth 0: expected a whole number at least 1"),
        ("run --depth 4:64", "expected a range such as 4:64:x2"),
        ("run --depth four", "--depth 'four'"),
        ("run --batch 0", "--batch 0"),
        ("run --bits 0", "--bits 0: expected a whole number from 1 to 23"),
        ("run -l 24", "--bits 24"),
        ("run --gamma 2", "--gamma '2': expected a number g from 0 to 1 for ±g"),
        ("run --gamma foo", "--gamma 'foo'"),
        ("run --gamma 0 --method bdia", "gamma 0: bdia inverts bit for bit"),
        ("run --verify --method standard", "--verify: standard rebuilds nothing bit for bit"),
        ("doctor --depth 4", "--depth 4: expected a model beside it"),
        ("doctor --data text.txt", "--data text.txt: expected a model beside it"),
        ("doctor --model gtp", "did you mean 'gpt'?"),
        ("doctor --model gpt,vit", "2 values, and doctor looks at one case"),
        ("doctor --model gpt --gamma 0.6", "gamma 0.6: bdia inverts bit for bit"),
        ("run --width 130 --heads 4", "width 130 is not divisible by heads 4; try --width 128 or 132"),
        ("run --vocab 3", "vocab 3"),
        ("run --seed -1", "--seed -1"),
        ("run --train-steps -5", "--train-steps -5"),
        ("run --dtype fp16", "expected one of fp32, bf16-amp, bf16"),
        ("run --device tpu", "expected one of auto, cpu, cuda"),
        ("run --device cpu,cuda", "a run is on one device"),
        ("run --data none.txt", "none.txt"),
        ("run --rounds 0", "--rounds '0': expected a whole number, at least 1"),
        ("run --warmup 1.5", "--warmup '1.5'"),
        ("run --timeout soon", "--timeout 'soon': expected seconds above 0"),
        ("run --timeout 0", "--timeout '0'"),
        ("run --resume", "name its directory with --out"),
        ("run --rerun some --out x", "did you mean"),
        ("run quick fig1", "unexpected extra argument"),
        ("run --out", "requires an argument"),
        ("report", "missing argument 'DIR'"),
        ("report nowhere", "nowhere: no results.jsonl there; give the directory of a run"),
        ("report x --format xml", "one of table, markdown, csv, json, latex"),
        ("report x --figure fig1 --format csv", "figure fig1 comes as one of png, svg, pdf"),
        ("report x --format csv --caption", "csv holds data alone"),
        ("report x --size 3x2", "--figure NAME"),
        ("compare nowhere elsewhere", "nowhere: no results.jsonl there"),
        ("compare a b --tolerance lots", "tolerance 'lots': expected a share such as 0.5%"),
        ("check x", "give --baseline FILE for a run that is measured, or --against REV for a suite; not both"),
        ("check x --baseline b --against r", "not both"),
        ("check x --against r --update", "--update renews a baseline, and --against has none"),
        ("check x --baseline b --depth 4 --out d", "--depth, --out: of check --against alone"),
        ("check x --baseline b --update --junit j.xml", "--update comes to no verdict"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, line: str, said: str) -> None:
    """Bad input ends with exit code 2 and one line on stderr: the value, what was expected, what to do."""
    text = error_of(bench(*line.split()), 2)
    assert said in text or (said == "did you mean" and "expected one of failed, all" in text)


@pytest.mark.parametrize(
    ("typo", "said"),
    [
        ("dpeth = 4", "'dpeth': did you mean 'depth'?"),
        ("measure = ['memroy']", "'memroy': did you mean 'memory'?"),
        ("depth = 0", "depth 0"),
        ("depth = [", "not valid TOML"),
        ("width = 33", "width 33 is not divisible by heads 2"),
    ],
)
def test_a_suite_with_a_typo_names_file_and_key(bench: Bench, suite_file: Path, typo: str, said: str) -> None:
    """A mistake in a suite's file is one line that names the file and the key."""
    suite_file.write_text(SUITE + typo + "\n")
    text = error_of(bench("run", suite_file), 2)
    assert said in text
    assert "small" in text


def test_cuda_is_refused_where_there_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--device cuda` without a CUDA device is exit code 2, and says why and what to do."""
    monkeypatch.setattr(probe, "probe", REAL_PROBE)
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "use --device cpu or auto" in error_of(bench("run", "--device", "cuda"), 2)


def test_an_error_of_the_library_is_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that `bdia` raises on purpose reaches the user as one line, however many it had."""

    def run(*arguments: object) -> Summary:
        raise cli.BdiaError("the tape broke:\n  twice")

    monkeypatch.setattr(runner, "run", run)
    assert bench("run", *SMALL)[::2] == (2, "bdia-bench: the tape broke: twice\n")


def test_a_run_ends_with_tables_a_verdict_and_figures(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tables and one sentence go to stdout, rows to stderr as they come, figures and records to the directory."""
    make_up(monkeypatch)
    code, out, err = bench("run", *SMALL, "--out", "here")
    assert code == 0
    assert "activ." in out
    assert "checkpoint" in out
    assert out.splitlines()[-1] == f"Figures: {Path('here/figures')}"
    assert len([line for line in err.splitlines() if line.startswith("[")]) == 6
    assert "[6/6] bdia depth=4 " in err
    assert len((tmp_path / "here" / "results.jsonl").read_text().splitlines()) == 6
    assert {path.suffix for path in (tmp_path / "here" / "figures").iterdir()} == {".png", ".svg", ".csv"}


def test_a_run_without_figures_draws_none(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--no-figures` ends with tables and the sentence, which a run with figures has before their line."""
    make_up(monkeypatch)
    code, whole, _ = bench("run", *SMALL, "--out", "whole")
    assert (code, whole.splitlines()[-1][:8]) == (0, "Figures:")
    code, out, _ = bench("run", *SMALL, "--out", "here", "--no-figures")
    assert (code, out.splitlines()) == (0, whole.splitlines()[:-1])
    assert not (tmp_path / "here" / "figures").exists()


def test_a_run_remembers_what_its_suite_tolerates(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, suite_file: Path
) -> None:
    """The tolerances of the suite are in `run.json`, so that the directory is enough to judge the run by."""
    make_up(monkeypatch)
    suite_file.write_text(SUITE + '[tolerance]\npeak_bytes = "1KiB"\n')
    assert bench("run", suite_file, "--out", "here")[0] == 0
    assert json.loads(Path("here/run.json").read_text())["tolerance"] == {"peak_bytes": "1KiB"}


def test_the_directory_is_named_after_suite_and_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suite_file: Path
) -> None:
    """Without --out, a run goes to results/SUITE-TIME, and the figures are said to be there."""
    make_up(monkeypatch)
    assert bench("run", suite_file)[0] == 0
    [directory] = (tmp_path / "results").iterdir()
    assert directory.name.startswith("small-2")
    assert len(directory.name) == len("small-20240131-235959")


def test_the_arguments_are_stored(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """run.json holds the command line and the environment."""
    make_up(monkeypatch)
    bench("run", *SMALL, "--out", "here")
    run = json.loads((tmp_path / "here" / "run.json").read_text())
    assert run["arguments"] == ["run", *SMALL, "--out", "here"]
    assert run["environment"]["torch"] == "2.13.0"


@pytest.mark.parametrize(("status", "code"), [("oom", 3), ("timeout", 3), ("error", 3), ("unsupported", 0)])
def test_a_failed_case_is_a_row_and_an_exit_code(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    """A case that ends in oom, timeout or error is a row of the table, and the exit code is 3."""
    make_up(monkeypatch, failing(status))
    found, out, err = bench("run", *SMALL, "--out", "here")
    assert found == code
    assert status in out
    assert "it did not fit" in out
    assert "it did not fit" in err


@pytest.mark.parametrize("beyond", [8, 200_000])
def test_a_failed_case_far_or_near_keeps_the_exit_code(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, beyond: int
) -> None:
    """However far beyond the measured cases one fails, every figure is drawn and the exit code is 3."""
    make_up(
        monkeypatch,
        lambda plan: bare(plan.case, status="oom", message="no") if plan.case.depth == beyond else full(plan.case),
    )
    code, _, err = bench("run", "--depth", f"2,4,{beyond}", *SMALL[2:], "--out", "here")
    assert code == 3
    assert "not drawn" not in err
    drawn = {path.name for path in (tmp_path / "here" / "figures").iterdir()}
    assert {"fig1.png", "memory-depth.png", "throughput.png", "memory-speed.png"} <= drawn


def unwilling(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These figures cannot be drawn."""

    def refusing(name: str) -> figures.Drawing:
        def draw(plot: figures.Plot, ax: Axes | None) -> Axes:
            raise UsageError(f"{name} is too small")

        return dataclasses.replace(figures.FIGURES[name], draw=draw)

    monkeypatch.setattr(output, "FIGURES", {**figures.FIGURES, **{name: refusing(name) for name in names}})


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("oom", 3)])
def test_a_figure_that_fails_leaves_the_run_as_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str, code: int
) -> None:
    """A figure that cannot be drawn is a note; the others are drawn and the exit code is that of the cases."""
    make_up(monkeypatch, failing(status) if status != "ok" else lambda plan: full(plan.case))
    unwilling(monkeypatch, "fig1")
    found, out, err = bench("run", *SMALL, "--out", "here")
    assert found == code
    assert err.splitlines()[-1] == "bdia-bench: figure fig1 is not drawn: fig1 is too small"
    assert out.splitlines()[-1] == f"Figures: {Path('here/figures')}"
    drawn = {path.name for path in (tmp_path / "here" / "figures").iterdir()}
    assert "throughput.png" in drawn
    assert "fig1.png" not in drawn


def test_nothing_measured_has_a_code(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose every case was unsupported, and a directory without a record, are exit code 5."""
    make_up(monkeypatch, lambda plan: bare(plan.case, status="unsupported", message="no"))
    assert bench("run", *SMALL, "--out", "here")[0] == 5
    Path("here/results.jsonl").write_text("")
    assert "no record yet" in error_of(bench("report", "here"), 5)
    assert "no record yet" in error_of(bench("check", "here", "--baseline", "b.json"), 5)


def test_a_dry_run_lists_and_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    """`--dry-run` prints each case with what would be measured of it, and writes nothing."""
    code, out, err = bench("run", *SMALL, "--dry-run")
    assert (code, err) == (0, "")
    assert len([line for line in out.splitlines() if "memory" in line]) == 6
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_the_command_line_spares_that_of_the_suite(bench: Bench, suite_file: Path) -> None:
    """`--model` takes the place of a model that a suite names and that is not there."""
    suite_file.write_text(SUITE.replace('"gpt"', '"gone.py:workload"'))
    assert "gone.py" in error_of(bench("run", suite_file, "--dry-run"), 2)
    code, out, err = bench("run", suite_file, "--model", "gpt", "--dry-run")
    assert (code, err) == (0, "")
    assert "gone.py" not in out


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize("model", ["gpt", "train.py:workload"])
def test_data_that_is_not_there_is_noticed_before_anything_is_written(
    bench: Bench, tmp_path: Path, model: str, dry: Sequence[str]
) -> None:
    """Also for a model that reads its data itself, nothing is left behind, and a dry run says the same."""
    Path("train.py").write_text("def workload(case):\n    raise NotImplementedError\n")
    os.mkfifo("pipe")
    words = ("run", "model", "--method", "standard", "--model", model, *dry)
    assert "'nosuch' is not there" in error_of(bench(*words, "--data", "nosuch"), 2)
    assert "is no regular file" in error_of(bench(*words, "--data", "pipe"), 2)
    assert {path.name for path in tmp_path.iterdir()} == {"train.py", "pipe"}


@pytest.mark.parametrize("axis", axes.AXES, ids=lambda axis: axis.name)
def test_every_axis_is_an_option(bench: Bench, axis: axes.Axis) -> None:
    """Each axis of the table is an option of `run`, with its alias and its help."""
    out = bench("run", "--help")[1]
    assert axis.option in out
    assert axis.alias is None or axis.alias in out


def test_a_dry_run_says_what_cannot_be(bench: Bench) -> None:
    """A case of a sweep that its method cannot have is listed with the reason."""
    line = ("run", "--depth", 2, "--method", "bdia-stored,bdia", "--gamma", "0.6", "--train-steps", 0, "--seed", 0)
    lines = bench(*line, "--dry-run")[1].splitlines()
    assert "memory, throughput" in lines[0]
    assert ": unsupported, gamma 0.6: bdia inverts bit for bit" in lines[1]


def test_lists_and_ranges_reach_the_cases(bench: Bench) -> None:
    """An axis takes a list or a range on the command line, and -l is --bits."""
    out = bench("run", "--depth", "2:8:x2", "--method", "bdia", "-l", "6,9", "--train-steps", "0", "--dry-run")[1]
    for depth in (2, 4, 8):
        for bits in (6, 9):
            assert f"depth={depth} width=128 heads=4 seq=128 batch=4 bits={bits} " in out


@pytest.mark.parametrize("below", ["results.jsonl", "file"])
def test_a_directory_that_cannot_be_written_is_refused(bench: Bench, tmp_path: Path, below: str) -> None:
    """An --out below a file is one line with exit code 2."""
    (tmp_path / below).write_text("")
    assert "give a directory that can be written" in error_of(bench("run", *SMALL, "--out", f"{below}/x"), 2)


def test_another_run_is_not_overwritten(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory that holds a run is refused without --resume, kept as it is, and gone on with by --resume."""
    make_up(monkeypatch)
    bench("run", *SMALL, "--out", "here")
    before = (tmp_path / "here" / "results.jsonl").read_bytes()
    assert "go on with it by --resume" in error_of(bench("run", *SMALL, "--out", "here"), 2)
    assert (tmp_path / "here" / "results.jsonl").read_bytes() == before
    code, _, err = bench("run", *SMALL, "--out", "here", "--resume")
    assert code == 0
    assert "6 of 6 cases are measured already" in err
    assert (tmp_path / "here" / "results.jsonl").read_bytes() == before


def test_another_suite_is_not_mixed_in(bench: Bench, monkeypatch: pytest.MonkeyPatch, suite_file: Path) -> None:
    """--resume with another suite than the directory's is refused."""
    make_up(monkeypatch)
    bench("run", *SMALL, "--out", "here")
    assert "holds a run of suite quick" in error_of(bench("run", suite_file, "--out", "here", "--resume"), 2)


def test_a_torn_last_line_is_said_and_the_rest_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A results file that was cut off is reported without its last line, and stderr says so."""
    make_up(monkeypatch)
    bench("run", *SMALL, "--out", "here")
    file = Path("here/results.jsonl")
    file.write_bytes(file.read_bytes()[:-40])
    code, out, err = bench("report", "here", "--format", "csv")
    assert code == 0
    assert len(out.splitlines()) == 1 + 5
    assert "torn" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "out", [(), ("--out", "here"), ("--out=here", "--rerun=all"), ("--out", "here", "--rerun", "all")]
)
def test_ctrl_c_says_how_to_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch, out: Sequence[str]) -> None:
    """After Ctrl-C the exit code is 130, the records are kept, and the command that is given goes on with them."""
    make_up(monkeypatch, stop=2)
    code, said, err = bench("run", *SMALL, *out)
    assert (code, said) == (130, "")
    told, _, command = err.splitlines()[-1].partition("; go on with: bdia-bench ")
    assert told.startswith("bdia-bench: interrupted: 2 of 6 cases are in ")
    assert "--rerun" not in command
    make_up(monkeypatch)
    code, said, err = bench(*command.split())
    assert code == 0
    assert "2 of 6 cases are measured already" in err


def command_of(process: psutil.Process) -> str:
    """Its command line; nothing once it has ended, as short-lived children may have by the time they are looked at."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_ctrl_c_leaves_no_child(suite_file: Path) -> None:
    """Ctrl-C in the midst of a measurement ends every child process, with exit code 130 and one last line."""
    run = subprocess.Popen(
        [BDIA_BENCH, "run", suite_file, "--device", "cpu", "--out", "here"], stderr=subprocess.PIPE, text=True
    )
    try:
        parent, children = psutil.Process(run.pid), []
        until = time.monotonic() + 60
        while not children and time.monotonic() < until:
            children = [child for child in parent.children() if "worker.py" in command_of(child)]
            time.sleep(0.05)
        assert children, "no child was started"
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=30)[1]
    finally:
        run.kill()
    assert run.returncode == 130
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert said.splitlines()[-1].endswith(f"run {suite_file} --device cpu --out here --resume")
    assert "Traceback" not in said


def finish(directory: str, measure: Measure = lambda plan: full(plan.case), environment: Environment = CPU) -> str:
    """Leaves what a run of the six small cases leaves, but for its figures."""
    given = {
        name.removeprefix("--").replace("-", "_"): text for name, text in zip(SMALL[::2], SMALL[1::2], strict=True)
    }
    plans = suite.load("quick").plans({name: axes.parse(name, text) for name, text in given.items()}, "cpu")
    run = Run(
        suite="quick", started="2026-01-01T00:00:00Z", arguments=["run", *SMALL],
        environment=msgspec.to_builtins(environment),
    )  # fmt: skip
    with Store(Path(directory), run) as store:
        for plan in plans:
            store.append(measure(plan))
    return directory


@pytest.fixture
def finished() -> str:
    """The directory of a finished run of six cases."""
    return finish("finished")


@pytest.mark.parametrize(
    ("format_", "begins"),
    [("table", ""), ("markdown", ""), ("csv", "method,model,depth"), ("json", "["), ("latex", "% \\usepackage")],
)
def test_a_report_comes_in_every_format(bench: Bench, finished: str, format_: str, begins: str) -> None:
    """`report` prints the run in the format asked for, on stdout and nothing else."""
    code, out, err = bench("report", finished, "--format", format_)
    assert (code, err) == (0, "")
    assert out.startswith(begins)
    assert "checkpoint" in out


@pytest.mark.parametrize("format_", ["table", "markdown", "latex"])
def test_a_caption_says_what_where_and_how(bench: Bench, finished: str, format_: str) -> None:
    """`--caption` adds hardware, versions and command."""
    out = bench("report", finished, "--format", format_, "--caption")[1]
    for words in ("A processor", "torch 2.13.0", "bdia-bench run"):
        assert words in " ".join(out.split())


def test_one_figure_is_drawn_as_asked(bench: Bench, finished: str, tmp_path: Path) -> None:
    """`report --figure` draws that figure alone, in its format and size, with its numbers beside it."""
    line = ("report", finished, "--figure", "memory-depth", "--size", "5x3", "--format", "pdf", "--caption")
    code, out, err = bench(*line, "--figures", "drawn")
    assert code == 0
    assert out.startswith("Activation memory against depth")
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["memory-depth.csv", "memory-depth.pdf"]
    assert "memory-depth.pdf" in err


def test_all_figures_are_drawn_beside_the_table(bench: Bench, finished: str, tmp_path: Path) -> None:
    """`report --figures` prints the table and draws every figure that the run has the numbers for."""
    out = bench("report", finished, "--figures", "drawn")[1]
    assert "activ." in out
    assert {"memory-depth.png", "memory-depth.svg", "memory-depth.csv"} <= {
        path.name for path in (tmp_path / "drawn").iterdir()
    }


def test_a_report_draws_what_it_can(
    bench: Bench, finished: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all figures, one that cannot be drawn is named and stops no other; where none can be, the code is 2."""
    unwilling(monkeypatch, "fig1", "throughput")
    code, _, err = bench("report", finished, "--figures", "drawn")
    assert code == 0
    for name in ("fig1", "throughput"):
        assert f"bdia-bench: figure {name} is not drawn: {name} is too small" in err.splitlines()
    drawn = {path.stem for path in (tmp_path / "drawn").iterdir()}
    assert drawn == {"memory-depth", "memory-parts", "memory-speed", "pareto"}
    code, _, err = bench("report", finished, "--figures", "none", "--style", "none.mplstyle")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "'none.mplstyle': no such file" in err


def test_a_report_without_the_numbers_for_a_figure_says_so(bench: Bench) -> None:
    """Where there is nothing to draw the tables are printed all the same, and a line says that no figure is."""
    bare_run = finish("bare", lambda plan: bare(plan.case, samples_per_second=1.0))
    code, out, err = bench("report", bare_run, "--figures", "drawn")
    assert code == 0
    assert "checkpoint" in out
    assert err.splitlines() == ["bdia-bench: no figure is drawn: these cases have the numbers for none"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--figure fig9", "expected one of fig1"),
        ("--figure fig1 --size huge", "such as 3.25x2.2"),
        ("--figure fig1 --style none.mplstyle", "no such file"),
        ("--figure memory-width", "this run has none"),
    ],
)
def test_a_figure_that_cannot_be_is_one_line(bench: Bench, finished: str, options: str, said: str) -> None:
    """A figure that is not known or has no numbers, and a size or a style that is none, are exit code 2."""
    assert said in error_of(bench("report", finished, *options.split()), 2)


def heavier(plan: Plan) -> Record:
    """`bdia` at depth 4 takes one byte more at its peak."""
    record = full(plan.case)
    if (plan.case.method, plan.case.depth) != ("bdia", 4) or record.peak_bytes is None:
        return record
    return msgspec.structs.replace(record, peak_bytes=record.peak_bytes + 1)


def test_compare_shows_two_runs_side_by_side(bench: Bench, finished: str) -> None:
    """`compare` counts verdicts, shows the worse case, and is no gate."""
    finish("head", heavier)
    code, out, err = bench("compare", finished, "head")
    assert (code, err) == (0, "")
    assert "worse" in out
    assert out.splitlines()[-1] == "finished -> head: 24 same, 1 worse"
    assert bench("compare", finished, "head", "--tolerance", "1B")[1].splitlines()[-1].endswith(": 25 same")


def test_compare_tells_of_another_environment(bench: Bench, finished: str) -> None:
    """Runs of two environments are compared all the same, and stderr says in what they differ."""
    finish("head", environment=msgspec.structs.replace(CPU, torch="2.14.0"))
    code, _, err = bench("compare", finished, "head")
    assert code == 0
    assert "torch 2.13.0 in finished, 2.14.0 in head" in err


def test_check_passes_on_the_run_that_made_the_baseline(bench: Bench, finished: str) -> None:
    """`check --update` writes the baseline, and the same run passes it."""
    code, out, _ = bench("check", finished, "--baseline", "ci/baseline.json", "--update")
    assert (code, out) == (0, "ci/baseline.json: 6 cases written\n")
    code, out, err = bench("check", finished, "--baseline", "ci/baseline.json")
    assert (code, err) == (0, "")
    assert out == "finished against ci/baseline.json: 25 same\n"


def test_check_fails_on_one_byte(bench: Bench, finished: str) -> None:
    """One byte more in one case is exit code 1, with the case, its bytes, and the command that measures it again."""
    bench("check", finished, "--baseline", "b.json", "--update")
    finish("head", heavier)
    code, out, _ = bench("check", "head", "--baseline", "b.json")
    assert code == 1
    settings, *_, worse, again, total = out.splitlines()
    assert settings.startswith("gpt · depth 4 · ")
    assert worse.startswith("worse: bdia: ")
    assert "peak_bytes" in worse
    assert worse.endswith(" bytes (+<0.01%)")
    assert total == "head against b.json: 24 same, 1 worse"
    command = again.partition("bdia-bench ")[2].split()
    code, out, _ = bench(*command, "--dry-run")
    assert code == 0
    assert "depth=4" in out
    assert len(out.splitlines()) == 2
    assert bench("check", "head", "--baseline", "b.json", "--tolerance", "0.1%")[0] == 0


def test_check_fails_on_a_case_that_newly_fails(bench: Bench, finished: str) -> None:
    """A case of the baseline that newly fails is exit code 1, by one verdict."""
    bench("check", finished, "--baseline", "b.json", "--update")
    finish("head", failing("oom"))
    code, out, _ = bench("check", "head", "--baseline", "b.json")
    assert code == 1
    assert "newly failing: bdia: ok → oom" in out
    assert out.splitlines()[-1].endswith("19 same, 1 newly failing")


def test_check_fails_on_a_case_that_is_missing(bench: Bench, finished: str) -> None:
    """A case of the baseline that the run does not have is exit code 1; one that it has beyond them is not."""
    bench("check", finished, "--baseline", "all.json", "--update")
    Path("fewer").mkdir()
    for name in ("run.json", "results.jsonl"):
        lines = Path(finished, name).read_text().splitlines(keepends=True)
        Path("fewer", name).write_text("".join(lines[:-1] if name == "results.jsonl" else lines))
    code, out, _ = bench("check", "fewer", "--baseline", "all.json")
    assert code == 1
    assert "\nmissing: bdia: ok → —\n" in out
    bench("check", "fewer", "--baseline", "few.json", "--update")
    code, out, _ = bench("check", finished, "--baseline", "few.json")
    assert code == 0
    assert "\nnew: bdia: — → ok\n" in out


def test_check_tells_of_gains(bench: Bench, finished: str) -> None:
    """Less memory than the baseline passes, is shown, and the command that keeps the gain is given and does so."""
    finish("head", heavier)
    bench("check", "head", "--baseline", "b.json", "--update")
    code, out, _ = bench("check", finished, "--baseline", "b.json")
    assert code == 0
    assert "better: bdia: " in out
    command = out.splitlines()[-1].partition("`bdia-bench ")[2].rstrip("`").split()
    code, out, _ = bench(*command)
    assert code == 0
    assert out.splitlines()[-1] == "b.json: 6 cases written, 1 better"


def test_check_without_a_baseline_has_a_code_of_its_own(bench: Bench, finished: str) -> None:
    """No baseline is exit code 4, and so is one of another machine."""
    assert "write one with --update" in error_of(bench("check", finished, "--baseline", "none.json"), 4)
    bench("check", finished, "--baseline", "b.json", "--update")
    Path("b.json").write_text(Path("b.json").read_text().replace('"threads": 2', '"threads": 8'))
    text = error_of(bench("check", finished, "--baseline", "b.json"), 4)
    assert "threads 8 there, 2 here" in text


def test_check_ends_with_its_json_line(bench: Bench, finished: str) -> None:
    """`--json` makes the verdict the last line of stdout, below what people read, with the exit code in it."""
    bench("check", finished, "--baseline", "b.json", "--update")
    finish("head", heavier)
    _, said, _ = bench("check", "head", "--baseline", "b.json")
    code, out, err = bench("check", "head", "--baseline", "b.json", "--json")
    assert (code, err) == (1, "")
    *above, last = out.splitlines(keepends=True)
    assert "".join(above) == said
    found = json.loads(last)
    assert (found["verdict"], found["exit_code"], found["run"], found["baseline"]) == ("failed", 1, "head", "b.json")
    assert [one["verdict"] for one in found["comparisons"]].count("worse") == found["counts"]["worse"] > 0


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("check {finished} --baseline none.json --json", 4, "no baseline none.json"),
        ("check nowhere --baseline b.json --json", 2, "nowhere"),
        ("check {finished} --json", 2, "give --baseline FILE"),
        ("check {finished} --baseline b.json --json --junti x.xml", 2, "did you mean --junit"),
        ("check {finished} --baseline b.json --json --junit /dev/null/x.xml", 2, "--junit '/dev/null/x.xml'"),
        ("check {finished} --against HEAD --json", 2, "--against: not a git repository"),
    ],
)
def test_an_error_of_check_is_json_as_well(
    bench: Bench, finished: str, monkeypatch: pytest.MonkeyPatch, line: str, code: int, said: str
) -> None:
    """Where a check comes to no verdict, the last line says why, beside the line on stderr; GitHub is told too."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    bench("check", finished, "--baseline", "b.json", "--update")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    answer, out, err = bench(*line.format(finished=finished).split())
    *_, annotation, last = out.splitlines()
    found = json.loads(last)
    assert (answer, found["verdict"], found["exit_code"], found["comparisons"]) == (code, "error", code, [])
    assert said in found["error"]
    assert err == f"bdia-bench: {found['error']}\n"
    assert annotation.startswith("::error title=bdia-bench check::")


def test_check_writes_junit_and_tells_github(bench: Bench, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--junit` writes its file whatever the verdict, and GitHub gets its summary and annotations."""
    bench("check", finished, "--baseline", "b.json", "--update")
    finish("head", heavier)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    code, out, err = bench("check", "head", "--baseline", "b.json", "--junit", "ci/junit.xml")
    assert (code, err) == (1, "")
    assert ElementTree.parse("ci/junit.xml").getroot().find("testsuite/testcase/failure") is not None
    assert "::error title=peak_bytes worse::" in out
    assert Path("summary.md").read_text().startswith("## Memory gate: ")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/dev/null/summary.md")
    code, out, err = bench("check", finished, "--baseline", "b.json", "--junit", "ci/junit.xml")
    assert code == 0
    assert ElementTree.parse("ci/junit.xml").getroot().find("testsuite/testcase/failure") is None
    assert err.startswith("bdia-bench: no summary in GITHUB_STEP_SUMMARY: /dev/null/summary.md: ")


def test_the_formats_are_those_of_the_reports() -> None:
    """What `--format` offers without importing the reports is what they can do."""
    assert ("table", *export.EXPORTS, "html") == request.FORMATS
    assert figures.FORMATS == request.PICTURES


def test_the_list_names_everything(bench: Bench) -> None:
    """`list` names suites, methods, peers and models."""
    code, out, err = bench("list")
    assert (code, err) == (0, "")
    for name in (*suite.names(), *resolve.names(), *models.names(), *models.FORMS):
        assert f"  {name} " in out


def test_no_arguments_show_the_help(bench: Bench) -> None:
    """The bare command shows its help."""
    code, out, _ = bench()
    assert code == 0
    assert "Usage: bdia-bench" in out


@pytest.mark.parametrize("broken", [False, True])
def test_the_doctor_says_whether_it_can_measure(bench: Bench, monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    """`doctor` is exit code 0 where something can be measured, and 5 where nothing can."""
    findings = [
        Finding("memory", "", size_bytes=2**34),
        Finding("cuda", "none", "missing", "get a card"),
        *([Finding("torch", "not there", "broken", "install it")] if broken else []),
    ]
    monkeypatch.setattr("bench.doctor.examine", lambda threads: iter(findings))
    code, out, err = bench("doctor")
    assert code == (5 if broken else 0)
    assert "16.0 GiB" in out
    assert "get a card" in out
    assert ("can measure" in out) == (not broken)
    assert err.count("\n") == broken


@pytest.mark.parametrize("health", ["ok", "broken"])
def test_the_doctor_says_whether_a_model_can_be_trained(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, health: Literal["ok", "broken"]
) -> None:
    """`doctor --model` is exit code 0 where all is well with the model, and 3 where something is broken."""
    asked: list[Plan] = []
    monkeypatch.setattr("bench.examination.examine", lambda plan, threads: asked.append(plan))
    monkeypatch.setattr("bench.examination.findings", lambda case, found: iter([Finding("blocks", "12", health)]))
    code, out, err = bench("doctor", "--model", "gpt", "--depth", 12, "-l", 6, "--gamma", ".25")
    assert code == (0 if health == "ok" else 3)
    assert (asked[0].case.method, asked[0].case.depth, asked[0].case.bits, asked[0].case.gamma) == (
        "bdia",
        12,
        6,
        "0.25",
    )
    assert ("gpt can be trained with bdia as it is." in out) == (health == "ok")
    assert err.count("\n") == (health == "broken")


def into(stdout: int, *line: object, unbuffered: str = "") -> tuple[int, str]:
    """Runs the installed command with that stdout: its exit code and stderr."""
    done = subprocess.run(
        [BDIA_BENCH, *map(str, line)], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_reader_who_leaves_is_no_error() -> None:
    """A closed pipe, as behind `| head`, ends the command in silence."""
    read, write = os.pipe()
    os.close(read)
    try:
        assert into(write, "list") == (0, "")
    finally:
        os.close(write)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["--version", "run --help", "report finished", "report finished --format csv"])
def test_a_full_disk_behind_stdout_is_one_line(finished: str, line: str, unbuffered: str) -> None:
    """Output that cannot be written is exit code 2 and one line, whenever it is that Python writes it."""
    with Path("/dev/full").open("w") as full_disk:
        code, said = into(full_disk.fileno(), *line.split(), unbuffered=unbuffered)
    assert code == 2
    assert said.startswith("bdia-bench: ")
    assert "No space left on device" in said
    assert len(said.splitlines()) == 1


def test_a_reader_who_leaves_hides_no_regression(bench: Bench, finished: str) -> None:
    """The gate has closed by the time its output meets a closed pipe."""
    bench("check", finished, "--baseline", "b.json", "--update")
    finish("head", heavier)
    read, write = os.pipe()
    os.close(read)
    try:
        assert into(write, "check", "head", "--baseline", "b.json") == (1, "")
    finally:
        os.close(write)


def test_a_run_in_a_folder_of_decoys(tmp_path: Path, suite_file: Path) -> None:
    """A real run, from a folder with other modules of our names, measures every case with our own code."""
    for name in ("bench", "reports", "bdia", "suites"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('decoy')")
    for name in ("cli.py", "torch.py", "suite.py"):
        (tmp_path / name).write_text("raise SystemExit('decoy')")
    line = [BDIA_BENCH, "run", suite_file, "--device", "cpu", "--depth", "2", "--method", "standard,bdia", "--out", "o"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "decoy" not in done.stdout + done.stderr
    records = [json.loads(line) for line in (tmp_path / "o" / "results.jsonl").read_text().splitlines()]
    assert [(record["method"], record["status"]) for record in records] == [("standard", "ok"), ("bdia", "ok")]
    assert records[1]["bit_exact"] is True
    assert records[1]["gradient_error"] == 0.0
