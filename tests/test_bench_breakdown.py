"""Where the bytes of a peak are: parts that add up, and are what they are called."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.testing._internal.two_tensor import TwoTensor
from zoo import ZOO, Specimen, loss_of

import bdia
from bdia.methods import Method, names
from bdia.updates import Euler, State
from bench import parts
from bench.case import Case
from bench.meters import MeterError, breakdown
from bench.meters.level import level
from bench.meters.memory import MemoryReading, measure_memory
from bench.meters.reconstruction import measure_reconstruction
from bench.meters.trace import Event, Moment, Trace, Tracer
from bench.workload import Workload, build

CPU = torch.device("cpu")
DEPTH, WIDTH, SEQ, BATCH = 5, 24, 11, 3
STATE = 4 * BATCH * SEQ * WIDTH
"""Bytes of one x of the gpt, fp32 [B, T, D]."""
STATES = "residual_states"


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
    # Segments store an x each, and rebuild those of the one they are at; a velocity is no x.
    others = {
        "checkpoint-segments": 4, "checkpoint-selective": DEPTH + 1, "offload": DEPTH + 1,
        "standard-quantised": DEPTH + 1, "two-stream": 2, "momentum": 1, "leapfrog": 2, "leapfrog-exact": 2,
    }  # fmt: skip
    assert states == {
        # A checkpoint's peak is in the backward, when x_N is gone.
        "standard": DEPTH + 1, "checkpoint": DEPTH, "bdia-stored": DEPTH + 1, "bdia-unquantised": DEPTH + 1,
        "bdia-naive": 2, "bdia": 2, **others,
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


class Keeping(nn.Module):
    """A block that keeps a copy of its last y, several times over, until the next."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        self.last = torch.cat([y.detach()] * 8)
        return y


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia"])
def test_what_is_kept_until_the_next_forward_is_told_once(method: str) -> None:
    """Released and made again in one step, it is no more than before, in its block and without a negative rest."""
    workload = gpt()
    blocks = workload.model.transformer.h
    blocks[2] = Keeping(blocks[2])
    kept = read(Workload(workload.model, workload.batch, workload.loss, blocks=tuple(blocks)), method)
    check_sums(kept)
    if method == "standard":
        assert kept.activation_parts == read(gpt(), method).activation_parts


class Around(nn.Module):
    """A block with a block inside."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.outer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.outer(self.inner(x)))


def test_what_surrounds_a_block_within_a_block_is_the_outer_ones() -> None:
    """Chains inside one another: each has what it stored itself, and nothing of it is the head's."""
    workload = gpt()
    blocks = workload.model.transformer.h
    inner = list(blocks)
    for number, block in enumerate(inner):
        blocks[number] = Around(block)
    nested = read(Workload(workload.model, workload.batch, workload.loss, blocks=[list(blocks), inner]), "standard")
    check_sums(nested)
    assert nested.activation_parts is not None
    held = nested.activation_parts["block"]
    assert isinstance(held, dict)
    outer = [parts.flat({"block": held})["block", 2 * number] for number in range(DEPTH)]
    assert outer == [STATE] * DEPTH  # tanh's result; the inner block's y is its last x_k
    plain = read(gpt(), "standard").activation_parts
    assert plain is not None
    assert nested.activation_parts["head_and_loss"] == plain["head_and_loss"]


def test_sparse_gradients_are_measured() -> None:
    """A tensor without a storage of its own has those of its indices and values."""
    workload = gpt()
    workload.model.transformer.wte.sparse = True
    workload.model.lm_head.weight = nn.Parameter(workload.model.lm_head.weight.detach().clone())
    optimizer = torch.optim.SGD(workload.model.parameters(), lr=0.01)
    check_sums(read(Workload(workload.model, workload.batch, workload.loss, optimizer)))


def test_parameters_made_of_other_tensors_are_measured() -> None:
    """A wrapper holds what it wraps."""
    workload = gpt()
    linear = workload.model.lm_head
    linear.weight = nn.Parameter(TwoTensor(linear.weight.detach().clone(), linear.weight.detach().clone()))
    optimizer = torch.optim.SGD(workload.model.parameters(), lr=0.01)
    reading = read(Workload(workload.model, workload.batch, workload.loss, optimizer), "standard")
    check_sums(reading)
    assert reading.peak_parts is not None
    plain = sum(parameter.nbytes for parameter in gpt().model.parameters())
    assert parts.totals(reading.peak_parts)["parameters"] == plain + 2 * linear.weight.a.nbytes


def test_a_breakdown_that_cannot_be_made_costs_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are as they were, there are no parts, and a warning says why."""
    expected = read(gpt())

    def broken(*_: object) -> None:
        raise StopIteration

    monkeypatch.setattr(breakdown.Survey, "peak", broken)
    with pytest.warns(UserWarning, match="not broken down: StopIteration"):
        reading = read(gpt())
    assert (reading.activation_parts, reading.peak_parts) == (None, None)
    assert (reading.activation_bytes, reading.peak_bytes) == (expected.activation_bytes, expected.peak_bytes)


class Averaging(Euler):
    """Two states, and the model is given their mean: an output that is computed."""

    chained = True

    def start(self, x: Tensor) -> State:
        return x, x

    def input(self, state: State) -> Tensor:
        assert state[1] is not None
        return state[1]

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        return (state[1], y), None

    def output(self, state: State) -> Tensor:
        before, x = state
        assert before is not None
        assert x is not None
        return (before + x) / 2


class Unwatched:
    """A handle that shows nothing."""

    side_bytes = rng_bytes = 0

    def observing(self, watcher: object) -> Any:
        return contextlib.nullcontext()


class Adding(nn.Module):
    """Blocks that do next to nothing, so that the peak is where the forward ends."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, WIDTH)
        self.blocks = nn.ModuleList(Shift() for _ in range(DEPTH))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        total: Tensor = x.sum()
        return total


class Shift(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def test_watching_computes_nothing_of_a_rule_twice() -> None:
    """A rule whose output is computed needs the same bytes watched and unwatched."""
    method = Method("averaging", Averaging, "bdia.backprop.stored:Stored", "the mean of two states")
    model, tokens = Adding(), torch.zeros(BATCH, 64 * SEQ, dtype=torch.long)
    workload = Workload(model, tokens, lambda model, tokens: model(tokens), blocks=tuple(model.blocks))
    with bdia.attach(model, method, seed=0, blocks=workload.blocks) as handle:
        watched, alone = measure_memory(workload, handle, CPU), measure_memory(workload, Unwatched(), CPU)
    assert watched.activation_bytes == alone.activation_bytes
    check_sums(watched)


def test_an_address_used_again_later_changes_nothing() -> None:
    """A note made after the stretch is of another allocation, though at the same address."""
    survey = breakdown.Survey()
    survey._known = [(64, ("gradients", None))]
    trace = Trace(
        events=[Event(2, 64, 4, 4), Event(5, 64, -4, 0), Event(6, 64, 8, 8)],
        moments=[Moment(1, "first"), Moment(3, "last"), Moment(7, "0")],
    )
    assert survey.peak(trace, "first", "last").parts(4) == {("head_and_loss", None): 4, ("other", None): 0}


def test_cuda_figures_do_not_hang_on_the_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be started, such as inside another, the allocator's level is read all the same."""

    def refuse(_: object) -> None:
        raise RuntimeError("another profiler is running")

    monkeypatch.setattr(Tracer, "start", refuse)
    for name, answer in {
        "synchronize": None, "reset_peak_memory_stats": None, "memory_allocated": 5, "max_memory_allocated": 8,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda _, answer=answer: answer)
    with level(torch.device("cuda", 0)) as meter:
        meter.mark("end")
    assert meter.rise("start", "end") == 3
    with pytest.raises(MeterError, match="another profiler is running"):
        _ = meter.trace


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


class Asking(nn.Module):
    """A block that adds a little of a gradient that it asks for in its forward, of something 64 times as wide as x."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        # Its own hooks keep what it saves from the method's: a backward before the forward's end finds it stored.
        with torch.enable_grad(), saved_tensors_hooks(lambda saved: saved, lambda saved: saved):
            wide = torch.cat([x.detach()] * 64, dim=-1).requires_grad_()
            (gradient,) = torch.autograd.grad(wide.exp().sin().sum(), wide)
        y: Tensor = self.block(x)
        return y + 1e-6 * gradient[..., : x.shape[-1]]


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia"])
def test_gradients_asked_for_in_a_block_are_that_blocks(method: str) -> None:
    """In its forward and as it is run again: what such a backward allocates is no head's."""
    workload = gpt()
    blocks = workload.model.transformer.h
    blocks[2] = Asking(blocks[2])
    found = read(Workload(workload.model, workload.batch, workload.loss, blocks=tuple(blocks)), method)
    check_sums(found)
    whole, plain = (parts.totals(each.activation_parts) for each in (found, read(gpt(), method)))
    assert found.activation_parts is not None
    # What the exp saved, its gradient and that of the sine: each 64 times x.
    assert parts.flat(found.activation_parts)["block", 2] >= 3 * 64 * STATE
    assert whole["head_and_loss"] <= plain["head_and_loss"]


def test_a_second_forward_goes_on_counting() -> None:
    """A loss of two forwards has twice as many calls, the second's after the first's: each holds states of its own, and
    is rebuilt on its own account."""
    workload = gpt()
    once = workload.loss
    twice = Workload(workload.model, workload.batch, lambda *given: once(*given) + once(*given))
    found = read(twice, "standard")
    check_sums(found)
    assert found.activation_parts is not None
    states = {block: nbytes for (part, block), nbytes in parts.flat(found.activation_parts).items() if part == STATES}
    assert set(states) == set(range(2 * DEPTH))
    rebuilt = measure_reconstruction(twice, "bdia", 9, seed=0)
    assert [error.block for error in rebuilt.reconstruction] == list(range(2 * DEPTH))
    assert rebuilt.bit_exact
