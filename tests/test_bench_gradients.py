"""A method's gradients against its own rule's with stored activations."""

from __future__ import annotations

import math

import pytest
import torch

from bdia.backprop.stored import Stored
from bench.case import Case
from bench.meters import MeterError
from bench.meters.gradients import compare_gradients, measure_gradients
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
