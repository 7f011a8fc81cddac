"""Training: the same weights whatever happens on the way, and what is written down."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import training
from safetensors.torch import load_file
from training import IMAGES, Stopped, plan, train

from bench import curves
from bench.recipe import OPTIMIZERS, Recipe
from bench.training import checkpoint, folders, loop, schedule
from bench.training.checkpoint import Checkpoints, Progress, Trained
from bench.training.optimizers import optimizer


@pytest.fixture
def every_step_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run tells of each step, so that it can be cut off after any."""
    monkeypatch.setattr(loop, "HEARTBEAT_SECONDS", -1.0)


def test_bdia_and_its_stored_twin_end_with_equal_weights(tmp_path: Path) -> None:
    """After 200 steps with dropout the weights are equal, bit for bit: gradients are exact, not nearly so."""
    digests = set()
    for method in ("bdia", "bdia-stored"):
        (tmp_path / method).mkdir()
        fields = train(plan(method, steps=200, eval_every=100), tmp_path / method)
        assert fields["trained_steps"] == 200
        digests.add(fields["weights_digest"])
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("method", "axes", "options"),
    [
        ("bdia", training.TEXT, {"schedule": "cosine", "warmup_steps": 4, "clip": 0.5, "weight_decay": 0.1}),
        ("bdia", IMAGES, {"optimizer": "set-adam", "augment": True}),
        ("bdia", {**IMAGES, "model": "resnet", "depth": 3, "heads": None}, {"optimizer": "adam"}),
        ("two-stream", {**IMAGES, "accumulate": 2}, {}),
        ("standard", training.TEXT, {"optimizer": "set-adam"}),
    ],
    ids=["bdia gpt", "bdia vit", "bdia resnet", "two-stream vit", "standard gpt"],
)
@pytest.mark.usefixtures("every_step_told")
def test_a_run_that_was_cut_off_ends_with_the_same_weights(
    method: str, axes: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    """Wherever it is cut off, and more than once, what goes on ends with the weights, losses and curves of what was
    never stopped."""
    one = plan(method, axes=axes, steps=14, **options)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = train(one, whole)
    for stop in (3, 8, 12):
        with pytest.raises(Stopped):
            train(one, cut, stop_at=stop)
    found = train(one, cut)
    timed = {"epoch_seconds", "train_seconds"}
    assert {name: value for name, value in found.items() if name not in timed} == {
        name: value for name, value in expected.items() if name not in timed
    }
    assert values(cut) == values(whole)


def values(directory: Path) -> dict[tuple[object, ...], float | None]:
    """The curves but for times."""
    return {point.key: point.value for point in curves.read(directory) if point.name != "step_seconds"}


def test_a_watched_run_ends_with_the_weights_of_an_unwatched_one(tmp_path: Path) -> None:
    """Looking at a model leaves no trace in what it becomes."""
    digests = set()
    for number, watch in enumerate(((), ("reconstruction", "drift", "headroom"))):
        directory = tmp_path / str(number)
        directory.mkdir()
        digests.add(train(plan("bdia", watch=watch), directory)["weights_digest"])
        seen = {point.name for point in curves.read(directory)}
        assert ("reconstruction_error" in seen) == bool(watch)
        assert ("gradient_error" in seen) == bool(watch)
    assert len(digests) == 1


def test_the_watch_of_gamma_leaves_no_trace_either(tmp_path: Path) -> None:
    """Evaluating with a fixed γ, of a model with dropout, changes neither weights nor what is drawn."""
    digests = set()
    for number, watch in enumerate(((), ("gamma-inference",))):
        directory = tmp_path / str(number)
        directory.mkdir()
        digests.add(train(plan("bdia", watch=watch, axes=IMAGES, steps=8), directory)["weights_digest"])
    assert len(digests) == 1


def test_every_step_is_exact_in_all_it_remembers(tmp_path: Path) -> None:
    """A checkpoint puts weights, the optimiser's state and torch's generator back, bit for bit."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    own = optimizer(model, Recipe(steps=1))
    model(torch.randn(5, 3)).sum().backward()
    own.step()
    held = Checkpoints(tmp_path, Trained(model, own, torch.device("cpu"), "f"))
    weights = {name: tensor.clone() for name, tensor in checkpoint.weights(model).items()}
    state = {number: dict(kept) for number, kept in own.state_dict()["state"].items()}
    state = {number: {name: tensor.clone() for name, tensor in kept.items()} for number, kept in state.items()}
    held.save(Progress(step=1), {"seed": 1, "forwards": 2})
    following = torch.rand(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model(torch.randn(5, 3)).sum().backward()
    own.step()
    found = held.load()
    assert found is not None
    assert found[0] == Progress(step=1)
    assert found[1] == {"seed": 1, "forwards": 2}
    assert all(torch.equal(weights[name], tensor) for name, tensor in checkpoint.weights(model).items())
    now = own.state_dict()["state"]
    assert all(torch.equal(state[number][name], now[number][name]) for number in state for name in state[number])
    assert torch.equal(torch.rand(4), following)


@pytest.mark.parametrize(
    "broken", ["state.json", "model.safetensors", "optimizer.safetensors", "rng.safetensors", "SHA256SUMS"]
)
@pytest.mark.parametrize("how", ["cut", "gone", "changed"])
@pytest.mark.usefixtures("every_step_told")
def test_a_broken_checkpoint_gives_way_to_the_one_before(broken: str, how: str, tmp_path: Path) -> None:
    """Where the last checkpoint cannot be read, or one bit of it is another, the one before it is gone on with, and the
    end is the same."""
    (tmp_path / "whole").mkdir()
    expected = train(plan("bdia"), tmp_path / "whole")["weights_digest"]
    (tmp_path / "cut").mkdir()
    with pytest.raises(Stopped):
        train(plan("bdia"), tmp_path / "cut", stop_at=12)
    there = folders.checkpoints(tmp_path / "cut" / "checkpoints")
    assert [step for step, _ in there] == [10, 5]
    file = there[0][1] / broken
    if how == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "changed":
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    assert train(plan("bdia"), tmp_path / "cut")["weights_digest"] == expected


@pytest.mark.usefixtures("every_step_told")
def test_a_checkpoint_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    """With another fingerprint a run begins anew, and what it finds is removed."""
    with pytest.raises(Stopped):
        train(plan("bdia", seed=1), tmp_path, stop_at=12)
    assert train(plan("bdia"), tmp_path, fingerprint="another")["trained_steps"] == 20
    (tmp_path / "whole").mkdir()
    whole = train(plan("bdia"), tmp_path / "whole")
    assert train(plan("bdia"), tmp_path, fingerprint="a third")["weights_digest"] == whole["weights_digest"]


def test_two_checkpoints_are_kept_and_the_final_weights(tmp_path: Path) -> None:
    """The last two checkpoints stay, and the final weights, which have the digest of the record."""
    fields = train(plan("bdia", steps=17), tmp_path)
    folder = tmp_path / "checkpoints"
    assert [step for step, _ in folders.checkpoints(folder)] == [17, 15]
    assert checkpoint.digest(load_file(folder / "model.safetensors")) == fields["weights_digest"]
    folders.clear(folder)
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]


def test_curves_have_a_look_before_the_first_step_and_after_the_last(tmp_path: Path) -> None:
    """Validation is looked at initially, every so often, and at the end; training means are of the steps between."""
    fields = train(plan("bdia", axes=IMAGES, steps=16), tmp_path)
    found = curves.read(tmp_path)
    at = {name: [point.step for point in found if point.name == name] for name in {point.name for point in found}}
    assert at == {
        "validation_loss": [0, 7, 14, 16], "validation_accuracy": [0, 7, 14, 16], "train_loss": [7, 14, 16],
        "train_accuracy": [7, 14, 16], "learning_rate": [7, 14, 16], "step_seconds": [7, 14, 16],
    }  # fmt: skip
    last = {point.name: point.value for point in found if point.step == 16}
    assert last["train_loss"] == fields["train_loss"]
    assert last["validation_loss"] == fields["validation_loss"]
    assert fields["best_validation_loss"] == min(one.value for one in found if one.name == "validation_loss")
    assert fields["best_validation_accuracy"] == max(one.value for one in found if one.name == "validation_accuracy")


def test_a_loss_that_is_lost_ends_the_training(tmp_path: Path) -> None:
    """Where the loss is not finite any more, training stops at the next look, with nulls and a note."""
    one = plan("standard", lr=1e30, steps=50, optimizer="adam")
    with curves.Curves(tmp_path) as opened:
        fields, note = loop.train(one, tmp_path / "c", opened, "f", lambda step, points: None)
    assert fields["trained_steps"] == 7
    assert fields["train_loss"] is None
    assert note == "the loss is not finite: stopped after 7 of 50 steps"
    assert [point.value for point in curves.read(tmp_path) if (point.name, point.step) == ("train_loss", 7)] == [None]


def test_the_model_learns(tmp_path: Path) -> None:
    """The validation loss of the built-in text falls from that of a uniform guess."""
    fields = train(plan("bdia", steps=60, lr=0.01, eval_every=60, dropout=0.0), tmp_path)
    assert fields["validation_loss"] < math.log(256) - 1.0


def test_learning_rates_rise_in_a_line_and_fall_along_a_cosine() -> None:
    """The warm-up ends at lr, half-way down is the mean, and nothing is below min_lr."""
    recipe = Recipe(steps=110, lr=1.0, min_lr=0.2, warmup_steps=10, schedule="cosine")
    rates = [schedule.learning_rate(recipe, step) for step in range(1, 111)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.6)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.2 < rates[-1] < 0.201
    constant = Recipe(steps=110, lr=1.0, warmup_steps=10)
    assert {schedule.learning_rate(constant, step) for step in range(11, 111)} == {1.0}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_is_of_matrices_alone(name: Any) -> None:
    """Each optimiser has two groups: matrices decay, biases and scales do not."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    groups = optimizer(model, Recipe(steps=1, optimizer=name, weight_decay=0.1, lr=0.5)).param_groups
    assert [(group["weight_decay"], [one.dim() for one in group["params"]]) for group in groups] == [
        (0.1, [2]), (0.0, [1, 1, 1]),
    ]  # fmt: skip
    assert {group["lr"] for group in groups} == {0.5}
