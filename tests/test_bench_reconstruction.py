"""The rebuilt activations against those of the forward, block by block."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from workloads import translator

from bdia.errors import ReconstructionError
from bench.case import Case
from bench.meters.gradients import measure_gradients
from bench.meters.reconstruction import Observer, block_error, measure_reconstruction
from bench.workload import Workload, build

DEPTH = 8


@pytest.fixture(scope="module")
def workload() -> Workload:
    case = Case(
        method="bdia", model="gpt", depth=DEPTH, width=32, heads=2, seq=16, batch=2, bits=9, vocab=256, dtype="fp32",
        train_steps=0, device="cpu", seed=0, data=None,
    )  # fmt: skip
    return build(case)


def observed(pairs: list[tuple[Tensor, Tensor | None]]) -> Observer:
    """An observer that saw each first tensor go forward, and each second one, where there is one, rebuilt."""
    observer = Observer()
    for call, (x, _) in enumerate(pairs):
        observer.forwarded(call, x)
    for call in reversed(range(len(pairs))):
        rebuilt = pairs[call][1]
        if rebuilt is not None:
            observer.rebuilt(call, rebuilt, ())
    return observer


def test_the_error_of_a_block_is_as_on_paper() -> None:
    """Maximum, root mean square, its ratio to the forward's, and the number of elements that differ."""
    error = block_error(3, torch.tensor([3.0, 4.0, 0.0, 0.0]), torch.tensor([3.0, 4.0, -1.0, 2.0]))
    assert (error.block, error.max_abs_error, error.mismatched) == (3, 2.0, 2)
    assert error.rms_error == math.sqrt(5 / 4)
    assert error.relative_error == pytest.approx(math.sqrt(5 / 25), rel=1e-15)


def test_small_differences_are_not_lost_to_fp32() -> None:
    """Differences are taken in float64: a last bit at 2^24 beside a denormal is two errors, not one."""
    x = torch.tensor([2.0**24, 0.0])
    error = block_error(0, x, x + torch.tensor([0.0, 1e-45]))
    assert error.mismatched == 1
    assert error.max_abs_error == pytest.approx(1.4e-45, rel=0.01)
    assert error.rms_error is not None
    assert error.rms_error > 0.0


def test_the_sign_of_zero_is_no_mismatch() -> None:
    """-0.0 equals 0.0; the relative error of zeros rebuilt as zeros is 0."""
    error = block_error(0, torch.tensor([0.0, -0.0]), torch.tensor([-0.0, 0.0]))
    assert (error.max_abs_error, error.rms_error, error.relative_error, error.mismatched) == (0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_error_that_is_not_finite_is_none_and_counts(value: float) -> None:
    """NaN and infinity give no error, and a mismatch for each element."""
    error = block_error(0, torch.ones(4), torch.tensor([1.0, value, 1.0, value]))
    assert (error.max_abs_error, error.rms_error, error.relative_error, error.mismatched) == (None, None, None, 2)


def test_nan_on_both_sides_is_a_mismatch() -> None:
    """NaN equals nothing, itself included, so it is never bit-exact."""
    x = torch.tensor([math.nan])
    observer = observed([(x, x)])
    assert observer.errors[0].mismatched == 1
    assert not observer.bit_exact


def test_an_error_against_zeros_has_no_relative_error() -> None:
    """Nothing to relate it to."""
    error = block_error(0, torch.zeros(2), torch.ones(2))
    assert (error.rms_error, error.relative_error) == (1.0, None)


def test_the_forwards_activations_are_copied() -> None:
    """What the engine does to x afterwards does not change what it is compared with."""
    x = torch.ones(3)
    observer = Observer()
    observer.forwarded(0, x)
    x.zero_()
    observer.rebuilt(0, torch.ones(3), ())
    assert observer.bit_exact


def test_a_block_that_was_not_rebuilt_is_not_exact() -> None:
    """An engine that rebuilds nothing does not pass for an exact one."""
    x = torch.ones(3)
    assert observed([(x, x), (x, x)]).bit_exact
    partly = observed([(x, None), (x, x)])
    assert not partly.bit_exact
    assert partly.missing == (0,)
    assert not Observer().bit_exact


@pytest.mark.parametrize("bits", [6, 9])
def test_bdia_is_rebuilt_bit_for_bit(workload: Workload, bits: int) -> None:
    """Every block of a real model, the kept last input included."""
    reading = measure_reconstruction(workload, "bdia", bits, seed=0)
    assert [error.block for error in reading.reconstruction] == list(range(DEPTH))
    assert all(error.max_abs_error == 0.0 and error.mismatched == 0 for error in reading.reconstruction)
    assert reading.bit_exact
    assert reading.missing == ()


def test_bdia_naive_is_not_and_its_error_grows_downwards(workload: Workload) -> None:
    """Nothing is rebuilt for the last block, so its error is 0; below, it grows with every block (Fig. 1)."""
    reading = measure_reconstruction(workload, "bdia-naive", seed=0)
    errors = [error.rms_error or 0.0 for error in reading.reconstruction]
    assert not reading.bit_exact
    assert errors[-1] == 0.0
    assert errors[0] > 4 * errors[DEPTH // 2] > 0.0


def test_beyond_the_exact_range_the_error_is_measured_and_not_raised(workload: Workload) -> None:
    """The cliff of the `bits` suite: an x beyond what fp32 holds at l = 23."""
    with torch.no_grad():
        kept = workload.model.transformer.wpe.weight.clone()
        workload.model.transformer.wpe.weight.fill_(1000.0)
    try:
        reading = measure_reconstruction(workload, "bdia", 23, seed=0)
    finally:
        with torch.no_grad():
            workload.model.transformer.wpe.weight.copy_(kept)
    assert not reading.bit_exact
    assert any(error.mismatched for error in reading.reconstruction)


def test_the_workload_is_left_as_it_was(workload: Workload) -> None:
    """Same weights, no gradients, no method attached."""
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    measure_reconstruction(workload, "bdia", 9, seed=0)
    assert all(map(torch.equal, before, workload.model.parameters()))
    assert all(parameter.grad is None for parameter in workload.model.parameters())
    assert all("forward" not in module.__dict__ for module in workload.model.modules())


def test_a_method_that_rebuilds_nothing_is_refused(workload: Workload) -> None:
    """There is no reconstruction to measure."""
    with pytest.raises(ValueError, match="standard rebuilds no activations"):
        measure_reconstruction(workload, "standard", seed=0)


def test_an_encoder_decoder_is_numbered_through(workload: Workload) -> None:
    """Blocks of two chains are numbered in the order they run, and each is rebuilt bit for bit."""
    both = translator(workload)
    reading = measure_reconstruction(both, "bdia", 9, seed=0)
    assert [error.block for error in reading.reconstruction] == list(range(5))
    assert reading.bit_exact
    assert reading.missing == ()
    assert measure_gradients(both, "bdia", 9, seed=0).gradient_error == 0.0


def test_verification_names_what_is_not_rebuilt(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `verify` a block that is not the same when it runs again is an error, and not a number."""
    block = workload.model.transformer.h[1]
    forward, runs = block.forward, itertools.count()
    monkeypatch.setattr(block, "forward", lambda x: forward(x) + next(runs))
    with pytest.raises(ReconstructionError, match=r"transformer\.h\.1"):
        measure_reconstruction(workload, "bdia", 9, seed=0, verify=True)
    workload.optimizer.zero_grad(set_to_none=True)
