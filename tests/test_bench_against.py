"""A commit beside the working tree: what is laid out and run for each side, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from synthetic_records import CPU, case, full

import cli
from bench import against, check
from bench.errors import BaselineError, BenchError, UsageError
from bench.session import RunInterruptedError
from bench.store import Run
from bench.tolerance import Tolerances

ROOT = Path(__file__).parent.parent
SUITE = 'title = "Tiny"\n[[cases]]\nmethod = "bdia"\nmodel = "gpt"\n'


def git(*words: str) -> str:
    own = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *own, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tool(folder: Path) -> Path:
    """The fake tool, in `folder`."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "fake_tool.py", folder / "cli.py")
    record = full(case(), activation_bytes=12345678)
    (folder / "record.template").write_bytes(msgspec.json.encode(record))
    environment = msgspec.to_builtins(CPU)
    run = Run(suite="tiny", started="2026-01-01T00:00:00Z", arguments=["run", "tiny.toml"], environment=environment)
    (folder / "run.template").write_bytes(msgspec.json.encode(run))
    return folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's repository, whose commit `v1` holds 1000 bytes and whose working tree 2000; the tool lies elsewhere."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("FAKE_TOOL_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(against, "ROOT", tool(tmp_path / "tool"))
    top = tmp_path / "repository"
    (top / "sub").mkdir(parents=True)
    monkeypatch.chdir(top)
    Path("tiny.toml").write_text(SUITE)
    Path("model.toml").write_text(f"{SUITE}\n[cpu]\nmodel = 'lost.py:step'\nmethod = 'lost.py:RULE'\n")
    Path("train.py").write_text("")
    Path("sub/tiny.toml").write_text(SUITE)
    Path("bytes").write_text("1000")
    Path("sub/bytes").write_text("1500")
    commit("v1")
    Path("bytes").write_text("2000")
    return top


def commit(tag: str) -> None:
    """Commits everything, as `tag`."""
    if not Path(".git").exists():
        git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", tag)
    git("tag", tag)


def behave(how: str) -> None:
    """Has commit `v2` behave so, and the working tree well."""
    Path("behaviour").write_text(how)
    commit("v2")
    Path("behaviour").write_text("ok")


def asked(suite: str = "tiny.toml", revision: str = "v1", **more: object) -> against.Request:
    return against.Request(suite, revision, **({"axes": {}} | more))


def measured(request: against.Request) -> tuple[tuple[int | None, int | None], list[str]]:
    """The bytes of both sides, and what was said."""
    said: list[str] = []
    sides = against.measure(request, said.append)
    (base,), (head,) = sides.base.records, sides.head.records
    return (base.activation_bytes, head.activation_bytes), said


def lines(tmp_path: Path) -> list[list[str]]:
    """What the fake tool was started with: its code's folder, the current one, and the words."""
    return [line.split(" ") for line in (tmp_path / "log").read_text().splitlines()]


def nothing_behind(tmp_path: Path) -> bool:
    """Whether neither a file nor a worktree is; torch's own cache of compiled code is no one else's business."""
    assert [path for path in (tmp_path / "tmp").iterdir() if not path.name.startswith("torchinductor_")] == []
    return len(git("worktree", "list").splitlines()) == 1


def test_the_commit_is_measured_beside_changes_that_are_not_committed(repository: Path, tmp_path: Path) -> None:
    """The base is the commit's tree and the head the working tree as it is, with one code and the same words."""
    before = git("status", "--porcelain")
    found, said = measured(asked(axes={"depth": "2,4"}, timeout="60.0"))
    assert found == (1000, 2000)
    name = f"v1 ({git('rev-parse', 'v1')[:12]})"
    assert said == [f"{name}:", "[1/1] a row of progress", "the working tree:", "[1/1] a row of progress"]
    (code, there, *words), (same_code, here, *same_words) = lines(tmp_path)
    assert (code, words) == (same_code, same_words)
    assert code == str(tmp_path / "tool")
    assert words == ["run", "tiny.toml", "--depth", "2,4", "--timeout", "60.0", "--no-figures"]
    assert there.startswith(str(tmp_path / "tmp"))
    assert here == str(repository)
    assert git("status", "--porcelain") == before
    assert nothing_behind(tmp_path)


def test_the_verdict_is_on_the_working_tree(repository: Path) -> None:
    """More bytes in the working tree than in the commit are a regression, with the commit's name for a baseline."""
    found = against.judge(against.measure(asked(), lambda line: None), Tolerances())
    assert not found.passed
    assert [(one.metric, one.old, one.new) for one in found.regressions] == [("activation_bytes", 1000, 2000)]
    assert (found.run, found.suite) == ("the working tree", "tiny.toml")
    assert found.baseline.startswith("v1 (")
    assert found.reruns[found.regressions[0].case].startswith("bdia-bench run tiny.toml --method bdia")


def test_check_against_is_a_command(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`check SUITE --against REV` exits with the verdict, progress on stderr and JSON last on stdout; a tolerance
    counts here as well."""
    line = ["check", "tiny.toml", "--against", "v1", "--timeout", "60", "--out", "kept", "--json"]
    assert cli.execute(line) == 1
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert (found["verdict"], found["run"], found["counts"]["worse"]) == ("failed", "the working tree", 1)
    assert found["baseline"].startswith("v1 (")
    assert err.splitlines()[-1] == "[1/1] a row of progress"
    assert "--update" not in out
    assert cli.execute(["check", "tiny.toml", "--against", "v1", "--tolerance", "1KiB"]) == 0


def test_the_tools_own_repository_runs_the_code_of_each_side(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the tool's own repository, and in a worktree of it, the commit's code measures the commit."""
    tool(repository)
    Path("own").write_text("")
    commit("own")
    Path("bytes").write_text("3000")
    monkeypatch.setattr(against, "ROOT", repository)
    assert measured(asked(revision="own"))[0] == (2000, 3000)
    git("worktree", "add", "-q", str(tmp_path / "beside"))
    monkeypatch.chdir(tmp_path / "beside")
    Path("bytes").write_text("4000")
    assert measured(asked(revision="own"))[0] == (2000, 4000)
    assert [line[0] for line in lines(tmp_path)[1::2]] == [str(repository), str(tmp_path / "beside")]
    monkeypatch.chdir(repository)
    with pytest.raises(UsageError, match=r"v1 \(.*\) has no cli.py"):
        measured(asked())


def test_decoys_of_the_folder_lose(repository: Path) -> None:
    """A `cli.py`, `bench` or `bdia` in the repository of a user is not what runs."""
    for name in ("cli.py", "bench.py", "bdia.py", "subprocess.py"):
        Path(name).write_text("raise SystemExit('a decoy')")
    commit("decoys")
    assert measured(asked(revision="decoys"))[0] == (2000, 2000)


def test_it_starts_in_any_folder_of_the_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of the repository both sides run in that folder, which the commit must have."""
    monkeypatch.chdir("sub")
    assert measured(asked())[0] == (1500, 1500)
    (repository / "new").mkdir()
    monkeypatch.chdir(repository / "new")
    with pytest.raises(UsageError, match=r"v1 \(.*\) has no folder new"):
        measured(asked("../tiny.toml"))


def test_files_are_those_of_either_side_however_they_are_named(repository: Path, tmp_path: Path) -> None:
    """Suite, model and method files are read in each side's tree, also where they are given as absolute paths; files
    from outside the repository serve both, and so do data that git does not hold."""
    (tmp_path / "outside.py").write_text("")
    Path("text.txt").write_text("data")
    axes = {"model": f"gpt,{repository}/train.py:step,hf:gpt2", "method": f"bdia,{tmp_path}/outside.py:NAIVE"}
    measured(asked(f"{repository}/tiny.toml", axes=axes, data="./text.txt"))
    (_, _, *words), (_, _, *same) = lines(tmp_path)
    assert words == same
    models, methods = "gpt,train.py:step,hf:gpt2", f"bdia,{tmp_path}/outside.py:NAIVE"
    assert words == ["run", "tiny.toml", "--model", models, "--method", methods, "--data", "text.txt", "--no-figures"]


def test_nothing_is_left_out_of_the_commit(repository: Path) -> None:
    """Files that `git archive` would leave out are laid out as well."""
    Path(".gitattributes").write_text("bytes export-ignore\n")
    commit("ignoring")
    assert measured(asked(revision="ignoring"))[0] == (2000, 2000)


def test_filters_work_as_in_any_checkout(repository: Path) -> None:
    """What git keeps in another form, as Git LFS does, is laid out as people see it."""
    Path(".gitattributes").write_text("bytes filter=swapped\n")
    git("config", "filter.swapped.clean", "sed s/2000/kept/")
    git("config", "filter.swapped.smudge", "sed s/kept/2000/")
    commit("filtered")
    assert git("show", "filtered:bytes") == "kept"
    assert measured(asked(revision="filtered"))[0] == (2000, 2000)


def test_submodules_are_said_to_be_empty(repository: Path, tmp_path: Path) -> None:
    """A commit with a submodule is measured without it, and says so."""
    git("clone", "-q", str(repository), str(tmp_path / "other"))
    git("submodule", "--quiet", "add", str(tmp_path / "other"), "vendored")
    commit("modules")
    found, said = measured(asked(revision="modules"))
    assert found == (2000, 2000)
    assert said[0].endswith("submodules are not laid out, and empty there: vendored")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (asked(revision="v9"), "--against 'v9': no commit of this repository"),
        (asked(revision="--all"), "--against '--all': no commit"),
        (asked(revision="v1^{tree}"), "no commit"),
        (asked("new.toml"), r"v1 \(.*\) has no new.toml: give what both sides have"),
        (asked("none.toml"), "none.toml: not there in the working tree"),
        (asked(axes={"model": "new.py:step"}), r"has no new.py"),
        (asked("model.toml"), r"v1 \(.*\) has no lost.py, a model of its model.toml: give .* with --model, or a later"),
        (asked("model.toml", axes={"model": "gpt"}), r"v1 \(.*\) has no lost.py, a method of its model.toml"),
        (asked("tinny"), "unknown suite 'tinny'"),
        (asked(axes={"depth": "four"}), "--depth 'four'"),
        (asked(data="none.txt"), "none.txt: not there"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_runs(
    repository: Path, tmp_path: Path, request_: against.Request, said: str
) -> None:
    """A revision, a suite, a file or an axis that is not there is a usage error, and nothing was started."""
    Path("new.toml").write_text(SUITE)
    Path("new.py").write_text("")
    with pytest.raises(UsageError, match=said) as caught:
        against.measure(request_, lambda line: None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "log").exists()
    assert nothing_behind(tmp_path)


def test_without_a_repository_or_git_it_is_one_line(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside a repository, and without git, one line says what is missing."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--against: not a git repository"):
        against.measure(asked(), lambda line: None)
    monkeypatch.setenv("PATH", str(tmp_path / "tmp"))
    with pytest.raises(UsageError, match="--against needs git, and there is none on PATH"):
        against.measure(asked(), lambda line: None)


@pytest.mark.parametrize(
    ("behaviour", "code", "said"),
    [
        ("old", 2, r"v2 \(.*\) cannot be measured: unknown option --gamma: see"),
        ("crash", 5, r"v2 \(.*\) cannot be measured: RuntimeError: it broke"),
        ("kill", 5, "cannot be measured: killed by signal 9"),
    ],
)
def test_a_side_that_fails_is_one_line(repository: Path, tmp_path: Path, behaviour: str, code: int, said: str) -> None:
    """A side whose code does not know an option, raises or dies is one line with its last words, and nothing stays."""
    behave(behaviour)
    with pytest.raises(BenchError, match=said) as caught:
        against.measure(asked(revision="v2"), lambda line: None)
    assert caught.value.exit_code == code
    assert nothing_behind(tmp_path)


def test_a_case_that_failed_is_compared_all_the_same(repository: Path) -> None:
    """A run that ends with the exit code of a failed case is a side like any other."""
    behave("failed case")
    assert measured(asked(revision="v2"))[0] == (2000, 2000)


def test_what_an_older_commit_does_not_record_is_said(repository: Path) -> None:
    """A field that the commit's code does not know is not compared, and named; the rest is compared."""
    behave("lacking")
    found = against.judge(against.measure(asked(revision="v2"), lambda line: None), Tolerances())
    assert found.ungated == ("gradient_error",)
    assert {"activation_bytes", "peak_bytes", "bit_exact"} <= {one.metric for one in found.comparisons}
    assert found.passed


def test_sides_of_two_environments_are_compared_only_where_that_is_allowed(repository: Path) -> None:
    """Two sides whose code measured with other thread counts are exit code 4, unless it is allowed."""
    sides = against.measure(asked(), lambda line: None)
    sides.head.environment["threads"] = 4  # type: ignore[index]
    with pytest.raises(BaselineError, match=r"threads 2 in v1 .* 4 in the working tree.*--allow-environment-mismatch"):
        against.judge(sides, Tolerances())
    assert against.judge(sides, Tolerances(), any_environment=True).mismatch


def test_a_commit_of_another_schema_cannot_be_compared(repository: Path) -> None:
    """Records of a schema that the working tree's code does not read are exit code 4."""
    behave("newer schema")
    with pytest.raises(BaselineError, match=r"v2 \(.*\) cannot be compared: .*schema version 99"):
        against.measure(asked(revision="v2"), lambda line: None)


def test_rates_need_something_that_was_timed(repository: Path) -> None:
    """`--rates` of a commit that was not timed beside `standard` is refused rather than passed."""
    sides = against.measure(asked(), lambda line: None)
    with pytest.raises(BaselineError, match=r"--rates: nothing of v1 .* was timed beside standard"):
        against.judge(sides, Tolerances(), rated=True)


def test_both_runs_are_kept_where_that_is_asked(repository: Path, tmp_path: Path) -> None:
    """`--out` keeps both runs, and refuses a folder that holds some before anything runs."""
    assert measured(asked(out=Path("kept")))[0] == (1000, 2000)
    assert {path.name for path in Path("kept").iterdir()} == {"base", "head"}
    assert nothing_behind(tmp_path)
    with pytest.raises(UsageError, match="--out 'kept' holds an earlier base"):
        against.measure(asked(out=Path("kept")), lambda line: None)
    assert len(lines(tmp_path)) == 2


DRIVER = """\
import sys
sys.path.insert(0, {root!r})
import cli
from bench import against, launch
from pathlib import Path
against.ROOT, launch.GRACE_SECONDS = Path({tool!r}), 0.5
sys.exit(cli.execute(["check", "tiny.toml", "--against", "v2", "--json"]))
"""


@pytest.mark.parametrize(
    ("behaviour", "signals", "codes"),
    [
        ("wait", [signal.SIGINT], {130}),
        ("wait", [signal.SIGINT, signal.SIGINT, signal.SIGINT], {130}),
        ("wait", [signal.SIGTERM], {143}),
        ("wait", [signal.SIGTERM, signal.SIGINT], {143, 130}),  # both may be there when the first is looked at
        ("wait", [signal.SIGHUP], {129}),
        ("stubborn", [signal.SIGINT], {130}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_interruption_leaves_nothing_behind(
    repository: Path, tmp_path: Path, behaviour: str, signals: list[signal.Signals], codes: set[int]
) -> None:
    """After Ctrl-C, pressed once or often, SIGTERM or SIGHUP no process, no folder and no worktree is left, and one
    line says that nothing is kept."""
    behave(behaviour)
    status = git("status", "--porcelain")
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(root=str(ROOT), tool=str(tmp_path / "tool"))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    pids = tmp_path / "pids"
    while not pids.exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    for number in signals:
        child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode in codes, err
    assert err.splitlines()[-1].startswith("bdia-bench: interrupted")
    assert "nothing is kept" in err
    assert "Traceback" not in err
    assert f'"exit_code": {child.returncode}' in out.splitlines()[-1]
    for pid in map(int, pids.read_text().split()):
        gone(pid)
    assert nothing_behind(tmp_path)
    assert git("status", "--porcelain") == status
    assert not list(Path(".git").glob("*.lock"))


def test_a_parent_that_is_killed_takes_the_side_along(repository: Path, tmp_path: Path) -> None:
    """SIGKILL can clean nothing up, but the processes end."""
    behave("wait")
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(root=str(ROOT), tool=str(tmp_path / "tool"))], stderr=subprocess.DEVNULL
    )
    pids = tmp_path / "pids"
    while not pids.exists():
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    for pid in map(int, pids.read_text().split()):
        gone(pid)


def gone(pid: int) -> None:
    """Waits until a process is."""
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            process.wait(30)
    except psutil.NoSuchProcess:
        pass


TRAIN = """\
import torch
import bench

def step(case):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    batch = torch.ones(EXTRA, 4)
    return bench.Workload(model, batch, lambda model, batch: model(batch).sum(), blocks=list(model))
"""


def test_a_users_model_is_measured_by_the_tool_itself(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training step in a file is the commit's for the commit, and measured for real, to the byte: 64 more rows in
    each of four tensors of 4 floats."""
    monkeypatch.setattr(against, "ROOT", ROOT)
    Path("train.py").write_text(TRAIN.replace("EXTRA", "64"))
    own = 'title = "Own"\n[[cases]]\nmeasure = ["memory"]\nmethod = "standard"\nmodel = "train.py:step"\n'
    Path("own.toml").write_text(own)
    commit("real")
    Path("train.py").write_text(TRAIN.replace("EXTRA", "128"))
    sides = against.measure(asked("own.toml", "real", axes={"device": "cpu"}), lambda line: None)
    (base,), (head,) = sides.base.records, sides.head.records
    assert (base.status, head.status, base.model) == ("ok", "ok", "train.py:step")
    assert base.activation_bytes is not None
    assert head.activation_bytes == base.activation_bytes + 4 * 64 * 4 * 4
    assert nothing_behind(tmp_path)
    assert isinstance(against.judge(sides, Tolerances()), check.Verdicts)


def test_an_older_tool_is_not_asked_to_leave_out_figures(repository: Path, tmp_path: Path) -> None:
    """What does not know --no-figures draws them."""
    code = tmp_path / "tool" / "cli.py"
    code.write_text(code.read_text().replace("--no-figures", "nothing"))
    measured(asked())
    assert [words for _, _, *words in lines(tmp_path)] == [["run", "tiny.toml"]] * 2


def test_a_git_that_is_being_started_is_ended_too(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the moment in which it has been started and nobody knows of it yet is heeded a little later."""
    started: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def interrupted(*given: object, **options: object) -> subprocess.Popen[str]:
        child: subprocess.Popen[str] = start(*given, **options)
        started.append(child)
        os.kill(os.getpid(), signal.SIGINT)
        return child

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(RunInterruptedError):
        against.measure(asked(), lambda line: None)
    (child,) = started
    assert child.returncode is not None
