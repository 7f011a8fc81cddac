"""Experiments: how their files are read, what they come to, and what is refused."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from bench import experiments, watches
from bench.case import Plan
from bench.errors import UsageError
from bench.experiments import FORMS, Experiment

FILE = """
title = "Mine"
seeds = 2
[defaults]
model = "gpt"
depth = 2
width = 16
heads = 2
seq = 8
batch = 2
lr = 0.01
[small]
steps = 5
[full]
steps = 50
data = "nanoGPT tokens"
[[arms]]
name = "plain"
method = "standard"
[[arms]]
name = "mine"
method = "bdia"
bits = 7
dropout = 0.5
[[arms]]
name = "large"
form = "full"
method = "bdia"
"""
ISSUE = ("table1", "fig2", "fig3", "fig1-trained", "bits", "gamma", "gamma-inference", "drift", "resnet")


def read(text: str = FILE) -> Experiment:
    return experiments.read(text.encode(), "mine", "mine.toml")


def plans(text: str = FILE, **options: object) -> list[Plan]:
    return read(text).plans("small", device="cpu", **options)  # type: ignore[arg-type]


def changed(old: str, new: str) -> str:
    """The file with one thing changed."""
    assert old in FILE
    return FILE.replace(old, new)


def test_arms_are_trained_seed_by_seed() -> None:
    """Each seed has all arms of the form, in the file's order, and the first seed's memory is measured."""
    found = plans()
    assert [(plan.case.seed, plan.case.arm, plan.measure) for plan in found] == [
        (0, "plain", {"memory"}), (0, "mine", {"memory"}), (1, "plain", frozenset()), (1, "mine", frozenset()),
    ]  # fmt: skip
    assert {plan.case.train_steps for plan in found} == {5}


def test_an_arm_is_laid_over_its_form_and_that_over_the_defaults() -> None:
    """Axes go into the case and the rest into the recipe, the innermost value of each."""
    plain, mine, *_ = plans()
    assert (plain.case.bits, mine.case.bits) == (None, 7)
    assert mine.training is not None
    assert (mine.training.recipe.dropout, mine.training.recipe.lr, mine.training.recipe.steps) == (0.5, 0.01, 5)
    assert mine.training.experiment == "mine"


def test_seeds_steps_and_arms_can_be_chosen() -> None:
    """What is asked for replaces what the file says."""
    found = plans(seeds=1, steps=3, arms=("mine",))
    assert [(plan.case.arm, plan.case.seed, plan.case.train_steps) for plan in found] == [("mine", 0, 3)]


def test_epochs_are_counted_in_steps_of_the_training_set() -> None:
    """Of 1438 digits to train on, batches of 32 make 45 steps an epoch."""
    text = changed('model = "gpt"', 'model = "vit"').replace("seq = 8\n", "").replace("batch = 2", "batch = 32")
    found = plans(text.replace("steps = 5\n", "epochs = 2\n"))
    assert {plan.case.train_steps for plan in found} == {90}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "mine.toml: not valid TOML: "),
        ('title = "Mine"', "mine.toml: expected a title = \"…\" and [[arms]], there is no `arms`"),
        ('title = "Mine"\narms = []', "mine.toml: no [[arms]]: expected at least one, with a name and a method"),
        (changed("seeds = 2", "seeds = 0"), "mine.toml: seeds 0: expected `int` >= 1"),
        (changed("seeds = 2", "sedes = 2"), "mine.toml: unknown key 'sedes': did you mean 'seeds'?"),
        (changed("lr = 0.01", "rl = 0.01"), "mine.toml: [defaults]: unknown key 'rl'"),
        (changed("steps = 5\n", "step = 5\n"), "mine.toml: [small]: unknown key 'step': did you mean 'steps'?"),
        (changed("bits = 7", "bit = 7"), "mine.toml: [[arms]] 2: unknown key 'bit': did you mean 'bits'?"),
        (changed("bits = 7", "bits = [6, 7]"), "arm mine: bits [6, 7]: expected a whole number"),
        (changed("bits = 7", "bits = 24"), "arm mine: bits 24: expected a whole number from 1 to 23"),
        (changed('name = "mine"', 'name = "a/b"'), "mine.toml: [[arms]] 2: name 'a/b': expected a name of letters"),
        (changed('name = "mine"', 'name = "plain"'), "mine.toml: two arms are called 'plain'"),
        (changed('form = "full"', 'form = "huge"'), "mine.toml: [[arms]] 3: form 'huge': expected one of full, small"),
        (changed('method = "standard"', 'method = "standrad"'), "arm plain: unknown method 'standrad': did you mean"),
        (changed('method = "standard"\n', ""), "arm plain: no method: expected"),
        (changed('model = "gpt"', 'model = "gtp"'), "arm plain: unknown model 'gtp'"),
        (changed('model = "gpt"', 'model = "timm:vit"'), "arm plain: "),
        (changed("lr = 0.01", "lr = 0"), "arm plain: lr 0: expected `float` > 0.0"),
        (changed("lr = 0.01", "lr = inf"), "arm plain: lr inf: expected `float` <= 1000000000.0"),
        (changed("lr = 0.01", "lr = 0.01\nmin_lr = 0.1"), "arm plain: min_lr 0.1: expected at most lr, 0.01"),
        (changed("lr = 0.01", "lr = 0.01\naugment = true"), "arm plain: augment: images are augmented, and gpt reads"),
        (changed("lr = 0.01", 'optimizer = "sgd"'), "optimizer 'sgd': expected one of adamw, adam, set-adam"),
        (changed("dropout = 0.5", "dropout = 1.0"), "arm mine: dropout 1.0: expected `float` < 1.0"),
        (changed("steps = 5\n", "epochs = 5\n"), "arm plain: epochs 5: gpt reads a text at random places; give steps"),
        (changed("steps = 5\n", ""), "arm plain: no steps: expected a whole number at least 1"),
        (changed("lr = 0.01", 'watch = ["drfit"]'), "arm plain: unknown watch 'drfit': did you mean 'drift'?"),
        (changed("lr = 0.01", "watch_every = 0"), "arm plain: watch_every 0: expected `int` >= 1"),
        (changed("lr = 0.01", 'data = "MNIST"'), "arm plain: data 'MNIST': expected one of CIFAR-10, CIFAR-100"),
        (changed("heads = 2", "heads = 3"), "arm plain: width 16 is not divisible by heads 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(text: str, said: str) -> None:
    """Whatever is wrong is told before anything runs, with the file and the place in it."""
    with pytest.raises(UsageError) as caught:
        plans(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_watch_that_an_arm_asks_for_must_see_something() -> None:
    """Of an arm itself, a watch with nothing to see is an error; of all arms, it watches where there is something."""
    peer = 'method = "two-stream"\nwatch = ["gamma-inference"]'
    with pytest.raises(UsageError, match="arm plain: watch: gamma-inference: two-stream"):
        plans(changed('method = "standard"', peer))
    text = changed("lr = 0.01", 'watch = ["gamma-inference"]').replace('"standard"', '"two-stream"')
    other, mine, *_ = plans(text)
    assert other.training is not None
    assert mine.training is not None
    assert (other.training.watch, mine.training.watch) == ((), ("gamma-inference",))


def test_data_that_is_not_there_is_told_with_its_layout_and_source() -> None:
    """The full form says which files are expected, where to get them, and what needs none."""
    with pytest.raises(UsageError) as caught:
        experiments.load("table1").plans("full", device="cuda")
    said = str(caught.value)
    for word in ("CIFAR-10", "data_batch_1.bin", "test_batch.bin", "https://", "--data", "--small needs no download"):
        assert word in said


def test_sets_may_lie_beside_each_other(tmp_path: Path) -> None:
    """`--data` may be a folder with one for each set, and one that lacks a set says which."""
    for folder, files in (
        ("ten", [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]),
        ("hundred", ["train.bin", "test.bin"]),
    ):
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / file).write_bytes(bytes(20 * (3073 if folder == "ten" else 3074)))
    found = experiments.load("table1").plans("full", device="cuda", data=str(tmp_path), seeds=1)
    assert {plan.case.data for plan in found} == {str(tmp_path / "ten"), str(tmp_path / "hundred")}
    for file in (tmp_path / "hundred").iterdir():
        file.unlink()
    with pytest.raises(UsageError, match=r"holds CIFAR-10 and no CIFAR-100: expected the folder with train\.bin"):
        experiments.load("table1").plans("full", device="cuda", data=str(tmp_path))


def test_the_built_in_experiments_are_those_of_the_paper_and_its_reviewers() -> None:
    """They are listed in this order, and each says what it asks and what is expected."""
    assert experiments.names() == ISSUE
    for name in ISSUE:
        found = experiments.load(name)
        assert found.title
        assert found.question.endswith("?")
        assert found.expect.endswith(".")
        assert found.seeds == 3


@pytest.mark.parametrize("name", ISSUE)
def test_the_small_form_needs_no_data_and_is_small(name: str) -> None:
    """Each experiment has a form on what is here already, of models of less than a million weights."""
    found = experiments.load(name).plans("small", device="cpu")
    assert all(plan.unsupported is None for plan in found)
    for plan in found:
        assert plan.case.data is None
        assert (plan.case.depth or 0) * (plan.case.width or 0) ** 2 * 12 < 1e6


def test_the_full_forms_have_the_papers_configurations() -> None:
    """Table 1 and Fig. 3 at full size are ViT-small with SET-Adam at l = 9, and nanoGPT's GPT-2 at l = 6."""
    table1, fig3 = (experiments.load(name) for name in ("table1", "fig3"))
    vit, gpt = table1.layers["full"], fig3.layers["full"]
    assert [vit[key] for key in ("depth", "width", "heads", "batch", "bits", "optimizer", "lr", "eps")] == [
        6, 512, 8, 128, 9, "set-adam", 1e-4, 1e-18,
    ]  # fmt: skip
    assert [gpt[key] for key in ("depth", "width", "heads", "seq", "bits", "lr", "weight_decay", "clip")] == [
        12, 768, 12, 1024, 6, 6e-4, 0.1, 1.0,
    ]  # fmt: skip


def test_watches_of_the_files_are_there() -> None:
    """Each watch that a file names is one of the table."""
    for name in ISSUE:
        table = tomllib.loads((resources.files("suites") / "experiments" / f"{name}.toml").read_text())
        watches.named(table["defaults"].get("watch", ()))
    assert FORMS == ("full", "small")
