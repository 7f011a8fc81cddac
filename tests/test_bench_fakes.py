"""Counting on fake tensors: the same bytes as a real step allocates, at no cost in memory, for any method and model."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from bdia.dial import Dial
from bdia.methods import METHODS
from bench import parts
from bench.attaching import attach_planned
from bench.case import Case, Plan, recomputed_by
from bench.fakes import answers, asking, figures, kernels
from bench.fakes import world as worlds
from bench.fakes.counter import Counter
from bench.fakes.ledger import Ledger
from bench.fakes.world import world
from bench.meters import trace
from bench.meters.level import level
from bench.meters.memory import measure_memory
from bench.peers import PEERS, Peer
from bench.workload import build

Asked = tuple[Any, tuple[Any, ...]]
"""An operator and what it is given."""
ROOT = Path(__file__).parent.parent
SIZES = ("static_bytes", "activation_bytes", "peak_bytes", "saved_bytes", "side_bytes", "rng_bytes")
QUANTISED = {method.name for method in METHODS if method.quantised}
NAMES = ("standard", "checkpoint", "bdia-stored", "bdia-naive", "bdia")


def plan_of(method: str, **axes: Any) -> Plan:
    fields: dict[str, Any] = {
        "method": method, "model": "gpt", "depth": 3, "width": 36, "heads": 3, "seq": 17, "batch": 3,
        "bits": 9 if method in QUANTISED else None, "vocab": 256, "dtype": "fp32", "train_steps": 0,
        "device": "cpu", "seed": 0, "data": None,
    }  # fmt: skip
    if str(axes.get("model")).startswith("vit"):
        fields |= {"seq": None, "vocab": None}
    if axes.get("model") == "resnet":
        fields |= {"seq": None, "vocab": None, "heads": None}
    return Plan(Case(**(fields | axes)), frozenset({"memory"}))


def measured(plan: Plan) -> dict[str, Any]:
    """What a real step of it holds."""
    workload = build(plan.case)
    with attach_planned(workload, plan) as handle:
        return dict(vars(measure_memory(workload, handle, workload.device)))


def of_whom(found: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Whose a peak is. Of a convolution's backward it is known how high it reaches, not at which of its moments: the
    gradient that it makes and its workspace, in a block or between stages, are taken together."""
    if plan.case.model != "resnet":
        return dict(found["peak_parts"])
    sums: dict[str, Any] = dict(parts.totals(found["peak_parts"]))
    return sums | {"block": sum(sums.pop(name, 0) for name in ("gradients", "block", "head_and_loss"))}


def assert_same(plan: Plan, *, apart: int = 0) -> None:
    """Predicted is measured, byte by byte, but for `apart` bytes in the figures of a whole step."""
    real, fake = measured(plan), figures.count(plan)
    for name in SIZES:
        if real[name] is None:  # what a library does not tell
            assert name not in fake
            continue
        allowed = apart if name in ("activation_bytes", "peak_bytes") else 0
        assert abs(fake[name] - real[name]) <= allowed, (name, fake[name], real[name])
    if not apart:
        assert fake["activation_parts"] == real["activation_parts"]
        assert of_whom(fake, plan) == of_whom(real, plan)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("model", ["gpt", "vit"])
def test_predicted_is_measured_to_the_byte(method: str, model: str) -> None:
    """In 32 bits every memory field of every method is that of a real step, at odd sizes and with dropout."""
    assert_same(plan_of(method, model=model))


@pytest.mark.parametrize("peer", [peer for peer in PEERS if not peer.switch], ids=lambda peer: peer.name)
@pytest.mark.parametrize("model", ["gpt", "vit"])
def test_peers_are_predicted_to_the_byte(peer: Peer, model: str) -> None:
    """Those as well that free what tensors still name, or know a tensor by its type."""
    if not peer.library.installed:
        pytest.skip(peer.missing)
    assert_same(plan_of(peer.name, model=model, depth=4, batch=7))


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia"])
@pytest.mark.parametrize("dtype", ["bf16-amp", "bf16"])
def test_sixteen_bits_are_predicted_with_what_their_kernels_take(method: str, dtype: str) -> None:
    """In 16 bits, where products take memory of their own, the figures are within 2% of a real step's."""
    plan = plan_of(method, width=64, heads=2, seq=64, dtype=dtype)
    real = measured(plan)
    assert_same(plan, apart=real["activation_bytes"] // 50)


@pytest.mark.parametrize("method", ["standard", "bdia"])
@pytest.mark.parametrize("model", ["hf:gpt2", "hf:llama"])
def test_models_of_transformers_are_predicted_to_the_byte(method: str, model: str) -> None:
    """Masks that a model would leave out are left out, and numbers that autograd stores are counted."""
    assert_same(plan_of(method, model=model, width=48, seq=12, batch=2, vocab=300))


@pytest.mark.parametrize(
    ("method", "axes"),
    [
        ("standard", {"width": 16, "batch": 4}),
        ("standard", {"width": 8, "batch": 7, "dtype": "bf16"}),
        ("checkpoint", {"width": 5, "depth": 9}),
        ("bdia-stored", {"width": 16, "batch": 2}),
        ("bdia", {"width": 16, "batch": 4}),
        ("bdia", {"width": 8, "batch": 7, "depth": 6}),
        ("bdia", {"width": 8, "batch": 5, "accumulate": 2}),
    ],
)
def test_convolutions_are_predicted_to_the_byte(method: str, axes: dict[str, Any]) -> None:
    """With the workspaces of convolutions and batch norm, and whatever a number beside a tensor takes."""
    assert_same(plan_of(method, **{"model": "resnet", **axes}))


def test_locality_attention_is_predicted_to_the_byte() -> None:
    """Tensors made from Python's numbers as the model is built are fake as well."""
    assert_same(plan_of("bdia", model="vit-spt"))


@pytest.mark.parametrize("dial", [Dial(1, 1), Dial(0, 2), Dial(2, 3)])
def test_the_dial_is_predicted_to_the_byte(dial: Dial) -> None:
    """Kept blocks and micro-batches are the engine's own, which runs."""
    assert_same(plan_of("bdia", keep=dial.keep, micro_batches=dial.micro_batches))


@pytest.mark.parametrize("axes", [{"accumulate": 2}, {"loss_chunks": 3}, {"accumulate": 3, "loss_chunks": 2}])
def test_parts_of_a_step_are_predicted_to_the_byte(axes: dict[str, int]) -> None:
    """A batch in several forwards, and a loss in chunks of tokens, are those of a real step."""
    assert_same(plan_of("bdia", **axes))


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia"])
def test_the_slope_is_exact(method: str) -> None:
    """What a block adds is predicted to the byte, side bits and generators' states included."""
    plans = [plan_of(method, model="vit", depth=depth) for depth in (3, 5)]
    real, fake = ([of(plan)["activation_bytes"] for plan in plans] for of in (measured, figures.count))
    assert fake[1] - fake[0] == real[1] - real[0]


def test_parts_add_up_to_the_figures() -> None:
    """A prediction is broken down by the same code as a measurement."""
    found = figures.count(plan_of("bdia"))
    assert parts.total(found["activation_parts"]) == found["activation_bytes"]
    assert parts.total(found["peak_parts"]) == found["peak_bytes"]
    assert found["stream_elements"] == 3 * 17 * 36
    assert figures.count(plan_of("bdia", accumulate=2))["stream_elements"] == 2 * 17 * 36
    assert (found["stream_dtype"], found["blocks"]) == ("float32", 3)


def test_the_stream_of_stages_is_their_mean() -> None:
    """As a run's is, whose bits an activation are of it."""
    found = figures.count(plan_of("standard", model="resnet", width=8))
    assert found["stream_elements"] == 3 * 8 * (32 * 32 + 2 * 16 * 16 + 4 * 8 * 8) // 3


def test_a_model_of_twenty_gigabytes_takes_no_memory() -> None:
    """GPT-2 XL is predicted in a process that stays below 2 GiB."""
    code = (
        "import resource; from test_bench_fakes import *\n"
        "found = figures.count(plan_of('bdia', depth=48, width=1600, heads=25, seq=1024, batch=8, vocab=50304))\n"
        "assert found['static_bytes'] > 20 * 2**30\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests", check=False, timeout=500,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 2**20


def test_the_world_is_left_as_it_was() -> None:
    """Afterwards tensors are real, modules convert as ever, and torch's generator is where it stood."""
    before, apply = torch.get_rng_state(), torch.nn.Module._apply
    figures.count(plan_of("bdia", model="vit"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.nn.Module._apply is apply
    assert type(torch.zeros(1)) is torch.Tensor


def test_unknown_code_is_given_no_value() -> None:
    """Code that is neither the engine's nor an optimiser's cannot ask a fake tensor what it holds."""
    with world(), pytest.raises(answers.ValueAskedError, match=r"test_bench_fakes.py:\d+ asks for a value"):
        torch.zeros(3).sum().item()


def test_a_storage_counts_once_and_until_it_is_gone() -> None:
    """Views add nothing, and what is released is taken off again."""
    with world() as (_, counter):
        x = torch.zeros(1000)
        y = x.view(10, 100)[1:]
        assert counter.ledger.level == 4000
        del x
        assert counter.ledger.level == 4000
        del y
        assert counter.ledger.level == 0
        assert counter.ledger.highest == 4000


def freed_and_back() -> torch.Tensor:
    """As libraries do that rebuild what they were given: in its own tensor, which still names it meanwhile."""
    x = torch.zeros(1000)
    x.untyped_storage().resize_(0)
    torch.zeros(300)
    x.untyped_storage().resize_(x.numel() * 4)
    return x


def enlarged() -> torch.Tensor:
    """Its memory is others' as well: the old and the new are there together for a moment."""
    x = torch.zeros(10)
    x.resize_(1000)
    x.resize_(2000)
    return x.resize_(500)


def handed_over() -> torch.Tensor:
    """One tensor takes the other's memory."""
    x, y = torch.zeros(1000), torch.zeros(600)
    x.untyped_storage().resize_(0)
    x.untyped_storage().resize_(100)
    x.set_(y)  # type: ignore[call-overload]
    return x


def as_large() -> torch.Tensor:
    """It is allocated anew all the same."""
    x = torch.zeros(1000)
    x.untyped_storage().resize_(4000)
    return x


@pytest.mark.parametrize("function", [freed_and_back, enlarged, handed_over, as_large])
def test_a_storage_of_another_size_is_counted_as_a_real_one(function: Callable[[], torch.Tensor]) -> None:
    """What it had is released, once what it has is there; whether a tensor is resized or its storage is."""
    with level(torch.device("cpu")) as meter:
        meter.mark("before")
        real = function()
        meter.mark("after")
    with world() as (_, counter):
        fake = function()
        assert (counter.ledger.level, counter.ledger.highest) == (
            meter.change("before", "after"),
            meter.rise("before", "after"),
        )
        del fake
        assert counter.ledger.level == 0
    assert real.untyped_storage().nbytes() == meter.change("before", "after")


def test_fake_tensors_are_tensors_to_who_tells_them_by_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the modules that are known to ask so, and of the rest of torch nothing changes for them."""
    (name,) = worlds._BY_TYPE
    module: Any = types.ModuleType(name)
    module.torch = torch
    monkeypatch.setitem(sys.modules, name, module)
    with world():
        assert type(module.torch.zeros(1)) is module.torch.Tensor
        assert module.torch.long is torch.long
    assert module.torch is torch


class Again(torch.autograd.Function):
    """Runs its forward again in its backward, and asks for gradients there, as a call of a block."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        with torch.enable_grad(), trace.running("call", 3):
            again = x.detach().requires_grad_()
            out = again.sin().cos()
        return torch.autograd.grad(out, again, gradients)[0].neg()


def run_again(x: torch.Tensor) -> torch.Tensor:
    """A call inside a node, and a node inside another one's."""
    with trace.running("call", 1):
        return Again.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def hooked(x: torch.Tensor) -> torch.Tensor:
    """What a hook allocates before its node does."""
    y = x.sin()
    y.register_hook(lambda gradient: gradient.cos())
    return y.cos()


@pytest.mark.parametrize(
    ("function", "kinds"),
    [(run_again, {(), ("call",), ("node",), ("node", "call"), ("node", "node")}), (hooked, {(), ("node",)})],
)
def test_what_runs_is_told_as_of_a_profile(
    function: Callable[[torch.Tensor], torch.Tensor], kinds: set[tuple[trace.Kind, ...]]
) -> None:
    """Of each allocation the same: inside what, in which order."""

    def step() -> None:
        function(torch.ones(1000, requires_grad=True)).backward(torch.ones(1000))

    def told(found: trace.Trace) -> list[tuple[int, tuple[trace.Kind, ...]]]:
        return [(event.nbytes, tuple(kind for kind, _ in event.running)) for event in found.events if event.nbytes > 0]

    with level(torch.device("cpu")) as meter:
        step()
    with world() as (_, counter):
        counter.ledger.begin()
        step()
        counter.ledger.settle()
    assert told(counter.ledger.trace) == told(meter.trace)
    assert {found for _, found in told(meter.trace)} == kinds


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 0.5,
        lambda x: x / 3,
        lambda x: x * 1j,
        lambda x: (x + 1).mul_(0.5),
        lambda x: (x + 1).div_(3),
        lambda x: x + 0.5,
    ],
)
def test_numbers_that_autograd_stores_are_counted(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Until the backward has used them: 8 bytes, of a complex one 16; of a sum there are none."""
    with level(torch.device("cpu")) as meter:
        x = torch.ones(1000, requires_grad=True)
        meter.mark("before")
        real = function(x)
        meter.mark("after")
    with world() as (_, counter):
        x = torch.ones(1000, requires_grad=True)
        before = counter.ledger.level
        fake = function(x)
        counter.ledger.settle()
        assert counter.ledger.level - before == meter.change("before", "after")
    assert fake.shape == real.shape


def test_sparse_gradients_that_meet_are_counted() -> None:
    """Each is made of two, and none is added in place."""
    with world() as (_, counter):
        table = torch.nn.Embedding(50, 8, sparse=True)
        (table(torch.zeros(3, dtype=torch.int64)).sum() + table(torch.zeros(4, dtype=torch.int64)).sum()).backward()
        assert counter.ledger.level >= 50 * 8 * 4


def thrice(x: torch.Tensor) -> torch.Tensor:
    """Elementwise: its gradients have memory of their own."""
    return ((x * x).sum() + x.sin().sum()) + x.cos().sum()


def products(x: torch.Tensor) -> torch.Tensor:
    """Products with one matrix: its gradients are views, transposed."""
    rows = torch.ones(7, x.shape[1])
    return F.linear(rows, x).sum() + F.linear(rows, x).sum()


@pytest.mark.parametrize("function", [thrice, products])
def test_gradients_that_meet_are_added_as_real_ones(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Where a tensor is used several times, gradients are added in place, but for views, and are counted so."""

    def total() -> torch.Tensor:
        x = torch.zeros(40, 25, requires_grad=True)
        return function(x + 0.0)

    with world() as (_, counter):
        loss = total()
        start = counter.ledger.highest = counter.ledger.level
        loss.backward()
        fake = counter.ledger.highest - start
    with level(torch.device("cpu")) as meter:
        loss = total()
        meter.mark("before")
        loss.backward()
        del loss
        meter.mark("after")
    assert fake == meter.rise("before", "after")


def test_products_of_sixteen_bits_are_asked_once_for_each_shape() -> None:
    """The workspace of a product is that of its shape, and a shape is asked about once."""
    kernels._of_product.cache_clear()
    left, right = torch.zeros(8, 16, dtype=torch.bfloat16), torch.zeros(16, 8, dtype=torch.bfloat16)
    for _ in range(2):
        assert kernels.scratch_bytes(torch.ops.aten.mm.default, (left, right)) is not None
    assert kernels._of_product.cache_info()[:2] == (1, 1)
    assert kernels.scratch_bytes(torch.ops.aten.mm.default, (left.float(), right.float())) == kernels.Scratch(0, 0)
    assert kernels.scratch_bytes(torch.ops.aten.relu.default, (left,)) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 5])
def test_attention_takes_what_its_kernel_takes(dtype: torch.dtype, batch: int) -> None:
    """Forward and backward, of one sample and of more than were asked about, as heads lie in a model: no byte apart."""

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        query, key, value = (part.unflatten(-1, (3, 8)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)

    def step(tensor: torch.Tensor) -> None:
        out = attend(tensor)
        out.backward(torch.ones_like(out))

    with world() as (_, counter):
        fake = torch.empty(batch, 33, 72, dtype=dtype, requires_grad=True)
        counter.ledger.highest = start = counter.ledger.level
        step(fake)
    real = torch.zeros(batch, 33, 72, dtype=dtype, requires_grad=True)
    with level(torch.device("cpu")) as meter:
        meter.mark("before")
        step(real)
        meter.mark("after")
    assert counter.ledger.highest - start == meter.rise("before", "after")


aten = torch.ops.aten


def convolution(dtype: torch.dtype, batch: int) -> Asked:
    x, weight = torch.zeros(batch, 6, 9, 9, dtype=dtype), torch.zeros(10, 6, 3, 3, dtype=dtype)
    return aten.convolution.default, (x, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1)


def convolution_backward(dtype: torch.dtype, batch: int) -> Asked:
    _, (x, weight, *_) = convolution(dtype, batch)
    rest = (None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False])
    return aten.convolution_backward.default, (torch.zeros(batch, 10, 5, 5, dtype=dtype), x, weight, *rest)


def batch_norm(dtype: torch.dtype, batch: int) -> Asked:
    x, sides = torch.zeros(batch, 6, 9, 9, dtype=dtype), [torch.zeros(6, dtype=dtype) for _ in range(4)]
    return aten.native_batch_norm.default, (x, *sides, True, 0.1, 1e-5)


def batch_norm_backward(dtype: torch.dtype, batch: int) -> Asked:
    x, sides = torch.zeros(batch, 6, 9, 9, dtype=dtype), [torch.zeros(6, dtype=dtype) for _ in range(5)]
    return aten.native_batch_norm_backward.default, (x, x, *sides, True, 1e-5, [True] * 3)


def layer_norm_backward(dtype: torch.dtype, batch: int) -> Asked:
    x, mean, side = (torch.zeros(*sides, dtype=dtype) for sides in ((batch, 5, 12), (batch, 5, 1), (12,)))
    return aten.native_layer_norm_backward.default, (x, x, [12], mean, mean, side, side, [True] * 3)


def mean(dtype: torch.dtype, batch: int) -> Asked:
    return aten.mean.dim, (torch.zeros(batch, 6, 9, 9, dtype=dtype), [2, 3])


def safe_softmax(dtype: torch.dtype, batch: int) -> Asked:
    return aten._safe_softmax.default, (torch.zeros(batch, 2, 7, 7, dtype=dtype), -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 2, 10, 33])
@pytest.mark.parametrize(
    "made",
    [
        convolution, convolution_backward, batch_norm, batch_norm_backward, layer_norm_backward, mean, safe_softmax,
    ],
)  # fmt: skip
def test_a_kernel_takes_what_it_is_said_to_take(
    made: Callable[[torch.dtype, int], Asked], batch: int, dtype: torch.dtype
) -> None:
    """Asked of two and three samples, and run with more of them; also of as many as there are channels."""
    kernel, args = made(dtype, batch)
    scratch = kernels.scratch_bytes(kernel, args)
    assert scratch is not None
    assert max(scratch) == asking.highest(asking.traced(lambda: kernel(*args)))


def test_a_kernel_that_fails_ends_its_trace() -> None:
    """The next one is traced as if nothing had been."""
    with pytest.raises(RuntimeError):
        asking.traced(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3))
    assert asking.traced(lambda: torch.zeros(100)) == (400,)


@pytest.mark.parametrize("number", [3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.int32])
@pytest.mark.parametrize("operator", [aten.add.Tensor, aten.mul.Tensor, aten.mul_.Tensor, aten.sub.Scalar])
def test_a_number_is_made_a_tensor(operator: Any, dtype: torch.dtype, number: float) -> None:
    """Beside a tensor it takes 8 bytes, and what is in the narrower format is copied."""
    tensor = torch.zeros(33, 8, dtype=dtype)
    if operator is aten.mul_.Tensor and not dtype.is_floating_point and isinstance(number, float):
        pytest.skip("has no result of that format")
    scratch = kernels.scratch_bytes(operator, (tensor, number))
    assert scratch is not None
    assert max(scratch) == asking.highest(asking.traced(lambda: operator(tensor, number)))


@pytest.mark.parametrize("operator", [torch.add, torch.sub, torch.mul, torch.div])
def test_two_formats_take_a_copy_in_the_wider(operator: Callable[..., torch.Tensor]) -> None:
    """As where a block's 16-bit output is added to a stream of 32 bits; one of no sides before there is an output."""
    wide, narrow = torch.zeros(33, 8), torch.zeros(33, 8, dtype=torch.bfloat16)
    for first, second in ((wide, narrow), (narrow, wide), (wide, wide), (wide, narrow[0, 0])):
        with level(torch.device("cpu")) as meter:
            meter.mark("before")
            operator(first, second)
            meter.mark("after")
        scratch = kernels.scratch_bytes(getattr(torch.ops.aten, operator.__name__).Tensor, (first, second))
        assert scratch is not None
        assert meter.rise("before", "after") == wide.nbytes + max(scratch)


def test_every_method_of_the_table_can_be_predicted() -> None:
    """Whatever a method's strategy is, it runs on fake tensors."""
    for method in METHODS:
        plan = plan_of(method.name)
        if recomputed_by(method.name):
            plan = msgspec.structs.replace(plan, case=msgspec.structs.replace(plan.case, keep=0, micro_batches=1))
        assert figures.count(plan)["activation_bytes"] > 0, method.name


def test_an_allocation_that_takes_anothers_place_is_that() -> None:
    """Only if the other is as large, and is released next; what the place is was known before."""
    for nbytes, then, rise in ((8, 1, 0), (8, 2, 8), (16, 1, 16)):
        ledger = Ledger()
        ledger.begin()
        ledger.allocated(1, 8)
        ledger.allocated(2, 8)
        start = ledger.level
        ledger.allocated_or_taken(3, nbytes, 1)
        ledger.released(then)
        assert ledger.highest == start + rise
        ledger.released(3)
        ledger.released(3 - then)
        assert ledger.level == 0
        assert len(ledger.trace.events) == (6 if rise else 4)
        assert len({event.pointer for event in ledger.trace.events}) == (3 if rise else 2)


def test_nothing_is_counted_before_anything_happens() -> None:
    """A counter begins at nothing."""
    assert Counter(FakeTensorMode()).ledger.level == 0
