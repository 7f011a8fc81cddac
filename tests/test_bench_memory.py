"""The memory meter against figures known on paper. `UNIT` is the bytes of one fp32 matrix [SIDE, SIDE]."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

import bdia
from bdia.backprop import Watcher
from bdia.methods import names
from bench.case import Case
from bench.meters import MeterError, rss
from bench.meters.level import CpuLevel, Event, Level, level, levels
from bench.meters.memory import measure_memory, run_step, static_bytes
from bench.workload import build

CPU = torch.device("cpu")
SIDE = 32
UNIT = 4 * SIDE * SIDE


def matrix(*, requires_grad: bool = False) -> Tensor:
    return torch.randn(SIDE, SIDE, requires_grad=requires_grad)


def measured(code: Callable[[], object]) -> tuple[int, int]:
    """(highest, last) level of `code` in bytes, relative to its start; what it returns is kept until the end."""
    with level(CPU) as meter:
        kept = code()
        meter.mark("end")
        del kept
    return meter.rise("start", "end"), meter.change("start", "end")


def test_a_chain_of_matrix_products_without_gradients_holds_two_matrices() -> None:
    """Each product needs its input and its output, and the input before that is gone."""
    x, weights = matrix(), [matrix() for _ in range(5)]

    def chain() -> Tensor:
        with torch.no_grad():
            y = x @ weights[0]
            for weight in weights[1:]:
                y = y @ weight
        return y

    assert measured(chain) == (2 * UNIT, UNIT)


@pytest.mark.parametrize("length", [3, 6])
def test_a_chain_of_matrix_products_with_gradients_holds_every_input(length: int) -> None:
    """The backward peaks at its second product: L-1 inputs, the gradient in, two out, one weight's gradient kept."""
    x, seed = matrix(), torch.ones(SIDE, SIDE)
    weights = [matrix(requires_grad=True) for _ in range(length)]

    def forward() -> Tensor:
        y = x
        for weight in weights:
            y = y @ weight
        return y

    with level(CPU) as meter:
        y = forward()
        meter.mark("forward")
        y.backward(seed)
        meter.mark("backward")
    assert meter.change("start", "forward") == length * UNIT
    assert meter.rise("start", "forward") == length * UNIT
    # y itself, and a gradient for each weight
    assert meter.change("start", "backward") == (1 + length) * UNIT
    assert meter.rise("start", "backward") == (length + 3) * UNIT
    assert meter.rise("forward", "backward") == 3 * UNIT


def test_a_temporary_between_two_operations_is_seen() -> None:
    """`(a + b).sum()` holds a sum of matrices while it makes a scalar, and keeps the scalar alone."""
    a, b = matrix(), matrix()
    assert measured(lambda: (a + b).sum()) == (UNIT + 4, 4)


def test_a_tensor_allocated_and_freed_inside_an_operation_is_seen() -> None:
    """Cross-entropy without gradients makes all log-probabilities, then the loss and its weight, and keeps the loss."""
    logits, targets = torch.randn(64, 100), torch.randint(100, (64,))
    assert measured(lambda: nn.functional.cross_entropy(logits, targets)) == (4 * 64 * 100 + 4 + 4, 4)


def test_the_buffer_of_a_parallel_sum_is_seen() -> None:
    """A large sum over T threads takes a buffer of T partial sums from torch's allocator."""
    x = torch.ones(2**17)
    threads = torch.get_num_threads()
    assert measured(x.sum) == (4 + (4 * threads if threads > 1 else 0), 4)


def test_a_temporary_inside_the_backward_is_seen() -> None:
    """A gradient added to one that exists is allocated, added and freed; nothing of it is left."""
    weight = matrix(requires_grad=True)
    other, seed = matrix(), torch.ones(SIDE, SIDE)
    weight.grad = torch.zeros(SIDE, SIDE)
    y = weight * other

    def backward() -> None:
        y.backward(seed)

    assert measured(backward) == (UNIT, 0)


def test_frees_in_another_order_than_the_allocations_add_up() -> None:
    """Blocks of 1, 2 and 4 KiB, freed first, last, middle, with one allocated in between."""

    def code() -> Tensor:
        a, b, c = (torch.empty(n, dtype=torch.uint8) for n in (1024, 2048, 4096))
        del a
        d = torch.empty(512, dtype=torch.uint8)
        del c
        e = torch.empty(3000, dtype=torch.uint8)
        del b, e
        return d

    assert measured(code) == (1024 + 2048 + 4096, 512)


def test_an_allocation_in_a_backward_hook_is_seen() -> None:
    """A hook that negates a gradient out of place holds both at once."""
    weight = matrix(requires_grad=True)
    other, seed = matrix(), torch.ones(SIDE, SIDE)
    y = weight * other
    weight.register_hook(torch.neg)

    def backward() -> None:
        y.backward(seed)

    assert measured(backward) == (2 * UNIT, UNIT)


def test_marks_part_the_time_and_leave_no_trace_in_it() -> None:
    """Each stretch has a peak of its own, and the meter's own bytes are not in it."""
    with level(CPU) as meter:
        a = torch.empty(1000, dtype=torch.uint8)
        meter.mark("one")
        del a
        meter.mark("two")
        b = torch.empty(300, dtype=torch.uint8)
        c = torch.empty(7, dtype=torch.uint8)
        del b
        meter.mark("three")
        del c
    assert [meter.change("start", name) for name in ("start", "one", "two", "three")] == [0, 1000, 0, 7]
    assert meter.rise("one", "two") == 0
    assert meter.change("one", "two") == -1000
    assert meter.rise("two", "three") == 307
    assert meter.rise("start", "three") == 1000


def test_one_byte_blocks_are_not_taken_for_marks() -> None:
    """A block of the size of a mark, freed before a mark takes its address, counts as what it is."""
    with level(CPU) as meter:
        for _ in range(5):
            torch.empty(1, dtype=torch.uint8)
        kept = torch.empty(1, dtype=torch.uint8)
        meter.mark("end")
        del kept
    assert (meter.rise("start", "end"), meter.change("start", "end")) == (1, 1)


def test_two_runs_of_one_case_read_the_same() -> None:
    """The level of a training step of torch's own transformer layer is the same from run to run."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
    x = torch.randn(4, 16, 32)

    def step() -> None:
        layer(x).square().mean().backward()
        layer.zero_grad(set_to_none=True)

    step()
    assert measured(step) == measured(step)


def test_a_release_that_the_profiler_cannot_see_is_an_error() -> None:
    """Memory from before the level that is released in a stretch makes that stretch, and no other, unknown."""
    old = torch.empty(5000, dtype=torch.uint8)
    with level(CPU) as meter:
        kept = torch.empty(10, dtype=torch.uint8)
        meter.mark("one")
        del old
        meter.mark("two")
        more = torch.empty(20, dtype=torch.uint8)
        meter.mark("three")
        del kept, more
    assert meter.change("start", "one") == 10
    assert meter.change("two", "three") == 20
    with pytest.raises(MeterError, match="5000 bytes allocated before the level began were released between 'one'"):
        meter.rise("one", "two")
    with pytest.raises(MeterError, match="5000 bytes"):
        meter.change("start", "three")


def test_a_release_of_memory_from_an_earlier_level_is_seen() -> None:
    """The profiler knows what it saw allocated, in whichever session."""
    with level(CPU) as first:
        kept = torch.empty(5000, dtype=torch.uint8)
        first.mark("end")
    with level(CPU) as second:
        del kept
        second.mark("end")
    assert second.change("start", "end") == -5000


def test_the_collector_is_off_inside_and_back_afterwards() -> None:
    """No cycle is freed at a moment of the collector's choosing; an exception changes nothing about that."""
    assert gc.isenabled()
    with level(CPU):
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), level(CPU):
        raise KeyError
    assert gc.isenabled()


def test_a_level_is_asked_after_it_ended() -> None:
    """Before the end there is nothing to answer with."""
    with CpuLevel() as meter:
        with pytest.raises(MeterError, match="before it ends"):
            meter.rise("start", "start")
        with pytest.raises(ValueError, match="already set"):
            meter.mark("start")
        meter.mark("end")
    with pytest.raises(ValueError, match="comes before"):
        meter.rise("end", "start")


def test_a_level_writes_nothing_to_standard_error() -> None:
    """A child's last line there is taken for its error, and the profiler would announce itself."""
    code = "import torch; from bench.meters.level import level\nwith level(torch.device('cpu')): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_device_without_a_meter_is_an_error() -> None:
    """Neither CPU nor CUDA: nothing is measured instead."""
    with pytest.raises(MeterError, match="'meta'"):
        level(torch.device("meta"))


def test_levels_take_the_allocators_word() -> None:
    """The maximum is of the levels reported, the marks' own bytes taken off."""
    events = [Event(1, 10, 1, 501), Event(2, 20, 100, 601), Event(2, 20, -100, 501), Event(3, 20, 1, 502)]
    assert levels(events, [10, 20]) == ([0, 0], [0, 100])


@pytest.mark.parametrize(
    ("events", "marks"),
    [
        ([Event(1, 10, 1, 1)], [10, 20]),
        ([Event(1, 10, 1, 1), Event(2, 30, 50, 151), Event(3, 20, 1, 152)], [10, 20]),
    ],
    ids=["a mark is missing", "a level does not follow"],
)
def test_incomplete_events_are_an_error(events: list[Event], marks: list[int]) -> None:
    """Events that do not add up give no figure."""
    with pytest.raises(MeterError):
        levels(events, marks)


@dataclass
class Chain:
    """A stand-in for a workload: a chain of linear maps [D, D] on [B, D], momentum, everything known on paper."""

    depth: int
    accumulate: int = 1
    batch: tuple[Tensor, ...] = field(default_factory=lambda: (torch.randn(8, SIDE), torch.randn(8, SIDE)))

    def __post_init__(self) -> None:
        self.model = nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False) for _ in range(self.depth)))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        x, weight = batch
        return (model(x) * weight).sum()


class _NoMethod:
    """Stands in for a handle where no method is attached."""

    side_bytes = rng_bytes = None

    def observing(self, watcher: Watcher) -> AbstractContextManager[None]:
        return nullcontext()


NOTHING_HELD = _NoMethod()


@pytest.mark.parametrize("depth", [2, 5])
def test_the_memory_of_a_chain_is_as_on_paper(depth: int) -> None:
    """Static, activation, saved and peak bytes of a training step, to the byte."""
    states = 4 * 8 * SIDE  # bytes of one [B, D]
    reading = measure_memory(Chain(depth), NOTHING_HELD, CPU)
    weights = depth * UNIT
    # weights, gradients, momentum, and the batch's two tensors
    assert reading.static_bytes == 3 * weights + 2 * states
    # Saved: the inputs of all products but the first (the batch itself), and the loss.
    assert reading.saved_bytes == (depth - 1) * states + 4
    # The last product's backward: its inputs, the gradient in and out, its weight's gradient before it is added;
    # the loss and the 1 that its backward starts from.
    assert reading.activation_bytes == (depth + 1) * states + UNIT + 8
    # At the second product all gradients but one are there, with an input and two gradients of states; at the
    # first it is all of them and one gradient.
    working = max(3 * states + (depth - 1) * UNIT, states + depth * UNIT)
    assert reading.peak_bytes == 2 * weights + 2 * states + working + 8
    assert (reading.side_bytes, reading.rng_bytes) == (None, None)
    assert (reading.reserved_bytes, reading.nvml_bytes) == (None, None)
    assert reading.rss_bytes > reading.peak_bytes


def test_a_storage_counts_once_and_whole() -> None:
    """Tied weights and views share their storage."""
    chain = Chain(2)
    whole = torch.zeros(4, SIDE)
    chain.batch = (whole[0], whole[1])
    chain.model[1].weight = chain.model[0].weight
    assert static_bytes(chain, CPU) == UNIT + 4 * 4 * SIDE


def test_a_step_starts_and_ends_without_gradients() -> None:
    """The step that people run leaves none behind."""
    chain = Chain(2)
    run_step(chain)
    assert all(parameter.grad is None for parameter in chain.model.parameters())


def gpt(method: str) -> Case:
    return Case(
        method=method, model="gpt", depth=3, width=32, heads=2, seq=16, batch=2, bits=9, vocab=256, dtype="fp32",
        train_steps=0, device="cpu", seed=0, data=None,
    )  # fmt: skip


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors on a busy machine: threads would mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", names())
def test_two_readings_of_one_case_are_the_same_bytes(method: str) -> None:
    """All figures but the resident set, which is the operating system's."""

    def read() -> dict[str, int | None]:
        workload = build(gpt(method))
        with bdia.attach(workload.model, method, seed=0, blocks=workload.blocks) as handle:
            fields = vars(measure_memory(workload, handle, CPU))
        return {name: value for name, value in fields.items() if name != "rss_bytes"}

    first = read()
    assert read() == first
    # One bit an element of the stream for every step but the last, which needs none.
    assert first["side_bytes"] == (2 * 16 * 32 // 8 * 2 if method == "bdia" else 0)


def test_the_resident_set_is_of_this_process_alone() -> None:
    """A child does not report what its parent once held."""
    ballast = b"\1" * (256 * 2**20)
    ask = "from bench.meters import rss; print(rss.high_water_bytes())"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert 2**20 < int(answer.stdout) < len(ballast) < rss.high_water_bytes()


@pytest.mark.gpu
def test_the_level_of_cuda_counts_blocks_of_512_bytes() -> None:
    """The same marks and questions, answered by the caching allocator."""
    with level(torch.device("cuda", 0)) as meter:
        a = torch.empty(1, device="cuda")
        b = torch.empty(1000, device="cuda")
        del b
        meter.mark("one")
        c = torch.empty(SIDE, SIDE, device="cuda")
        meter.mark("two")
        del a, c
    assert isinstance(meter, Level)
    assert (meter.rise("start", "one"), meter.change("start", "one")) == (512 + 4096, 512)
    assert (meter.rise("one", "two"), meter.change("one", "two")) == (UNIT, UNIT)
