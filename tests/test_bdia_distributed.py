"""Data parallel and sharded training, in two real processes on gloo: each rank exact, and with γ of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed as dist
from networks import Errors, gpt, gpt_loss, tokens
from ranks import on_two_ranks
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from zoo import loss_of, specimen

import bdia

DEPTH = 5


@dataclass(frozen=True)
class Outcome:
    """One step of one rank with one method."""

    loss: float
    gradients: list[Tensor | None]
    equal: dict[int, bool]
    """For every call, whether its x was rebuilt with `torch.equal`."""
    dtypes: set[torch.dtype]
    """Of the stream."""


def small_gpt() -> nn.Module:
    return gpt(DEPTH, dropout=0.1)


def gpt_with_an_unused_part() -> nn.Module:
    model = small_gpt()
    model.unused = nn.Linear(3, 3)
    return model


def llama() -> nn.Module:
    return specimen("llama").model()


def loss(model: nn.Module, *, seed: int) -> Tensor:
    """The loss on this seed's batch, whichever of the two models it is."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if hasattr(inner, "transformer"):
        return gpt_loss(model, tokens(seed=seed))
    return loss_of(model, specimen("llama").batch(seed))


def plain(model: nn.Module) -> nn.Module:
    return model


def data_parallel(model: nn.Module, **options: Any) -> nn.Module:
    return DistributedDataParallel(model, **options)


def sharded(model: nn.Module, **options: Any) -> nn.Module:
    """Each block a group of its own, and the rest the root's."""
    mesh = init_device_mesh("cpu", (2,))
    for block in model.transformer.h if hasattr(model, "transformer") else model.model.layers:
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def step(
    method: str,
    build: Callable[[], nn.Module],
    wrap: Callable[[nn.Module], nn.Module],
    *,
    attach_first: bool = False,
    same_batch: bool = False,
    accumulate: bool = False,
) -> Outcome:
    """A forward and backward of this rank, on a batch of its own unless `same_batch`."""
    model, errors, seed = build(), Errors(), 0 if same_batch else dist.get_rank()
    if attach_first:
        handle = bdia.attach(model, method, seed=1)
        wrapped = wrap(model)
    else:
        wrapped = wrap(model)
        handle = bdia.attach(wrapped, method, seed=1)
    torch.manual_seed(4)
    if accumulate:
        with wrapped.no_sync():
            loss(wrapped, seed=seed + 2).backward()
    with handle.observing(errors):
        last = loss(wrapped, seed=seed)
        last.backward()
    grads = [parameter.grad for parameter in model.parameters()]
    local = [grad.to_local() if isinstance(grad, DTensor) else grad for grad in grads]
    return Outcome(last.item(), local, errors.equal, {x.dtype for x in errors.forward.values()})


def both(*args: Any, **options: Any) -> tuple[Outcome, Outcome]:
    """The outcome of `bdia`, and of its stored twin."""
    return step("bdia", *args, **options), step("bdia-stored", *args, **options)


HALVES = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def case(*args: Any, **options: Any) -> Callable[[], tuple[Outcome, Outcome]]:
    """What pickles, for another process to run."""
    return functools.partial(both, *args, **options)


FIND_UNUSED = functools.partial(data_parallel, find_unused_parameters=True)
STATIC = functools.partial(data_parallel, static_graph=True)
MIXED = functools.partial(sharded, mp_policy=HALVES)

CASES = {
    "DDP": case(small_gpt, data_parallel),
    "DDP, attached first": case(small_gpt, data_parallel, attach_first=True),
    "DDP, accumulating under no_sync": case(small_gpt, data_parallel, accumulate=True),
    "DDP, find_unused_parameters, all used": case(small_gpt, FIND_UNUSED),
    "DDP, find_unused_parameters, one unused": case(gpt_with_an_unused_part, FIND_UNUSED),
    "DDP, static_graph": case(small_gpt, STATIC),
    "DDP, llama": case(llama, data_parallel),
    "FSDP2": case(small_gpt, sharded),
    "FSDP2, attached first": case(small_gpt, sharded, attach_first=True),
    "FSDP2, kept unsharded after the forward": case(small_gpt, functools.partial(sharded, reshard_after_forward=False)),
    "FSDP2, mixed precision": case(small_gpt, MIXED),
    "FSDP2, llama": case(llama, sharded),
    "FSDP2, mixed precision, llama": case(llama, MIXED),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What both ranks returned, for all cases."""
    alike = {"γ of each rank": functools.partial(step, "bdia", small_gpt, plain, same_batch=True)}
    return on_two_ranks(CASES | alike, tmp_path_factory.mktemp("ranks"))


def completed(ranks: list[Any]) -> list[Any]:
    """The outcomes, where no rank raised."""
    for rank in ranks:
        assert not isinstance(rank, str), rank
    return ranks


@pytest.mark.parametrize("name", CASES)
def test_each_rank_is_exact(name: str, outcomes: dict[str, list[Any]]) -> None:
    """On every rank each x is rebuilt with `torch.equal`, and the reduced gradients are those of the stored twin."""
    for ours, stored in completed(outcomes[name]):
        assert ours.equal == dict.fromkeys(range(DEPTH), True)
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


def test_each_rank_draws_its_own_gamma(outcomes: dict[str, list[Any]]) -> None:
    """Given one seed, one batch and the same dropout, ranks differ in γ, and so in their loss."""
    first, second = completed(outcomes["γ of each rank"])
    assert first.loss != second.loss
