"""Functions of the user's: `FILE.py:FUNCTION` and `pkg.mod:FUNCTION`, what they may return, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from measuring import measured
from test_bench_worker import job, run

import bench
import cli
from bench import fingerprint, models, private, probe, resolve, suite
from bench.case import Case, Plan
from bench.errors import UsageError
from bench.stored_run import load
from bench.workload import build

BLOCKS = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.2))

    def forward(self, x):
        return x + self.layers(x)

class Net(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x
"""
TRAIN = (
    BLOCKS
    + """
import bench

def mean_square(model, batch):
    return (model(batch["x"]) - batch["y"]).square().mean()

def workload(case):
    torch.manual_seed(case.seed)
    model = Net(case.width or 6, case.depth or 3).to(case.device)
    batch = {"x": torch.randn(4, 5, case.width or 6), "y": torch.zeros(4, 5, case.width or 6)}
    return bench.Workload(model, batch, mean_square)
"""
)


def case(model: str, method: str = "bdia", **axes: Any) -> Case:
    nothing = dict.fromkeys(("depth", "width", "heads", "seq", "batch", "vocab", "data"))
    fields = {"bits": 9, "dtype": "fp32", "train_steps": 0, "device": "cpu", "seed": 0}
    return Case(method=method, model=model, **(nothing | fields | axes))


@pytest.fixture(autouse=True)
def a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is empty, and Python's path is as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def one_line(call: Callable[[], object], *parts: str) -> None:
    """`call` raises a UsageError in one line that has these parts."""
    with pytest.raises(UsageError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    for part in parts:
        assert part in said


def test_a_training_step_of_ones_own_is_measured() -> None:
    """A mapping for a batch, blocks that are found, an optimiser that is made: exact, and counted."""
    Path("train.py").write_text(TRAIN)
    found = measured(Plan(case("train.py:workload"), frozenset({"memory", "reconstruction", "gradients"})))
    assert (found.status, found.message) == ("ok", None)
    assert (found.fields["bit_exact"], found.fields["gradient_error"]) == (True, 0.0)
    assert (found.fields["blocks"], found.fields["samples"], found.fields["tokens"]) == (3, 4, None)
    assert found.fields["stream_elements"] == 4 * 5 * 6
    assert found.fields["side_bytes"] == (3 - 1) * 4 * 5 * 6 // 8


def test_the_function_is_given_the_case() -> None:
    """Axes of the command line reach the function; those that were not given are None."""
    Path("train.py").write_text(TRAIN)
    assert len(build(case("train.py:workload", depth=5)).model.blocks) == 5
    overrides: dict[str, Any] = {"model": ("train.py:workload",), "depth": (2, 4), "batch": (3,)}
    plans = suite.load("model").plans(overrides, "cpu")
    assert {(plan.case.depth, plan.case.batch, plan.case.width, plan.case.seq) for plan in plans} == {
        (2, 3, None, None), (4, 3, None, None),
    }  # fmt: skip


def test_every_size_of_the_command_line_reaches_the_function() -> None:
    """No size is refused on behalf of a function: heads that do not divide the width may mean something to it."""
    Path("train.py").write_text(TRAIN)
    overrides: dict[str, Any] = {"model": ("train.py:workload",), "width": (6,), "heads": (3,), "vocab": (7,)}
    (plan, *_) = suite.load("model").plans(overrides, "cpu")
    assert (plan.case.width, plan.case.heads, plan.case.vocab) == (6, 3, 7)


def test_the_model_ends_up_in_training_mode() -> None:
    """A model that was left in eval mode, as after loading a checkpoint, is trained all the same."""
    Path("train.py").write_text(TRAIN.replace("return bench.Workload(model", "return bench.Workload(model.eval()"))
    assert build(case("train.py:workload")).model.training


def test_everything_else_may_be_given() -> None:
    """An optimiser, blocks, counts and further batches of one's own are taken as they are."""
    Path("train.py").write_text(
        TRAIN.replace(
            "mean_square)\n",
            "mean_square, torch.optim.SGD(model.parameters(), 0.1), list(model.blocks), samples=7, tokens=9, "
            "batches=lambda step: {'x': batch['x'] + step, 'y': batch['y']})\n",
        )
    )
    workload = build(case("train.py:workload", seed=5))
    assert isinstance(workload.optimizer, torch.optim.SGD)
    assert list(workload.blocks or ()) == list(workload.model.blocks)
    assert (workload.samples, workload.tokens, workload.seed) == (7, 9, 5)
    assert torch.equal(workload.batches(2)["x"], workload.batch["x"] + 2)


def test_autocast_is_the_benchs_business() -> None:
    """With `bf16-amp` the loss is computed under autocast, whatever the file does."""
    Path("train.py").write_text(TRAIN)
    seen: list[torch.dtype] = []
    workload = build(case("train.py:workload", dtype="bf16-amp"))
    workload.model.blocks[0].layers[0].register_forward_hook(lambda *hooked: seen.append(hooked[-1].dtype))
    workload.loss(workload.model, workload.batch)
    assert seen == [torch.bfloat16]
    one_line(lambda: build(case("train.py:workload", dtype="bf16")), "no parameter is bfloat16", "--dtype bf16")


@pytest.mark.parametrize(
    ("content", "name", "parts"),
    [
        (None, "gone.py:f", ("model 'gone.py:f': gone.py: No such file", "give a Python file")),
        (None, "nowhere.mod:f", ("no module nowhere.mod is found", "FILE.py:FUNCTION")),
        (None, "no_such_package:f", ("no module no_such_package is found",)),
        ("1 / 0", "f.py:g", ("f.py does not run: ZeroDivisionError",)),
        ("import sys; sys.exit('usage: f.py')", "f.py:g", ("f.py does not run: SystemExit: usage: f.py",)),
        ("from none_such import x", "f.py:g", ("does not run: ModuleNotFoundError", "none_such")),
        ("h = 3", "f.py:g", ("f.py has no g", "takes a Case and returns a bench.Workload")),
        ("g = 3", "f.py:g", ("g is a int", "expected a function")),
        ("def g(case): return 3", "f.py:g", ("returned a int", "expected a bench.Workload")),
        ("def g(): pass", "f.py:g", ("failed: TypeError",)),
        ("def g(case): raise RuntimeError('no\\n weights')", "f.py:g", ("failed: RuntimeError: no weights",)),
        ("def g(case): pass", "f.py:", ("unknown model 'f.py:'", "FILE.py:FUNCTION")),
    ],
)
def test_a_file_that_will_not_do_is_one_line(content: str | None, name: str, parts: tuple[str, ...]) -> None:
    """Whatever is wrong with the user's file or module is a usage error with the reason."""
    if content is not None:
        Path("f.py").write_text(content)
    one_line(lambda: build(case(name)), *parts)


@pytest.mark.parametrize(
    ("returned", "parts"),
    [
        ("bench.Workload(3, batch, mean_square)", ("its model is a int", "torch.nn.Module")),
        ("bench.Workload(model, {}, mean_square)", ("its batch, a dict, holds no tensor",)),
        ("bench.Workload(model, batch, 3)", ("its loss is a int",)),
        ("bench.Workload(model.requires_grad_(False), batch, mean_square)", ("no parameter of Net requires",)),
        (
            "bench.Workload(model, {name: part.to('meta') for name, part in batch.items()}, mean_square)",
            ("its batch is on meta; expected cpu",),
        ),
        ("bench.Workload(model.to('meta'), batch, mean_square)", ("its model is on meta; expected cpu",)),
    ],
)
def test_a_workload_that_will_not_do_is_one_line(returned: str, parts: tuple[str, ...]) -> None:
    """What is wrong with the parts of a workload is told as it is made."""
    Path("train.py").write_text(TRAIN.replace("bench.Workload(model, batch, mean_square)", returned))
    one_line(lambda: build(case("train.py:workload")), "train.py:workload", *parts)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("model(batch['x'])", "its loss has shape [4, 5, 6]; expected a scalar"),
        ("mean_square(model, batch).item()", "its loss returned a float; expected a scalar tensor"),
        ("mean_square(model, batch).detach()", "its loss requires no gradient"),
    ],
)
def test_a_loss_that_will_not_do_is_an_error_of_the_case(loss: str, said: str) -> None:
    """A loss without a scalar or without a graph is told in one line when it is first computed."""
    Path("train.py").write_text(TRAIN.replace("batch, mean_square)", f"batch, lambda model, batch: {loss})"))
    found = measured(Plan(case("train.py:workload"), frozenset({"memory"})))
    assert found.status == "error"
    assert (found.message or "").startswith(f"model 'train.py:workload': {said}")


def test_a_model_without_blocks_is_an_error_of_the_case() -> None:
    """Where no list of blocks is found the case says so."""
    Path("train.py").write_text(
        "import bench, torch\n"
        "def f(case):\n"
        "    return bench.Workload(torch.nn.Linear(2, 2), torch.ones(3, 2), lambda model, x: model(x).mean())\n"
    )
    found = measured(Plan(case("train.py:f"), frozenset({"memory"})))
    assert found.status == "error"
    assert "blocks" in (found.message or "")


def test_running_out_of_memory_in_the_file_is_no_error_of_it() -> None:
    """A model that does not fit counts as out of memory, as any other."""
    Path("f.py").write_text("import torch\ndef g(case): return torch.empty(2**62, dtype=torch.uint8)")
    found = measured(Plan(case("f.py:g"), frozenset({"memory"})))
    assert found.status == "oom"


def test_a_fresh_process_looks_before_anything_runs() -> None:
    """The file is run, and its function looked for, but not called; in the parent it is not even run."""
    Path("f.py").write_text("import pathlib\npathlib.Path('was_run').touch()\ndef g(case): 1 / 0")
    assert models.get("f.py:g").foreign
    models.source("f.py:g")
    assert not Path("was_run").exists()
    assert probe.introduce(["f.py:g"])["f.py:g"] == models.get("f.py:g")
    assert Path("was_run").exists()
    one_line(lambda: probe.introduce(["f.py:h"]), "f.py has no h")


def test_the_file_is_part_of_what_a_record_rests_on() -> None:
    """Another content of the file, or of the module, is another fingerprint."""
    Path("pkg").mkdir()
    for place in ("train.py", "pkg/steps.py"):
        Path(place).write_text(TRAIN)
    for name, place in (("train.py:workload", "train.py"), ("pkg.steps:workload", "pkg/steps.py")):
        plan = Plan(case(name), frozenset({"memory"}))
        options: dict[str, Any] = {"environment": "", "code": "", "data": "", "rounds": 1, "warmup": 1, "threads": 1}
        before = fingerprint.of(plan, **options)
        assert fingerprint.of(plan, **options) == before
        Path(place).write_text(TRAIN + "# changed\n")
        assert fingerprint.of(plan, **options) != before


def test_looking_a_module_up_runs_no_package_above_it() -> None:
    """The parent learns where `pkg.mod` lies without importing `pkg`, which may take torch with it."""
    Path("pkg").mkdir()
    Path("pkg/__init__.py").write_text("raise SystemExit('pkg was imported')")
    Path("pkg/steps.py").write_text(TRAIN)
    assert resolve.model_file("pkg.steps:workload") == Path("pkg/steps.py").resolve()


def test_a_child_finds_what_lies_beside_the_file_and_keeps_its_own_packages(tmp_path: Path) -> None:
    """In a child, a file imports its neighbours, and a module is found where the command was started, though a
    `bench`, a `reports` and a `cli.py` of someone else lie there."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "nets.py").write_text(BLOCKS)
    train = TRAIN.replace(BLOCKS, "from nets import Net\nimport torch\n")
    (tmp_path / "project" / "train.py").write_text(train)
    Path("nets.py").write_text(BLOCKS)
    Path("pkg").mkdir()
    Path("pkg/steps.py").write_text(train)
    for decoy in ("bench", "bdia", "reports"):
        Path(decoy).mkdir()
        Path(decoy, "__init__.py").write_text("raise SystemExit('a decoy was imported')")
    Path("cli.py").write_text("raise SystemExit('a decoy was imported')")
    for name in ("project/train.py:workload", "pkg.steps:workload"):
        found = run(job(Plan(case(name), frozenset({"gradients"}))))["bdia"]
        assert (found.status, found.fields["gradient_error"]) == ("ok", 0.0)


def test_paths_stay_private(tmp_path: Path) -> None:
    """What is stored of a model in a file or a folder is relative to where the command was started, or a bare name."""
    home = Path("/home/someone")
    for given, stored in (
        (f"{tmp_path}/sub/train.py:f", "sub/train.py:f"),
        (f"{home}/train.py:f", "train.py:f"),
        (f"hf:{tmp_path}/sub/ckpt", "hf:sub/ckpt"),
        (f"hf:{home}/ckpt", "hf:./ckpt"),
        ("pkg.mod:f", "pkg.mod:f"),
        ("hf:gpt2", "hf:gpt2"),
    ):
        assert private.case(case(given)).model == stored
        assert private.arguments(["run", "--model", f"gpt,{given}"]) == ["run", "--model", f"gpt,{stored}"]
        assert private.arguments([f"--model={given}"]) == [f"--model={stored}"]


def test_a_run_measures_it_and_shows_it_without_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """The natural command, from a file to tables, a verdict and figures, with no size to go by."""
    Path("train.py").write_text(TRAIN)
    arguments = ["run", "model", "--model", "train.py:workload", "--method", "standard,bdia", "--rounds", "1"]
    assert cli.execute([*arguments, "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "train.py:workload" in said
    assert "rebuilt every block bit for bit, and its gradients are exact" in said
    assert {record.depth for record in load(Path("run")).records} == {None}
    assert cli.execute(["report", "run", "--figures", "figures"]) == 0
    assert Path("figures/throughput.png").exists()


def test_importing_the_package_imports_no_torch() -> None:
    """`bench.Workload` and `bench.measure` are loaded when they are first used."""
    assert {"Workload", "measure"} <= set(dir(bench))
    with pytest.raises(AttributeError, match="no attribute 'measures'"):
        _ = bench.measures
