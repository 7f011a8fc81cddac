"""Where the bytes of a peak are: parts that add up, and are what they are called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo import ZOO, Specimen, loss_of

import bdia
from bdia.methods import names
from bench import parts
from bench.case import Case
from bench.meters.breakdown import Survey
from bench.meters.memory import MemoryReading, measure_memory
from bench.meters.trace import Event, Moment, Trace
from bench.workload import Workload, build

CPU = torch.device("cpu")
DEPTH, WIDTH, SEQ, BATCH = 5, 24, 11, 3
STATE = 4 * BATCH * SEQ * WIDTH
"""Bytes of one x of the gpt, fp32 [B, T, D]."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on a busy machine: threads would mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gpt(**axes: Any) -> Workload:
    fields: dict[str, Any] = {
        "method": "bdia", "model": "gpt", "depth": DEPTH, "width": WIDTH, "heads": 3, "seq": SEQ, "batch": BATCH,
        "bits": 9, "vocab": 131, "dtype": "fp32", "train_steps": 0, "device": "cpu", "seed": 0, "data": None,
    }  # fmt: skip
    return build(Case(**(fields | axes)))


def read(workload: Workload, method: str = "bdia", **options: Any) -> MemoryReading:
    with bdia.attach(workload.model, method, seed=0, blocks=workload.blocks, **options) as handle:
        return measure_memory(workload, handle, CPU)


def check_sums(reading: MemoryReading) -> None:
    """Both figures are the sum of their parts, and nothing is left that no part has a name for."""
    assert parts.total(reading.activation_parts) == reading.activation_bytes
    assert parts.total(reading.peak_parts) == reading.peak_bytes
    for found in (reading.activation_parts, reading.peak_parts):
        assert "other" not in found
        assert all(nbytes > 0 for nbytes in parts.flat(found).values())


@pytest.mark.parametrize("dtype", ["fp32", "bf16-amp", "bf16"])
@pytest.mark.parametrize("model", ["gpt", "vit"])
@pytest.mark.parametrize("method", names())
def test_the_parts_add_up(method: str, model: str, dtype: str) -> None:
    """Every method, both reference models, each dtype: to the byte, and without a rest."""
    sizes = {} if model == "gpt" else {"seq": None, "vocab": None}
    check_sums(read(gpt(model=model, dtype=dtype, **sizes), method))


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia-naive", "bdia"])
@pytest.mark.parametrize("specimen", ZOO[::4], ids=str)
def test_the_parts_of_models_from_elsewhere_add_up(specimen: Specimen, method: str) -> None:
    """Unmodified models too: dropout, two chains, hybrids."""
    check_sums(read(Workload(specimen.model(), specimen.batch(), loss_of), method))


def test_the_parts_are_what_each_method_keeps() -> None:
    """x_k of every block for a checkpoint, of two for BDIA, and one side bit an element for all but the first block."""
    kept = {method: read(gpt(), method).activation_parts for method in names()}
    states = {method: parts.totals(found)["residual_states"] // STATE for method, found in kept.items()}
    assert states == {
        # A checkpoint's peak is in the backward, when x_N is gone.
        "standard": DEPTH + 1, "checkpoint": DEPTH, "bdia-stored": DEPTH + 1, "bdia-unquantised": DEPTH + 1,
        "bdia-naive": 2, "bdia": 2,
    }  # fmt: skip
    reading = read(gpt())
    each = BATCH * SEQ * WIDTH // 8
    assert reading.side_bytes == (DEPTH - 1) * each
    # At the peak, in the backward of the last block, its own side bits have been used already.
    assert reading.activation_parts["side_bits"] == {f"1-{DEPTH - 2}": each}
    assert [method for method, found in kept.items() if "side_bits" in found] == ["bdia"]


def test_stored_activations_are_those_of_their_blocks() -> None:
    """Under plain autograd every block holds the same, but for the last, whose backward the peak is in."""
    kept = read(gpt(), "standard").activation_parts["block"]
    assert isinstance(kept, dict)
    blocks = {block: nbytes for (_, block), nbytes in parts.flat({"block": kept}).items()}
    assert set(blocks) == set(range(DEPTH))
    assert len({blocks[block] for block in range(DEPTH - 1)}) == 1


def test_a_whole_step_has_its_static_parts() -> None:
    """Parameters, two moments of Adam and their counts, the batch, and gradients as far as the peak has seen them."""
    workload = gpt()
    parameters = {p.untyped_storage().data_ptr(): p.nbytes for p in workload.model.parameters()}
    held = parts.totals(read(workload, "checkpoint").peak_parts)
    assert held["parameters"] == sum(parameters.values())
    assert held["optimizer_state"] == 2 * held["parameters"] + 4 * len(parameters)
    assert held["input"] == 2 * 8 * BATCH * SEQ
    assert 0 < held["gradients"] <= held["parameters"]


def test_the_optimisers_own_memory_is_named() -> None:
    """A step whose highest moment is inside the optimiser says so."""
    workload = gpt(depth=1, batch=1, seq=2)
    reading = read(workload, "bdia-naive")
    assert "optimizer_step" in reading.peak_parts
    check_sums(reading)


LEAK = 4096


class Leaking(nn.Module):
    """A block that keeps 4 KiB of each forward for good."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.leaked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.leaked.append(torch.empty(LEAK, dtype=torch.uint8))
        y: Tensor = self.block(x)
        return y


def leaky(*at: int) -> Workload:
    workload = gpt()
    blocks = workload.model.transformer.h
    for block in at:
        blocks[block] = Leaking(blocks[block])
    return Workload(workload.model, workload.batch, workload.loss, blocks=tuple(blocks))


@pytest.mark.parametrize("method", ["standard", "bdia-stored"])
def test_a_leak_is_in_its_block(method: str) -> None:
    """What one block holds beyond its due moves that block, and no other."""
    moved = parts.moves(read(gpt(), method).activation_parts, read(leaky(2), method).activation_parts)
    assert [(move.where, move.bytes) for move in moved] == [("block 2", LEAK)]


def test_a_leak_in_a_rerun_is_in_its_block_too() -> None:
    """Blocks that run twice leak twice: the first time each, the second time the one that the peak is in."""
    moved = parts.moves(read(gpt()).activation_parts, read(leaky(0, DEPTH - 1)).activation_parts)
    assert {(move.where, move.bytes) for move in moved} == {("block 0", LEAK), (f"block {DEPTH - 1}", 2 * LEAK)}


def test_a_breakdown_changes_no_figure() -> None:
    """Watching a step allocates nothing: the same bytes as without."""
    workload = gpt()
    with bdia.attach(workload.model, "bdia", seed=0, blocks=workload.blocks) as handle:
        watched = measure_memory(workload, handle, CPU)

        class Unwatched:
            side_bytes, rng_bytes = handle.side_bytes, handle.rng_bytes

            def observing(self, watcher: object) -> Any:
                return torch.enable_grad()

        alone = measure_memory(workload, Unwatched(), CPU)
    figures = ("static_bytes", "activation_bytes", "peak_bytes", "saved_bytes")
    assert [getattr(watched, name) for name in figures] == [getattr(alone, name) for name in figures]


def test_a_note_is_of_its_own_stretch() -> None:
    """What a later stretch notes of an address says nothing of what lay there in an earlier one."""
    survey, x = Survey(), torch.empty(4)
    survey.rebuilt(0, x)
    survey.rebuilt(1, x)
    events = [Event(2, x.untyped_storage().data_ptr(), 16, 16)]
    ends = [Moment(1, "a"), Moment(5, "b"), Moment(9, "c")]
    noted = {at: Trace(events, sorted([*ends, Moment(at, "0"), Moment(8, "1")])) for at in (3, 7)}
    whose = {at: [one.whose for one in survey.peak(trace, "a", "b").allocations] for at, trace in noted.items()}
    assert whose == {3: [("residual_states", 0)], 7: [("head_and_loss", None)]}
    assert survey.peak(noted[3], "a", "c").parts(20) == {("residual_states", 1): 16, ("other", None): 4}


@pytest.mark.gpu
@pytest.mark.parametrize("method", names())
def test_the_parts_add_up_on_cuda(method: str) -> None:
    """The caching allocator's blocks are accounted for too; the rest is rounding and library workspaces."""
    workload = gpt(device="cuda")
    with bdia.attach(workload.model, method, seed=0, blocks=workload.blocks) as handle:
        reading = measure_memory(workload, handle, workload.device)
    assert parts.total(reading.activation_parts) == reading.activation_bytes
    assert parts.total(reading.peak_parts) == reading.peak_bytes
    assert "other" not in reading.activation_parts
    assert "block" in reading.activation_parts
