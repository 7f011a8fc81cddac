"""What fits of each case: stored as it is found, gone on with after an interruption, and failed without taking the rest
along. The child that counts is stood in for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from synthetic_records import CPU

import cli
from bench import fits, predict, probe, supervise
from bench.fit import Found
from bench.limits import Limit
from bench.protocol import Event, Finished, Job, Started
from bench.session import Request, RunInterruptedError, Session
from bench.supervise import End

SMALL = {"method": "standard,checkpoint,bdia", "depth": "3", "width": "36", "heads": "3", "seq": "17", "batch": "3"}
LIMIT = Limit("8MiB", 8 * 2**20)
FOUND = {"depth": msgspec.to_builtins(Found(7, 1000)), "batch": msgspec.to_builtins(Found(5, 900))}
SOURCE = """\
import torch

import bench


def made(case):
    torch.manual_seed({})
    model = torch.nn.Sequential(*(torch.nn.Sequential(torch.nn.Linear(8, 8)) for _ in range(2)))
    return bench.Workload(model, torch.randn(3, 8), lambda model, batch: model(batch).square().mean())
"""


class Child:
    """Answers as a child would, and keeps which methods it was asked of."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dies_at: str | None = None
        self.interrupted_at: str | None = None
        self.failing: dict[str, Finished] = {}
        self.answers: list[Finished] = []

    def run(self, job: Job, hear: Callable[[Event], None], **_: object) -> End:
        for number, plan in enumerate(job.members):
            method = plan.case.method
            hear(Started(number))
            if method == self.interrupted_at:
                raise KeyboardInterrupt
            self.asked.append(method)
            if method == self.dies_at:
                return End("error", "killed by SIGKILL", 1.0)
            said = self.answers.pop(0) if self.answers else self.failing.get(method, Finished(0, FOUND))
            hear(msgspec.structs.replace(said, member=number))
        return End("ok", None, 1.0)


@pytest.fixture(autouse=True)
def a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in an empty folder, on a machine that is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probe, "probe", lambda device, threads: CPU)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    """What stands in for the child."""
    made = Child()
    monkeypatch.setattr(supervise, "run", made.run)
    return made


def session_of(**axes: str) -> Session:
    request = Request(suite="quick", axes={**SMALL, **axes}, arguments=["predict", "quick"], out=Path("out"))
    prepared = predict.prepare(request)
    prepared.directory.mkdir(exist_ok=True)
    return prepared


def find(prepared: Session, limit: Limit = LIMIT) -> list[fits.Fit]:
    return fits.find(prepared, limit, lambda line: None)


def test_what_is_known_is_not_asked_again(child: Child) -> None:
    """A second time nothing is asked, and the answers are the same; another limit is another question, and both are
    kept."""
    first = find(session_of())
    assert [fit.case.method for fit in first] == child.asked == ["standard", "checkpoint", "bdia"]
    assert find(session_of()) == first
    assert len(child.asked) == 3
    find(session_of(), Limit("9MiB", 9 * 2**20))
    assert len(child.asked) == 6
    assert {fit.limit_bytes for fit in fits.read(Path("out"))} == {8 * 2**20, 9 * 2**20}


def test_answers_of_other_code_are_asked_again(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """What rests on other code does not stand, and gives way to what is asked now."""
    find(session_of())
    monkeypatch.setattr(fits.fingerprint, "code_digest", lambda: "another")
    find(session_of())
    assert len(child.asked) == 6
    assert len(fits.read(Path("out"))) == 3


def test_an_interruption_keeps_what_was_found(child: Child) -> None:
    """It says how many are known and the command that goes on, which asks the others alone."""
    child.interrupted_at = "bdia"
    with pytest.raises(RunInterruptedError, match=r"known of 2 of 3 cases in out; go on with: .*--resume"):
        find(session_of())
    assert [fit.case.method for fit in fits.read(Path("out"))] == ["standard", "checkpoint"]
    child.interrupted_at = None
    child.asked.clear()
    assert [fit.case.method for fit in find(session_of())] == ["standard", "checkpoint", "bdia"]
    assert child.asked == ["bdia"]


def test_a_child_that_dies_takes_one_case_along(child: Child) -> None:
    """The case it was at has failed, the others are answered, and only that one is asked again."""
    child.dies_at = "checkpoint"
    found = find(session_of())
    assert [(fit.case.method, fit.status) for fit in found] == [
        ("standard", "ok"), ("checkpoint", "error"), ("bdia", "ok"),
    ]  # fmt: skip
    assert fits.exit_code(found) == 3
    child.dies_at = None
    child.asked.clear()
    assert fits.exit_code(find(session_of())) == 0
    assert child.asked == ["checkpoint"]


def test_one_answer_is_kept_without_the_other(child: Child) -> None:
    """What can be told of the batch is told, though the depth failed; the code says that something did."""
    only = Finished(0, {"batch": FOUND["batch"]}, "error", "depth: ValueError: no such depth")
    child.failing["bdia"] = only
    *_, fit = find(session_of())
    assert fit.batch == Found(5, 900)
    assert (fit.depth, fit.status, fit.message) == (None, "error", "depth: ValueError: no such depth")
    assert fits.exit_code([fit]) == 3


def test_nothing_private_is_stored(child: Child, tmp_path: Path) -> None:
    """Neither the case nor a message has a path of this machine."""
    (tmp_path / "mine.bin").write_bytes(bytes([1, 0]) * 500)
    child.failing["bdia"] = Finished(0, {}, "error", f"cannot read {tmp_path}/elsewhere")
    request = Request(
        suite="quick", axes=SMALL, arguments=[], data=str(tmp_path / "mine.bin"), out=Path("out"),
    )  # fmt: skip
    prepared = predict.prepare(request)
    prepared.directory.mkdir()
    find(prepared)
    assert str(tmp_path) not in (Path("out") / fits.FITS).read_text()


def test_two_models_of_one_name_are_two(child: Child, tmp_path: Path) -> None:
    """Files of one name in two folders are stored by it, and each has its answer."""
    (tmp_path / "here").mkdir()
    models = []
    for number in (1, 2):
        file = tmp_path / f"{number}" / "mine.py"
        file.parent.mkdir()
        file.write_text(SOURCE.format(number))
        models.append(f"{file}:made")
    os.chdir(tmp_path / "here")
    request = Request(
        suite="model", axes={"model": ",".join(models), "method": "standard"}, arguments=[], out=Path("out"),
    )  # fmt: skip
    prepared = predict.prepare(request)
    prepared.directory.mkdir()
    child.answers = [Finished(0, {**FOUND, "batch": msgspec.to_builtins(Found(size, 9))}) for size in (11, 22)]
    first = find(prepared)
    assert [fit.batch and fit.batch.size for fit in first] == [11, 22]
    assert first[0].case == first[1].case
    child.answers = []
    assert find(prepared) == first
    assert len(child.asked) == 2


def test_a_file_that_cannot_be_written_is_one_line(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrong and what to do, and no traceback."""

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fits.files, "replace", full)
    with pytest.raises(fits.UsageError, match=r"fits.jsonl: No space left on device; make room, then go on"):
        find(session_of())


def test_a_file_of_another_kind_is_refused(child: Child) -> None:
    """It is not overwritten."""
    prepared = session_of()
    (Path("out") / fits.FITS).write_text("{}\n")
    with pytest.raises(fits.UsageError, match=r"fits.jsonl: not what predict --memory writes"):
        find(prepared)


def command(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[int, str, str]:
    code = cli.execute(list(line))
    out, err = capsys.readouterr()
    return code, out.replace("\u00a0", " "), err


def test_stages_are_of_as_many_blocks_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A ResNet's deepest is a multiple of 3 that fits, and the next one does not."""
    line = ["--model", "resnet", "--method", "standard", "--depth", "6", "--width", "8", "--batch", "3"]
    code, out, err = command(capsys, "predict", "quick", *line, "--out", "out", "--memory", "2500KiB")
    assert code == 0, err
    assert "In 2500KiB, predicted depths at batch 3 go to: standard " in out
    found = fits.read(Path("out"))
    for fit in found:
        assert fit.depth is not None
        assert fit.depth.size is not None
        assert fit.depth.size % 3 == 0
        for depth, within in ((fit.depth.size, True), (fit.depth.size + 3, False)):
            told = command(capsys, "predict", "quick", *line, "--method", fit.case.method, "--depth", str(depth),
                           "--out", f"{fit.case.method}-{depth}")  # fmt: skip
            assert told[0] == 0
            record = json.loads((Path(f"{fit.case.method}-{depth}") / "results.jsonl").read_text())
            assert (record["peak_bytes"] <= 2500 * 2**10) is within


def test_a_checkpoint_has_the_depth_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    """How large its batch may be is told, and of its depth that there is nothing to choose."""
    transformers = pytest.importorskip("transformers")

    config = transformers.GPT2Config(vocab_size=300, n_positions=16, n_embd=24, n_layer=3, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained("ckpt")
    code, out, err = command(
        capsys, "predict", "quick", "--model", "hf:./ckpt", "--depth", "3", "--width", "24", "--heads", "2", "--seq",
        "16", "--batch", "2", "--method", "standard", "--out", "out", "--memory", "4MiB",
    )  # fmt: skip
    assert code == 0, err
    (fit,) = fits.read(Path("out"))
    assert fit.depth is not None
    assert (fit.depth.size, fit.depth.note) == (None, "a checkpoint has the depth that it has, 3")
    assert fit.batch is not None
    assert fit.batch.size is not None
    assert "In 4MiB, predicted batches at depth 3 go to: standard " in out
