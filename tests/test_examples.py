"""The examples run as people run them, in processes of their own, and do what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SMALL = ("--depth", "3", "--width", "32", "--seq", "32", "--batch", "4")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# On the CPU, since equal bits are asked for, and with one thread, since on a busy machine two wait for each other.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


Here = Callable[..., None]


def run(*arguments: object) -> str:
    """What `python …` prints, in the folder of the examples."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, cwd=EXAMPLES, env=os.environ | ENVIRONMENT, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Runs an example in this process: where the process is not the point, its imports need not be waited for."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def start(name: str, *options: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return start


def plain_losses(output: str) -> tuple[float, float]:
    """The plain loss before and after training."""
    found = re.search(r"plain loss ([\d.]+) before, ([\d.]+) after", output)
    assert found is not None, output
    return float(found[1]), float(found[2])


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint of `train_loop.py`."""
    model: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["model"]
    return model


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loop_ends_where_it_would_have_without_a_break(tmp_path: Path) -> None:
    """The plain loop lowers the plain loss, and resumed half way it ends with bit-equal weights."""
    whole, half, resumed = (tmp_path / name for name in ("whole.pt", "half.pt", "resumed.pt"))
    output = run("train_loop.py", *SMALL, "--steps", 20, "--save", whole)
    before, after = plain_losses(output)
    assert after < before - 0.3
    run("train_loop.py", *SMALL, "--steps", 10, "--save", half)
    run("train_loop.py", *SMALL, "--steps", 20, "--resume", half, "--save", resumed)
    assert same(weights(resumed), weights(whole))
    assert not same(weights(half), weights(whole))


def test_the_loop_trains_with_the_method_it_is_given(tmp_path: Path, here: Here) -> None:
    """`checkpoint` ends with the weights of `standard`, `bdia` with those of its stored twin, and the two differ."""
    ends = {}
    for method in ("standard", "checkpoint", "bdia", "bdia-stored"):
        path = tmp_path / f"{method}.pt"
        here("train_loop.py", *SMALL, "--steps", 3, "--method", method, "--save", path)
        ends[method] = weights(path)
    assert same(ends["checkpoint"], ends["standard"])
    assert same(ends["bdia"], ends["bdia-stored"])
    assert not same(ends["bdia"], ends["standard"])


def test_two_ranks_end_with_the_same_weights() -> None:
    """Under torchrun the loss falls, both ranks end with bit-equal weights, and rank 0 alone prints."""
    output = run(*TORCHRUN, "train_ddp.py", *SMALL, "--steps", 20)
    before, after = plain_losses(output)
    assert after < before - 0.3
    ((one, other),) = re.findall(r"weights of each rank: (\w+) (\w+)\n", output)
    assert one == other


@needs_transformers
def test_the_trainer_goes_on_from_its_checkpoint_with_gamma(tmp_path: Path) -> None:
    """transformers' Trainer lowers the loss of a GPT-2, and goes on from a checkpoint of its own bit for bit."""
    small = ("finetune_gpt2_trainer.py", *SMALL, "--every", 5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    before, after = plain_losses(run(*small, "--steps", 10, "--out", whole))
    assert after < before - 0.2
    run(*small, "--steps", 5, "--out", parts)
    run(*small, "--steps", 10, "--out", parts)
    one, other = (folder / "checkpoint-10" for folder in (whole, parts))
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert torch.load(one / "gamma.pt") == torch.load(other / "gamma.pt") == {"seed": 0, "forwards": 10}


@needs_transformers
def test_the_trainer_takes_a_local_checkpoint(tmp_path: Path) -> None:
    """`--model` starts from the plain loss that a checkpoint ended with, and `bdia` holds less than `standard`."""
    small = ("finetune_gpt2_trainer.py", *SMALL, "--depth", 8, "--every", 2)
    held, losses = {}, {}
    for method, options in {"standard": ("--out", tmp_path), "bdia": ("--model", tmp_path / "checkpoint-2")}.items():
        output = run(*small, "--steps", 2, "--method", method, *options)
        losses[method] = plain_losses(output)
        held[method] = float(re.findall(r"([\d.]+) MiB of activations", output)[0])
    assert losses["bdia"][0] == losses["standard"][1]
    assert held["bdia"] < held["standard"] / 2


def test_a_smaller_gamma_moves_the_loss_less() -> None:
    """On a plainly trained model the training loss under BDIA comes closer to the plain one the smaller γ is."""
    output = run("loss_by_gamma.py", *SMALL, "--steps", 60)
    differences = [abs(float(text)) for text in re.findall(r"([+-][\d.]+)  side bits", output)]
    assert len(differences) == 3
    assert differences == sorted(differences, reverse=True)
    assert re.findall(r"activation: (\d)", output) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train_loop.py --method other", "unknown method 'other'"),
        ("train_loop.py --gamma 0.3", "gamma=±0.3: bdia divides by γ"),
        ("train_loop.py --batch 0", "'0': expected a whole number, at least 1"),
        ("train_loop.py --width 63", "n_embd=63 is not divisible by n_head=4"),
        ("train_loop.py --data nowhere.txt", "data 'nowhere.txt' is not there"),
        ("train_loop.py --resume nowhere.pt", "nowhere.pt: No such file or directory"),
        (f"train_loop.py --resume {__file__}", "expected a file that --save wrote"),
        ("train_ddp.py", "start it with torchrun"),
        pytest.param("finetune_gpt2_trainer.py --model nowhere", "save_pretrained() wrote", marks=needs_transformers),
    ],
)
def test_an_error_is_one_line(arguments: str, message: str, here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input ends an example with exit code 2 and one line that says what was expected."""
    name, *options = arguments.split()
    with pytest.raises(SystemExit) as ended:
        here(name, *options)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: error: ")
    assert message in line


def test_every_example_is_tested() -> None:
    """No script of the folder is left out above."""
    scripts = {path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert scripts == {"train_loop.py", "train_ddp.py", "finetune_gpt2_trainer.py", "loss_by_gamma.py"}
