"""A method's gradients against its own rule's with stored activations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from workloads import translator

import bench
from bdia.backprop.checkpoint import Checkpoint
from bdia.backprop.stored import Stored
from bdia.backprop.work import Work
from bdia.methods import Method, get
from bench.case import Case
from bench.meters import MeterError
from bench.meters.gradients import GradientReading, compare_gradients, measure_gradients
from bench.workload import Workload, build


def case(model: str) -> Case:
    text = model == "gpt"
    return Case(
        method="bdia", model=model, depth=4, width=32, heads=2, seq=16 if text else None, batch=2, bits=9,
        vocab=256 if text else None, dtype="fp32", train_steps=0, device="cpu", seed=0, data=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def workload() -> Workload:
    return build(case("gpt"))


def test_the_error_is_relative_and_over_all_parameters_together() -> None:
    """||g − r|| / ||r|| with both norms over everything."""
    reference = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    gradients = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([4.0])}
    reading = compare_gradients(gradients, reference)
    assert (reading.gradient_error, reading.message) == (0.2, None)


def test_equal_gradients_have_no_error() -> None:
    """Exactly 0.0 where every tensor is `torch.equal`, and where there is none on either side."""
    grads = {"a": torch.randn(3), "b": None}
    assert compare_gradients(grads, dict(grads)).gradient_error == 0.0


def test_the_smallest_difference_is_an_error() -> None:
    """A single last bit of a denormal does not vanish."""
    reference = {"a": torch.tensor([1.0, 0.0])}
    error = compare_gradients({"a": torch.tensor([1.0, 1e-45])}, reference).gradient_error
    assert error is not None
    assert 0.0 < error < 1e-44


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite_give_a_message(value: float) -> None:
    """No number; the parameters are counted and the first one named. NaN on both sides is no agreement."""
    reference = {"a": torch.ones(2), "b": torch.ones(2)}
    broken = {"a": torch.ones(2), "b": torch.tensor([1.0, value])}
    for pair in ((broken, reference), (reference, broken), (broken, broken)):
        reading = compare_gradients(*pair)
        assert reading.gradient_error is None
        assert reading.message == "gradients are not finite in 1 of 2 parameters, the first b"


def test_a_reference_of_zeros_gives_a_message() -> None:
    """There is nothing to relate the error to."""
    reading = compare_gradients({"a": torch.ones(2)}, {"a": torch.zeros(2)})
    assert reading.gradient_error is None
    assert reading.message is not None


@pytest.mark.parametrize("swap", [False, True])
def test_a_gradient_on_one_side_only_is_an_error(swap: bool) -> None:
    """A parameter that autograd did not reach under one of the two."""
    one, two = {"a": torch.ones(2), "b": None}, {"a": torch.ones(2), "b": torch.ones(2)}
    with pytest.raises(MeterError, match="the first b"):
        compare_gradients(*((two, one) if swap else (one, two)))


@pytest.mark.parametrize("method", ["bdia", "bdia-stored", "checkpoint"])
def test_exact_methods_have_no_error(workload: Workload, method: str) -> None:
    """What is rebuilt bit for bit, or recomputed, gives the very same gradients."""
    assert measure_gradients(workload, method, 9, seed=3).gradient_error == 0.0


def test_a_method_that_rebuilds_with_an_error_has_one(workload: Workload) -> None:
    """BDIA inverted in floating point: small at this depth, and not 0."""
    error = measure_gradients(workload, "bdia-naive", seed=3).gradient_error
    assert error is not None
    assert 0.0 < error < 1e-3


def test_dropout_draws_the_same_on_both_sides() -> None:
    """The paper's ViT drops out; method and reference start from one RNG state, which is left as it was."""
    workload = build(case("vit"))
    before = torch.get_rng_state()
    assert measure_gradients(workload, "bdia", 9, seed=0).gradient_error == 0.0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_workload_is_left_as_it_was(workload: Workload) -> None:
    """Same weights, no gradients, no method attached."""
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    measure_gradients(workload, "bdia", 9, seed=0)
    assert all(map(torch.equal, before, workload.model.parameters()))
    assert all(parameter.grad is None for parameter in workload.model.parameters())
    assert all("forward" not in module.__dict__ for module in workload.model.modules())


def test_a_twin_that_does_not_fit_is_no_fault_of_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stored activations run out of memory there is no gradient error, and a message that says why."""
    workload = build(case("gpt"))

    def run_out(self: Stored, *args: object) -> torch.Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(Stored, "run", run_out)
    reading = measure_gradients(workload, "bdia", 9, seed=0)
    assert reading.gradient_error is None
    assert reading.message is not None
    assert "ran out of memory" in reading.message
    assert all(parameter.grad is None for parameter in workload.model.parameters())


def spoilt(*calls: int) -> Method:
    """`checkpoint`, with the gradient of these calls' y wrong by a few bits."""

    class Spoilt(Checkpoint):
        def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
            y = super().run(work, x, gamma)
            if work.number in calls:
                y.register_hook(lambda grad: grad * (1 + 2.0**-20))
            return y

    return replace(get("checkpoint"), name="spoilt", strategy=Spoilt)


@pytest.mark.parametrize(("calls", "block"), [((0,), 0), ((2,), 2), ((3,), 3), ((1, 3), 3)])
def test_the_highest_block_that_goes_wrong_is_named(workload: Workload, calls: Iterable[int], block: int) -> None:
    """A wrong gradient goes down through all blocks below; where it began is the block to look at."""
    reading = measure_gradients(workload, spoilt(*calls), seed=0)
    assert reading.gradient_error is not None
    assert 0.0 < reading.gradient_error < 1e-5
    assert (reading.gradient_block, reading.message) == (block, None)


def test_each_block_has_an_error_of_its_own(workload: Workload) -> None:
    """Of the blocks above the one where it went wrong it is exactly 0, of that one and those below it is not."""
    by_block = measure_gradients(workload, spoilt(2), seed=0).by_block
    assert list(by_block) == [0, 1, 2, 3]
    assert by_block[3] == 0.0
    assert all(0.0 < (by_block[block] or 0.0) < 1e-5 for block in (0, 1, 2))


def test_the_error_of_a_block_is_relative_to_its_own_reference() -> None:
    """||g − r|| / ||r|| over its parameters; None where that is no number, and nothing of parameters in no block."""
    reference = {
        "a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0]), "c": torch.zeros(1), "d": torch.ones(1),
        "e": torch.ones(2),
    }  # fmt: skip
    gradients = {
        "a": torch.tensor([3.0, 1.0]), "b": torch.tensor([4.0]), "c": torch.ones(1), "d": torch.tensor([math.nan]),
        "e": torch.ones(2),
    }  # fmt: skip
    blocks = {"a": 0, "b": 0, "c": 1, "d": 2}
    assert compare_gradients(gradients, reference, blocks).by_block == {0: 0.2, 1: None, 2: None}
    assert compare_gradients(gradients, reference).by_block == {}


def test_the_blocks_of_an_encoder_decoder_are_numbered_through(workload: Workload) -> None:
    """Of two chains of two and three blocks, the decoder's second is block 3."""
    assert measure_gradients(translator(workload), spoilt(3), seed=0).gradient_block == 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).tanh()


class Looped(nn.Module):
    """Two blocks, run three times over, as ALBERT does with one; a head, and a bias below them."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(5))
        self.layers = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.bias
        for block in (*self.layers, *self.layers, *self.layers):
            x = block(x)
        y: Tensor = self.head(x)
        return y


def looped(**options: Any) -> Workload:
    torch.manual_seed(0)
    return bench.Workload(Looped(), torch.randn(3, 5), lambda model, x: model(x).square().mean(), **options)


def test_a_block_that_is_called_again_counts_by_its_last_call() -> None:
    """The gradient of the second call of the first block reaches its parameters, and both blocks' below."""
    workload = looped()
    assert measure_gradients(workload, "bdia", 9, seed=0) == GradientReading(0.0, by_block={4: 0.0, 5: 0.0})
    assert measure_gradients(workload, spoilt(4), seed=0).gradient_block == 5  # through the first calls of the other
    assert measure_gradients(workload, spoilt(0), seed=0).gradient_block == 4


def test_what_differs_in_no_block_is_named() -> None:
    """A gradient that is wrong above or below all blocks has no block, and a message instead."""
    workload, passes = looped(), itertools.count()

    def second(grad: Tensor) -> Tensor:
        return grad * 2 if next(passes) else grad

    workload.model.bias.register_hook(second)
    reading = measure_gradients(workload, "checkpoint", seed=0)
    assert reading.gradient_block is None
    assert reading.gradient_error
    assert reading.message == "only gradients of no block differ, 1 of them, the first bias"


def test_a_forward_that_differs_already_is_told() -> None:
    """Then the top block is not where it went wrong: the message has both losses."""
    passes = itertools.count()
    workload = looped()
    workload.model.head.register_forward_hook(lambda module, args, y: y + next(passes))
    reading = measure_gradients(workload, "checkpoint", seed=0)
    assert reading.gradient_block == 5
    assert reading.message is not None
    assert reading.message.startswith("the forward differs from the reference's already: loss ")


def test_blocks_outside_the_models_tree_have_no_parameters_of_it(workload: Workload) -> None:
    """Names are all that is known of parameters; those that lie in no block are of none."""
    reference = {"a": torch.ones(2), "b": torch.ones(2)}
    gradients = {"a": torch.ones(2), "b": torch.zeros(2)}
    assert compare_gradients(gradients, reference, {"a": 0, "b": 4}).gradient_block == 4
    assert compare_gradients(gradients, reference, {"a": 0}).gradient_block is None
    assert compare_gradients(gradients, reference, {}).message is not None
    assert compare_gradients(gradients, reference).gradient_block is None
