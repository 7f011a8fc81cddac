"""The ResNet as a workload: what its methods hold, and that its gradients are right."""

from __future__ import annotations

import pytest

from bdia.methods import METHODS, get
from bench.attaching import attach
from bench.case import Case
from bench.meters.gradients import measure_gradients
from bench.meters.memory import MemoryReading, measure_memory
from bench.meters.reconstruction import measure_reconstruction
from bench.workload import Workload, build

WIDTH, BATCH = 8, 4
SIZES = [BATCH * WIDTH * 2**stage * (32 // 2**stage) ** 2 for stage in range(3)]
"""Elements of x in each stage."""


def workload(depth: int) -> Workload:
    return build(Case(
        method="bdia", model="resnet", depth=depth, width=WIDTH, heads=None, seq=None, batch=BATCH, bits=9, vocab=None,
        dtype="fp32", train_steps=0, device="cpu", seed=0, data=None,
    ))  # fmt: skip


def read(method: str, depth: int) -> MemoryReading:
    made = workload(depth)
    with attach(made, method, seed=0, bits=9 if get(method).quantised else None) as handle:
        return measure_memory(made, handle, made.device)


def grown(method: str) -> int:
    """Bytes of activations that three blocks more add, one a stage."""
    shallow, middle, deep = (read(method, depth).activation_bytes for depth in (6, 9, 12))
    assert deep - middle == middle - shallow
    return deep - middle


def test_memory_falls_as_the_law_says() -> None:
    """A block more keeps four tensors of x's size with plain autograd, and what batch norm needs of each channel; one
    with checkpointing, and next to nothing in floating-point BDIA; a bit an element in BDIA, of which the peak, in the
    first stage's backward, sees the first stage's alone."""
    slack = 64 * BATCH  # γ
    channels = sum(WIDTH * 2**stage for stage in range(3))
    assert grown("standard") == 4 * 4 * sum(SIZES) + 2 * 2 * 4 * channels
    assert grown("checkpoint") <= 1.1 * 4 * sum(SIZES)
    assert grown("bdia-naive") <= slack
    assert abs(grown("bdia") - SIZES[0] // 8) <= slack


@pytest.mark.parametrize(("depth", "blocks"), [(6, 1), (12, 3)])
def test_side_bits_are_one_an_activation(depth: int, blocks: int) -> None:
    """Exactly, over all stages; the first block of each keeps none."""
    assert read("bdia", depth).side_bytes == blocks * sum(SIZES) // 8


@pytest.mark.parametrize("method", [method.name for method in METHODS if method.name != "standard"])
def test_every_method_is_measured(method: str) -> None:
    """What is rebuilt exactly has no error in any block of any stage, and exact gradients; the rest is near."""
    made, chosen = workload(6), get(method)
    bits = 9 if chosen.quantised else None
    exact = not chosen.reversible or chosen.quantised
    error = measure_gradients(made, method, bits, seed=0).gradient_error
    assert error is not None
    assert error == 0.0 if exact else 0.0 < error < 1e-3
    if chosen.reversible:
        reading = measure_reconstruction(made, method, bits, seed=0)
        assert [one.block for one in reading.reconstruction] == list(range(6))
        assert reading.bit_exact is chosen.quantised
        assert reading.missing == ()
