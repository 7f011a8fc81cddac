"""Suites: reading them, laying axes over one another, and refusing what cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import suite
from bench.axes import AxisValue
from bench.case import Plan
from bench.errors import UsageError
from bench.runner import groups
from bench.suite import Suite

SMALL = """
title = "small"
[defaults]
model = "gpt"
method = ["standard", "bdia"]
depth = [2, 4]
seq = 8
batch = 2
[cpu.zip]
width = [16, 32]
heads = [2, 4]
[gpu]
width = 64
heads = 8
[[cases]]
"""


def read(text: str) -> Suite:
    return suite.read(text.encode(), "small", "small.toml")


def plans(text: str = SMALL, device: str = "cpu", data: str | None = None, **overrides: Any) -> list[Plan]:
    values: dict[str, tuple[AxisValue, ...]] = {
        name: value if isinstance(value, tuple) else (value,) for name, value in overrides.items()
    }
    return read(text).plans(values, device, data)


def shapes(found: list[Plan]) -> set[tuple[int, int, int]]:
    return {(plan.case.depth, plan.case.width, plan.case.heads) for plan in found}


def test_axes_multiply_and_zipped_axes_move_together() -> None:
    """A suite is the product of its axes, in which zipped axes count as one."""
    assert shapes(plans()) == {(2, 16, 2), (2, 32, 4), (4, 16, 2), (4, 32, 4)}
    assert len(plans()) == 8


def test_cases_of_a_group_are_neighbours() -> None:
    """Cases that differ only in the method come one after the other, so that rows come group by group."""
    found = plans()
    assert [plan for group in groups(found) for plan in group] == found
    assert [plan.case.method for plan in found[:2]] == ["standard", "bdia"]


def test_the_device_chooses_its_layer() -> None:
    """The axes of `[gpu]` replace those of the defaults on CUDA, and only there."""
    assert shapes(plans(device="cuda")) == {(2, 64, 8), (4, 64, 8)}
    assert {plan.case.device for plan in plans(device="cuda")} == {"cuda"}


def test_a_block_has_zipped_axes_of_its_own() -> None:
    """A block's zip is laid over the defaults like any axis."""
    text = SMALL + "[cases.zip]\ndepth = [3, 5]\nbatch = [6, 10]"
    assert {(plan.case.depth, plan.case.batch) for plan in plans(text)} == {(3, 6), (5, 10)}


def test_an_override_replaces_its_axis_everywhere() -> None:
    """An axis from the command line replaces the suite's in every block."""
    found = plans(SMALL + 'depth = 8\nmethod = "bdia"\n[[cases]]\ndepth = [2, 16]\n', depth=3)
    assert {plan.case.depth for plan in found} == {3}


def test_what_a_method_or_model_lacks_is_none() -> None:
    """`bits` is None for methods that do not quantise, `seq` and `vocab` for a model of images."""
    text, images = plans(depth=2, width=16), plans(depth=2, width=16, model="vit")
    assert {plan.case.method: plan.case.bits for plan in text} == {"standard": None, "bdia": 9}
    assert {(plan.case.seq, plan.case.vocab) for plan in text} == {(8, 256)}
    assert {(plan.case.seq, plan.case.vocab) for plan in images} == {(None, None)}


def test_equal_cases_merge_and_unite_their_measurements() -> None:
    """A case that two blocks yield is one plan, which measures what either asks for."""
    text = SMALL.replace("[[cases]]", "") + (
        '[[cases]]\nmethod = "bdia"\ndepth = 2\nmeasure = ["memory"]\n'
        '[[cases]]\nmethod = "bdia"\ndepth = [2, 4]\nmeasure = ["gradients"]\n'
    )
    found = {(plan.case.depth, plan.case.width): plan.measure for plan in plans(text, width=16)}
    assert found == {(2, 16): {"memory", "gradients"}, (4, 16): {"gradients"}}


def test_l_does_not_multiply_methods_without_it() -> None:
    """Several l yield one case of a method that does not quantise."""
    found = plans(depth=2, width=16, bits=(3, 6, 9))
    assert [plan.case.method for plan in found].count("standard") == 1
    assert [plan.case.bits for plan in found if plan.case.method == "bdia"] == [3, 6, 9]


def test_gamma_does_not_multiply_methods_without_it() -> None:
    """Several γ yield one case of a method that draws none, and all cases are of one group."""
    found = plans(SMALL + 'gamma = [0.5, "0.50", 0.25]\n', depth=2, width=16)
    assert [(plan.case.method, plan.case.gamma) for plan in found] == [
        ("standard", None), ("bdia", "0.5"), ("bdia", "0.25"),
    ]  # fmt: skip
    assert len(groups(found)) == 1


def test_a_gamma_that_some_methods_can_have_is_no_error() -> None:
    """In a sweep, a γ that one method takes and another cannot have is a case of the other with nothing to measure."""
    found = plans(depth=2, width=16, method=("bdia-stored", "bdia"), gamma=("0.5", "0.6"))
    assert {(plan.case.method, plan.case.gamma): bool(plan.measure) for plan in found} == {
        ("bdia-stored", "0.5"): True, ("bdia-stored", "0.6"): True, ("bdia", "0.5"): True, ("bdia", "0.6"): False,
    }  # fmt: skip
    assert [plan.unsupported is None for plan in found] == [bool(plan.measure) for plan in found]


def test_parts_of_a_step_are_axes_of_every_method() -> None:
    """Accumulation belongs to the method, so that a step in parts is timed beside whole ones; the loss's chunks are of
    the work, so that all methods of a group share them."""
    found = plans(SMALL, depth=2, width=16, accumulate=(1, 2), loss_chunks=(1, 4))
    assert [(plan.case.loss_chunks, plan.case.method, plan.case.accumulate) for plan in found] == [
        (chunks, method, parts) for chunks in (1, 4) for method in ("standard", "bdia") for parts in (1, 2)
    ]
    assert [{plan.case.loss_chunks for plan in group} for group in groups(found)] == [{1}, {4}]
    assert {(plan.case.accumulate, plan.case.loss_chunks) for plan in plans()} == {(1, 1)}
    assert "accumulate=2 loss_chunks=4" in found[-1].case.label()
    assert "accumulate" not in found[0].case.label()


def test_chunks_of_the_loss_do_not_multiply_models_without_a_vocabulary() -> None:
    """Images are measured once beside text in several numbers of chunks."""
    found = plans(depth=2, width=16, method="bdia", model=("gpt", "vit"), loss_chunks=(1, 4))
    assert [(plan.case.model, plan.case.loss_chunks) for plan in found] == [("gpt", 1), ("gpt", 4), ("vit", 1)]


def test_parts_that_some_cases_cannot_have_are_rows_with_the_reason() -> None:
    """In a sweep, a batch with fewer samples or tokens than parts is a case with nothing to measure."""
    common = {"depth": 2, "width": 16, "method": ("standard", "bdia")}
    found = plans(**common, batch=(2, 4), accumulate=(1, 4))
    assert {(plan.case.batch, plan.case.accumulate, plan.unsupported) for plan in found if not plan.measure} == {
        (2, 4, "accumulate 4: a batch of 2 has no 4 parts; take --accumulate 2 or fewer")
    }
    found = plans(**common, batch=4, accumulate=(1, 2), micro_batches=4)
    assert [(plan.case.method, plan.case.accumulate, plan.unsupported) for plan in found if not plan.measure] == [
        ("bdia", 2, "micro_batches 4: a batch of 4 in 2 parts has no 4 in each; take --micro-batches 2 or fewer")
    ]
    found = plans(**common, batch=2, accumulate=(1, 2), loss_chunks=16)
    assert {(plan.case.accumulate, plan.unsupported) for plan in found if not plan.measure} == {
        (2, "loss_chunks 16: a batch of 2 in 2 parts has 8 tokens in each; take --loss-chunks 8 or fewer")
    }


def test_the_loss_of_a_step_of_ones_own_cannot_be_taken_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of it: beside a model of the bench it is a row with the reason, alone an error."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("def step(case): ...\n")
    given = {"depth": 2, "width": 16, "method": "bdia", "loss_chunks": 4}
    gpt, own = plans(**given, model=("gpt", "own.py:step"))
    assert gpt.measure
    assert not own.measure
    reason = "loss_chunks 4: the loss of own.py:step is its own; have it call bdia.chunked_cross_entropy"
    assert (own.unsupported or "").startswith(reason)
    with pytest.raises(UsageError, match=f"small.toml: {reason}"):
        plans(**given, model="own.py:step")


@pytest.mark.parametrize("method", [("offload",), ("offload", "standard")])
def test_what_a_machine_lacks_is_no_error(method: tuple[str, ...]) -> None:
    """Alone or in a sweep, a method that takes a card is a row without one, with the cure; with one it is measured."""
    here, there = (plans(device=device, depth=2, width=16, heads=2, method=method)[0] for device in ("cpu", "cuda"))
    assert (here.measure, there.unsupported) == (frozenset(), None)
    assert here.unsupported == (
        "device cpu: offload moves what is saved into CPU memory, where it is already; take --device cuda"
    )
    assert "gradients" in there.measure


def test_verification_is_for_what_is_rebuilt_exactly() -> None:
    """With `verify`, methods that invert bit for bit are verified and others run as ever; alone they are refused."""
    values = {"depth": (2,), "width": (16,)}
    found = read(SMALL).plans({**values, "method": ("standard", "bdia-naive", "bdia")}, "cpu", verify=True)
    assert {plan.case.method: plan.verify for plan in found} == {"standard": False, "bdia-naive": False, "bdia": True}
    with pytest.raises(UsageError, match=r"--verify: standard rebuilds nothing .* --method bdia"):
        read(SMALL).plans({**values, "method": ("standard",)}, "cpu", verify=True)


def test_methods_are_measured_for_what_they_have() -> None:
    """Only reversible methods have a reconstruction, and only methods that do not store have a gradient error."""
    found = plans(depth=2, width=16, method=("standard", "checkpoint", "bdia-stored", "bdia-naive", "bdia"))
    measured = {plan.case.method: plan.measure - {"memory", "throughput"} for plan in found}
    assert measured == {
        "standard": frozenset(),
        "bdia-stored": frozenset(),
        "checkpoint": {"gradients"},
        "bdia-naive": {"reconstruction", "gradients"},
        "bdia": {"reconstruction", "gradients"},
    }


def test_a_block_that_measures_nothing_of_any_method_is_refused() -> None:
    """A run that would measure nothing says so instead of ending at once."""
    with pytest.raises(UsageError, match="choose others with --method"):
        plans(SMALL + 'measure = ["reconstruction"]\n', method="standard")


def test_one_of_two_zipped_axes_finds_the_other() -> None:
    """`--width 32` alone takes the heads that the suite has beside it, also where a block picked another row."""
    assert shapes(plans(width=32)) == {(2, 32, 4), (4, 32, 4)}
    assert shapes(plans(SMALL + "width = 16\n", width=32)) == {(2, 32, 4), (4, 32, 4)}


def test_both_zipped_axes_are_zipped_anew() -> None:
    """Overriding all axes of a zip zips the new values; one value serves all rows."""
    assert shapes(plans(width=(8, 24), heads=(4, 3), depth=2)) == {(2, 8, 4), (2, 24, 3)}
    assert shapes(plans(width=(8, 24), heads=4, depth=2)) == {(2, 8, 4), (2, 24, 4)}


def test_a_range_may_be_written_in_a_suite() -> None:
    """A suite may hold a range as text, as the command line does."""
    assert {plan.case.depth for plan in plans(SMALL + 'depth = "2:16:x2"\n', width=16)} == {2, 4, 8, 16}


def test_a_suite_may_leave_sizes_to_the_model() -> None:
    """Axes that nobody gives come from the model's own table, from the data or from the fallback."""
    (plan,) = plans('title = "t"\n[[cases]]\nmodel = "gpt"\nmethod = "bdia"')
    assert (plan.case.bits, plan.case.dtype, plan.case.seed, plan.case.train_steps) == (9, "fp32", 0, 0)
    assert plan.case.width % plan.case.heads == 0


def test_vocab_follows_the_data(tmp_path: Path) -> None:
    """nanoGPT's `.bin` brings its vocabulary of 50304, text that of bytes, and the command line has the last word."""
    tokens = tmp_path / "train.bin"
    tokens.write_bytes(bytes(64))
    assert {plan.case.vocab for plan in plans(data=str(tokens))} == {50304}
    assert {plan.case.vocab for plan in plans(data=str(tokens), vocab=65)} == {65}
    assert {plan.case.vocab for plan in plans(vocab=512)} == {512}
    assert {plan.case.data for plan in plans(data=str(tokens))} == {str(tokens)}


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"method": "bdai"}, ("unknown method 'bdai'", "did you mean 'bdia'?", "checkpoint")),
        ({"model": "gtp"}, ("unknown model 'gtp'", "did you mean 'gpt'?")),
        ({"width": 30, "heads": 4}, ("width 30", "heads 4", "--width 28 or 32", "--heads 3")),
        ({"width": 48}, ("width 48", "width and heads move together", "16 2; 32 4", "--heads as well")),
        ({"width": (8, 16, 24), "heads": (1, 2)}, ("width has 3", "heads has 2", "as many of each, or one")),
        ({"vocab": 100}, ("vocab 100", "256", "leave vocab out")),
        ({"seq": 10**8}, ("small.toml: seq 100000000", "100000001", "--seq")),
        ({"model": "vit", "seq": 64}, ("--seq 64", "vit has no seq", "leave it out", "--model gpt")),
        ({"gamma": "0.6", "method": "bdia"}, ("small.toml: gamma 0.6", "must be 2^-m", "--method bdia-stored")),
        ({"gamma": "0", "method": ("bdia", "bdia-naive", "standard")}, ("gamma 0", "--gamma 0.5 or 0.25")),
        ({"gamma": "0.25", "method": ("standard", "checkpoint")}, ("--gamma 0.25", "draws no γ", "--method bdia")),
        ({"accumulate": 3}, ("small.toml: accumulate 3: a batch of 2 has no 3 parts", "--accumulate 2 or fewer")),
        ({"loss_chunks": 17}, ("small.toml: loss_chunks 17: a batch of 2 has 16 tokens", "--loss-chunks 16 or fewer")),
        ({"micro_batches": 3}, ("small.toml: micro_batches 3: a batch of 2 has no 3 parts", "--micro-batches 2 or")),
        (
            {"model": "vit", "loss_chunks": (1, 4)},
            ("--loss-chunks 4: vit has no loss over a vocabulary", "--model gpt"),
        ),
        ({"model": "resnet", "depth": 4}, ("depth 4: of resnet a multiple of 3", "try --depth 3 or 6")),
        ({"model": "resnet", "depth": 2}, ("depth 2: of resnet a multiple of 3", "try --depth 3")),
        ({"model": "resnet", "depth": 3, "micro_batches": 2}, ("micro_batches 2: resnet normalises over the batch",)),
        ({"model": "resnet", "depth": 3, "heads": (2, 4)}, ("--heads 2,4", "resnet has no heads")),
        ({"model": ("vit", "vit-spt"), "vocab": (256, 512)}, ("--vocab 256,512", "vit, vit-spt has no vocab")),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(overrides: dict[str, Any], parts: tuple[str, ...]) -> None:
    """A case that cannot be is one line with the value and the cure."""
    with pytest.raises(UsageError) as caught:
        plans(**overrides)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_resnet_has_no_heads_and_no_vocabulary() -> None:
    """Of a suite that leaves all sizes to the model it has its own, and any width that is asked for."""
    text = 'title = "t"\n[[cases]]\nmodel = "resnet"\nmethod = "bdia"'
    (plan,) = plans(text)
    assert (plan.case.depth, plan.case.width, plan.case.heads, plan.case.vocab) == (18, 16, None, None)
    assert [plan.case.width for plan in plans(text, width=20)] == [20]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("title = @", ("small.toml", "not valid TOML", "line 1")),
        ("title = 3\ncases = []", ("small.toml", "title", "`str`")),
        ("[[cases]]", ("small.toml", "title")),
        ('title = "t"', ("small.toml", "cases")),
        ('title = "t"\ncases = []', ("small.toml", "[[cases]]")),
        (SMALL + "dpeth = 3", ("small.toml", "[[cases]] 1", "'dpeth'", "did you mean 'depth'?")),
        (SMALL + "device = 'cuda'", ("small.toml", "'device'")),
        ("roudns = 3\n" + SMALL, ("small.toml", "'roudns'", "did you mean 'rounds'?")),
        ("rounds = 0\n" + SMALL, ("small.toml: rounds 0: ", ">= 1")),
        (SMALL + 'method = ["bida"]', ("small.toml: [[cases]] 1: method: ", "'bida'", "did you mean 'bdia'?")),
        (SMALL + 'method = "none.py:A"', ("small.toml: [[cases]] 1: method: ", "'none.py:A'", "No such file")),
        (SMALL.replace('"gpt"', '"gtp"'), ("small.toml: [defaults]: model: ", "'gtp'", "did you mean 'gpt'?")),
        (SMALL + "width = 15\nheads = 2", ("small.toml: width 15 ", "heads 2")),
        (SMALL + 'depth = "2:x2"', ("small.toml: [[cases]] 1: depth '2:x2': expected a range",)),
        (SMALL + "seq = 100_000_000", ("small.toml: seq 100000000: ", "100000001")),
        (SMALL.replace("[gpu]", "[gpu]\nwidht = 3"), ("small.toml", "[gpu]", "'widht'", "did you mean 'width'?")),
        (SMALL.replace("heads = [2, 4]", "haeds = [2, 4]"), ("[cpu]: zip", "'haeds'", "did you mean 'heads'?")),
        (SMALL.replace("heads = [2, 4]", "heads = [2, 4, 8]"), ("[cpu]: zip", "width has 2", "heads has 3")),
        (SMALL + "depth = 3\n[cases.zip]\ndepth = 4", ("depth is given alone and in zip",)),
        (SMALL + "zip = 3", ("zip 3", "a table of axes")),
        (SMALL + "depth = 0", ("small.toml", "[[cases]] 1", "depth 0", "at least 1")),
        (SMALL + "depth = true", ("depth", "whole number")),
        (SMALL + "depth = []", ("depth", "the list is empty")),
        (SMALL + 'depth = "4:64:2"', ("small.toml", "[[cases]] 1", "'4:64:2'", "4:64:x2")),
        (SMALL + "gamma = [0.5, 2]", ("[[cases]] 1: gamma 2: ", "from 0 to 1")),
        (SMALL + "bits = [9, 24]", ("bits 24", "from 1 to 23", "24 significant bits")),
        (SMALL + 'dtype = "fp8"', ("dtype 'fp8'", "bf16-amp")),
        (SMALL + 'measure = ["memroy"]', ("'memroy'", "did you mean 'memory'?")),
        (SMALL + 'measure = "memory"', ("measure 'memory'", "a list")),
        ('title = "t"\n[[cases]]\nmodel = "gpt"', ("small", "no method", "--method")),
    ],
)
def test_a_wrong_file_is_one_line_with_file_key_and_cure(text: str, parts: tuple[str, ...]) -> None:
    """A suite with an error is refused with its file, the key and what was expected."""
    with pytest.raises(UsageError) as caught:
        plans(text)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", suite.names())
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_built_in_suites_expand(name: str, device: str) -> None:
    """Each suite has a title, a question and an expectation, and cases on either kind of device."""
    found = suite.load(name)
    assert found.name == name
    assert found.title
    assert found.question.endswith("?")
    assert found.expect.endswith(".")
    assert found.plans({}, device)


def test_the_built_in_suites_are_those_of_the_contract() -> None:
    """The thirteen suites are there, `quick` first."""
    assert suite.names() == (
        "quick", "batch", "bits", "depth", "fig1", "frontier", "gate", "model", "paper-gpt2", "paper-vit", "peers",
        "rivals",
        "width",
    )  # fmt: skip


def test_fig1_runs_five_seeds_before_and_after_training() -> None:
    """Fig. 1's cases are 12 blocks of GPT-2's shape, five seeds each, at initial weights and after training."""
    cases = [plan.case for plan in suite.load("fig1").plans({}, "cpu")]
    assert {(case.depth, case.width, case.heads) for case in cases} == {(12, 768, 12)}
    for method in ("bdia-naive", "bdia"):
        for trained in (False, True):
            seeds = {case.seed for case in cases if case.method == method and bool(case.train_steps) == trained}
            assert len(seeds) == 5


def test_a_file_of_ones_own_is_a_suite(tmp_path: Path) -> None:
    """A path that ends in `.toml` is read, and the suite is named after it."""
    file = tmp_path / "mine.toml"
    file.write_text(SMALL)
    assert suite.load(str(file)).name == "mine"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("qiuck", ("unknown suite 'qiuck'", "did you mean 'quick'?", "paper-vit", ".toml")),
        ("../quick", ("unknown suite", "quick")),
        ("nowhere/mine.toml", ("nowhere/mine.toml", "No such file")),
    ],
)
def test_an_unknown_suite_is_one_line_with_the_names(name: str, parts: tuple[str, ...]) -> None:
    """A suite that is not there is refused with those that are."""
    with pytest.raises(UsageError) as caught:
        suite.load(name)
    for part in parts:
        assert part in str(caught.value)


def test_the_parent_needs_no_torch() -> None:
    """Expanding a suite, and importing the runner and all it takes, imports no torch."""
    code = (
        "import sys; from bench import runner, suite; suite.load('quick').plans({}, 'cpu'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("wrong", ["depth = '4:2:x2'", "depth = '0:4:x2'", "depth = '2:4:+0'", "depth = '1:9999:+1'"])
def test_a_wrong_range_in_a_file_is_told_by_its_key(wrong: str) -> None:
    """Whatever is wrong with a range of a suite's file, the line begins with file and key and names no option."""
    with pytest.raises(UsageError) as caught:
        read(SMALL + wrong)
    assert str(caught.value).startswith("small.toml: [[cases]] 1: depth '")
    assert "--depth" not in str(caught.value)


def test_an_axis_that_some_model_has_may_be_given() -> None:
    """`--seq` with models of text and of images is of those that have it."""
    found = plans(SMALL, model=("gpt", "vit"), seq=4, depth=2, width=16)
    assert {(plan.case.model, plan.case.seq) for plan in found} == {("gpt", 4), ("vit", None)}


def test_a_token_outside_the_vocabulary_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """Tokens that nanoGPT's vocabulary, or the one that is given, does not have are a usage error."""
    tokens = tmp_path / "train.bin"
    tokens.write_bytes(bytes(64) + b"\x60\xea")  # 60000, the last of 33
    for given in ({}, {"vocab": 60000}):
        with pytest.raises(UsageError, match=r"holds token 60000, outside a vocabulary of .*give --vocab 60001"):
            plans(data=str(tokens), **given)
    assert {plan.case.vocab for plan in plans(data=str(tokens), vocab=60001)} == {60001}


def test_the_bits_suite_has_a_line_of_reference() -> None:
    """Beside `bdia` at each l there is `bdia-naive`, once, on the same weights."""
    cases = [plan.case for plan in suite.load("bits").plans({}, "cpu")]
    assert [case.bits for case in cases if case.method == "bdia-naive"] == [None]
    assert len({case.group() for case in cases}) == 1


def test_tolerances_are_part_of_a_suite(tmp_path: Path) -> None:
    """A suite's tolerances are kept as text, read again without its cases, and none where there is no such suite."""
    path = tmp_path / "mine.toml"
    table = '[tolerance]\npeak_bytes = "64KiB"\nactivation_bytes = 0\n[[cases]]\nmethod = "bdia"\n'
    path.write_text('title = "x"\n' + table)
    held = {"activation_bytes": "0", "peak_bytes": "64KiB"}
    assert suite.load(str(path)).tolerance == suite.tolerance(str(path)) == held
    path.write_text("nonsense = 1\n" + table)
    assert suite.tolerance(str(path)) == held
    assert suite.tolerance(str(tmp_path / "none.toml")) is suite.tolerance("none") is None
    assert suite.tolerance("quick") == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('peak_byte = "1"', r"\[tolerance\]: unknown metric 'peak_byte': did you mean 'peak_bytes'"),
        ('gradient_error = "1%"', r"\[tolerance\]: gradient_error '1%': expected a factor"),
        ("peak_bytes = [1]", r"\[tolerance\]: peak_bytes \[1\]: expected a share"),
        ("peak_bytes = true", r"\[tolerance\]: peak_bytes True: expected a share"),
    ],
)
def test_a_tolerance_that_is_none_is_refused_before_anything_runs(tmp_path: Path, line: str, said: str) -> None:
    """A mistake in a suite's tolerances is one line with file, table and metric, when it is loaded as when it is
    judged by."""
    path = tmp_path / "mine.toml"
    path.write_text(f'title = "x"\n[tolerance]\n{line}\n[[cases]]\nmethod = "bdia"\n')
    for read in (suite.load, suite.tolerance):
        with pytest.raises(UsageError, match=said) as caught:
            read(str(path))
        assert "\n" not in str(caught.value)
    path.write_text('title = "x"\ntolerance = 5\n[[cases]]\nmethod = "bdia"\n')
    with pytest.raises(UsageError, match=r"tolerance"):
        suite.load(str(path))


def test_names_that_the_command_line_replaces_are_not_looked_up(tmp_path: Path) -> None:
    """A suite whose own model or method is not there serves another that is given, and is refused without one."""
    path = tmp_path / "mine.toml"
    lost = SMALL.replace('"gpt"', '"gone.py:f"').replace('["standard", "bdia"]', '"gone.py:METHOD"')
    path.write_text(lost + '[cases.zip]\nmodel = ["gone.py:f", "gone.py:g"]\ndepth = [3, 5]\n')
    found = suite.load(str(path), replaced=("model", "method"))
    assert found.own("model") == ("gone.py:f", "gone.py:g")
    given: dict[str, Any] = {"model": ("gpt",), "method": ("bdia",), "depth": (2,)}
    assert found.models(given) == ()
    assert {(plan.case.model, plan.case.method) for plan in found.plans(given, "cpu")} == {("gpt", "bdia")}
    for replaced, lacking in (((), r"defaults\]: model: "), (("model",), "method: "), (("method",), "model: ")):
        with pytest.raises(UsageError, match=f"{lacking}.*gone.py"):
            suite.load(str(path), replaced=replaced)
