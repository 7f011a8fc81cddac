"""Data parallel and sharded training, in two real processes on gloo: each rank exact, and with γ of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import pytest
import torch
import torch.distributed as dist
from networks import Errors, gpt, gpt_loss, tokens
from ranks import on_two_ranks
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel
from zoo import loss_of, specimen

import bdia

DEPTH = 5


@dataclass(frozen=True)
class Trainee:
    """A model to be trained on both ranks. Its functions are the module's own, since they are sent to processes."""

    build: Callable[[], nn.Module]
    lists: tuple[str, ...]
    """Where its blocks are."""
    loss: Callable[[nn.Module, int], Tensor]
    """Of the model and the number of a batch."""
    calls: int = DEPTH

    def blocks(self, model: nn.Module) -> list[nn.Module]:
        """All of them, list by list."""
        return [block for path in self.lists for block in model.get_submodule(path)]


def small_gpt() -> nn.Module:
    return gpt(DEPTH, dropout=0.1)


def gpt_with_an_unused_part() -> nn.Module:
    model = small_gpt()
    model.unused = nn.Linear(3, 3)
    return model


def gpt_loss_on(model: nn.Module, number: int) -> Tensor:
    return gpt_loss(model, tokens(seed=number))


def from_the_zoo(name: str) -> nn.Module:
    return specimen(name).model()


def zoo_loss_on(name: str, model: nn.Module, number: int) -> Tensor:
    return loss_of(model, specimen(name).batch(number))


def adapted_llama() -> nn.Module:
    """LoRA: most of each block's parameters are frozen."""
    config = peft.LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
    return peft.get_peft_model(from_the_zoo("llama"), config).train()


llama_loss = functools.partial(zoo_loss_on, "llama")
bart_loss = functools.partial(zoo_loss_on, "bart")
bart_lists = ("model.encoder.layers", "model.decoder.layers")

GPT = Trainee(small_gpt, ("transformer.h",), gpt_loss_on)
PARTLY_UNUSED = Trainee(gpt_with_an_unused_part, ("transformer.h",), gpt_loss_on)
LLAMA = Trainee(functools.partial(from_the_zoo, "llama"), ("model.layers",), llama_loss)
LORA = Trainee(adapted_llama, ("base_model.model.model.layers",), llama_loss)
BART = Trainee(functools.partial(from_the_zoo, "bart"), bart_lists, bart_loss, calls=2 * DEPTH - 1)


@dataclass(frozen=True)
class Outcome:
    """One step of one rank with one method."""

    loss: float
    gradients: list[Tensor | None]
    equal: dict[int, bool]
    """For every call, whether its x was rebuilt with `torch.equal`."""
    dtypes: set[torch.dtype]
    """Of the stream."""


def alone(trainee: Trainee, model: nn.Module) -> nn.Module:
    return model


def data_parallel(trainee: Trainee, model: nn.Module, **options: Any) -> nn.Module:
    return DistributedDataParallel(model, **options)


def sharded(trainee: Trainee, model: nn.Module, **options: Any) -> nn.Module:
    """Each block a group of its own, and the rest the root's."""
    mesh = init_device_mesh("cpu", (2,))
    for block in trainee.blocks(model):
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def step(
    method: str,
    trainee: Trainee,
    wrap: Callable[[Trainee, nn.Module], nn.Module],
    *,
    attach_first: bool = False,
    same_batch: bool = False,
    accumulate: bool = False,
) -> Outcome:
    """A forward and backward of this rank, on a batch of its own unless `same_batch`."""
    torch.manual_seed(4)
    model, errors, number = trainee.build(), Errors(), 0 if same_batch else dist.get_rank()
    if attach_first:
        handle = bdia.attach(model, method, seed=1)
        wrapped = wrap(trainee, model)
    else:
        wrapped = wrap(trainee, model)
        handle = bdia.attach(wrapped, method, seed=1)
    torch.manual_seed(4)
    if accumulate:
        backward_without_reducing(trainee, wrapped, number + 2)
    with handle.observing(errors):
        loss = trainee.loss(wrapped, number)
        loss.backward()
    grads = [parameter.grad for parameter in model.parameters()]
    local = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in grads]
    return Outcome(loss.item(), local, errors.equal, {x.dtype for x in errors.forward.values()})


def backward_without_reducing(trainee: Trainee, wrapped: nn.Module, number: int) -> None:
    """A micro-step of gradient accumulation."""
    if isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(False)
        trainee.loss(wrapped, number).backward()
        wrapped.set_requires_gradient_sync(True)
    else:
        with wrapped.no_sync():
            trainee.loss(wrapped, number).backward()


def both(trainee: Trainee, *args: Any, **options: Any) -> tuple[Outcome, Outcome]:
    """The outcome of `bdia`, and of its stored twin."""
    return step("bdia", trainee, *args, **options), step("bdia-stored", trainee, *args, **options)


HALVES = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
FIND_UNUSED = functools.partial(data_parallel, find_unused_parameters=True)
STATIC = functools.partial(data_parallel, static_graph=True)
MIXED = functools.partial(sharded, mp_policy=HALVES)
UNSHARDED = functools.partial(sharded, reshard_after_forward=False)

# What is trained, how it is wrapped, and how it is trained.
CASES: dict[str, tuple[Trainee, Callable[..., nn.Module], dict[str, bool]]] = {
    "DDP": (GPT, data_parallel, {}),
    "DDP, attached first": (GPT, data_parallel, {"attach_first": True}),
    "DDP, accumulating": (GPT, data_parallel, {"accumulate": True}),
    "DDP, find_unused_parameters, all used": (GPT, FIND_UNUSED, {}),
    "DDP, find_unused_parameters, one unused": (PARTLY_UNUSED, FIND_UNUSED, {}),
    "DDP, static_graph": (GPT, STATIC, {}),
    "DDP, llama": (LLAMA, data_parallel, {}),
    "DDP, bart": (BART, data_parallel, {}),
    "FSDP2": (GPT, sharded, {}),
    "FSDP2, attached first": (GPT, sharded, {"attach_first": True}),
    "FSDP2, accumulating": (GPT, sharded, {"accumulate": True}),
    "FSDP2, unsharded between forward and backward": (GPT, UNSHARDED, {}),
    "FSDP2, mixed precision": (GPT, MIXED, {}),
    "FSDP2, LoRA": (LORA, sharded, {}),
    "FSDP2, mixed precision, llama": (LLAMA, MIXED, {}),
    "FSDP2, mixed precision, bart": (BART, MIXED, {}),
}


class Halves(nn.Module):
    """A residual block whose hidden half each rank can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(self.up(x).tanh())
        return out


def tensor_parallel() -> dict[str, Any]:
    """Blocks sharded over the ranks: what attaching without a rank says, and x_N with one."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Halves() for _ in range(4))).train()
    mesh = init_device_mesh("cpu", (2,))
    for block in model:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    try:
        bdia.attach(model, "bdia", seed=0)
        refusal = ""
    except bdia.AttachError as error:
        refusal = str(error)
    errors = Errors()
    with bdia.attach(model, "bdia", seed=0, rank=0) as handle, handle.observing(errors):
        y = model(x)
        y.square().sum().backward()
    return {"refusal": refusal, "y": y.detach(), "equal": errors.equal}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What both ranks returned, for all cases."""
    work: dict[str, Callable[[], Any]] = {
        name: functools.partial(both, trainee, wrap, **options) for name, (trainee, wrap, options) in CASES.items()
    }
    work["tensor parallel"] = tensor_parallel
    work["γ of each rank"] = functools.partial(step, "bdia", GPT, alone, same_batch=True)
    return on_two_ranks(work, tmp_path_factory.mktemp("ranks"))


def completed(ranks: list[Any]) -> list[Any]:
    """The outcomes, where no rank raised."""
    for rank in ranks:
        assert not isinstance(rank, str), rank
    return ranks


@pytest.mark.parametrize("name", CASES)
def test_each_rank_is_exact(name: str, outcomes: dict[str, list[Any]]) -> None:
    """On every rank each x is rebuilt with `torch.equal`, and the reduced gradients are those of the stored twin."""
    for ours, stored in completed(outcomes[name]):
        assert ours.equal == dict.fromkeys(range(CASES[name][0].calls), True)
        assert ours.loss == stored.loss
        assert ours.dtypes == {torch.float32}
        assert any(grad is not None and grad.any() for grad in ours.gradients)
        for one, other in zip(ours.gradients, stored.gradients, strict=True):
            assert (one is None) == (other is None)
            assert one is None or other is None or torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("DDP")])
def test_ranks_end_with_the_same_gradients(name: str, outcomes: dict[str, list[Any]]) -> None:
    """What DDP averaged is the same on both ranks, though each went on a batch of its own."""
    (first, _), (second, _) = completed(outcomes[name])
    assert first.loss != second.loss
    for one, other in zip(first.gradients, second.gradients, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_tensor_parallel_ranks_share_their_gamma(outcomes: dict[str, list[Any]]) -> None:
    """Sharded weights are refused until it is said which samples a process has; then x is the same on both ranks."""
    first, second = completed(outcomes["tensor parallel"])
    assert "say which data-parallel replica this is with rank=" in first["refusal"]
    assert torch.equal(first["y"], second["y"])
    assert first["equal"] == second["equal"] == dict.fromkeys(range(4), True)


def test_each_rank_draws_its_own_gamma(outcomes: dict[str, list[Any]]) -> None:
    """Given one seed, one batch and the same dropout, ranks differ in γ, and so in their loss."""
    first, second = completed(outcomes["γ of each rank"])
    assert first.loss != second.loss
