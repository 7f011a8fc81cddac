"""`bench.measure`: a training step measured inside a test, and left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from measuring import measured
from networks import gpt
from torch import Tensor, nn
from transformers import BatchEncoding, GPT2Config, GPT2LMHeadModel

import bench
from bdia.errors import HeadroomError, MethodError, ReconstructionError
from bdia.methods import names
from bench.case import Case, Plan
from bench.errors import UsageError
from bench.workload import build

CASE = Case(
    method="bdia", model="gpt", depth=4, width=12, heads=3, seq=7, batch=3, bits=9, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=1, data=None,
)  # fmt: skip


class Normed(nn.Module):
    """A residual block with BatchNorm and dropout: state that a forward moves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Normed() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def square(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    value: Tensor = (model(batch[0]) - batch[1]).square().mean()
    return value


def network() -> bench.Workload:
    torch.manual_seed(0)
    return bench.Workload(Network(), (torch.randn(8, 6), torch.randn(8, 6)), square)


def state(workload: bench.Workload) -> dict[str, Any]:
    return {
        "weights": {name: value.clone() for name, value in workload.model.state_dict().items()},
        "optimizer": copy.deepcopy(workload.optimizer.state_dict()),
        "gradients": [parameter.grad for parameter in workload.model.parameters()],
        "modes": [module.training for module in workload.model.modules()],
        "rng": torch.get_rng_state(),
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_test_may_hold_a_model_to_its_bytes() -> None:
    """What `bdia` saves over `standard` is an assertion of one line."""
    workload = build(CASE)
    ours, plain = bench.measure(workload, "bdia"), bench.measure(workload, "standard")
    assert ours.activation_bytes < plain.activation_bytes
    assert (ours.bit_exact, ours.gradient_error, ours.blocks) == (True, 0.0, 4)
    assert ours.side_bytes == (4 - 1) * 32  # 252 bits a block, in whole bytes
    assert (plain.bits, plain.bit_exact, plain.reconstruction, plain.gradient_error) == (None,) * 4


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia"])
def test_the_bytes_are_those_of_a_run(method: str) -> None:
    """In this process as in a fresh one, every count of the memory meter is the same."""
    bits = 9 if method == "bdia" else None
    of = Case(
        **{name: getattr(CASE, name) for name in Case.__struct_fields__}
        | {"method": method, "bits": bits, "gamma": None}
    )
    found = measured(Plan(of, frozenset({"memory", "gradients"} if bits else {"memory"}))).fields
    result = bench.measure(build(of), method, seed=1)
    for name in (
        "static_bytes", "activation_bytes", "peak_bytes", "saved_bytes", "side_bytes", "rng_bytes", "reserved_bytes",
        "blocks", "stream_elements", "loss_plain", "loss_method", "max_abs", "largest_bits", "gradient_block",
        "rounding_error", "rounding_block",
    ):  # fmt: skip
        assert getattr(result, name) == found.get(name), name


@pytest.mark.parametrize("method", names())
@pytest.mark.parametrize("begun", [False, True])
def test_everything_is_as_it_was(method: str, begun: bool) -> None:
    """Weights, running statistics, gradients, the optimiser, modes and RNG, of a fresh model or in mid-training."""
    workload = network()
    if begun:
        square(workload.model, workload.batch).backward()
        workload.optimizer.step()
        workload.model.blocks[1].eval()
    before = state(workload)
    first = bench.measure(workload, method)
    assert same(before, state(workload))
    assert bench.measure(workload, method) == first


def test_an_error_leaves_everything_as_it_was() -> None:
    """Where the method does not fit, the error is raised and the workload is whole."""
    workload = network()
    workload.model.eval()
    before = state(workload)
    with pytest.raises(MethodError, match="bits"):
        bench.measure(workload, "bdia", bits=40)
    assert same(before, state(workload))
    with torch.no_grad():
        workload.model.blocks[1].layers[1].weight.fill_(1e6)
    before = state(workload)
    with pytest.raises(HeadroomError):
        bench.measure(workload, "bdia", bits=20)
    assert same(before, state(workload))


def test_gamma_reaches_the_method() -> None:
    """With γ=±¼ there are two side bits an activation; a method that draws none is given none."""
    workload = build(CASE)
    half, quarter = bench.measure(workload, "bdia"), bench.measure(workload, "bdia", gamma=0.25)
    assert quarter.side_bytes is not None
    assert half.side_bytes is not None
    assert quarter.side_bytes > 1.9 * half.side_bytes
    assert (quarter.bit_exact, quarter.gradient_error) == (True, 0.0)
    assert bench.measure(workload, "checkpoint", gamma=0.25) == bench.measure(workload, "checkpoint")


def test_verify_reaches_the_method() -> None:
    """A block that does not repeat itself is named, where bytes alone would not tell."""
    workload = network()
    block, own = workload.model.blocks[1], torch.Generator().manual_seed(0)
    inner = block.forward
    block.forward = lambda x: inner(x) + 1e-3 * torch.rand(1, generator=own)
    with pytest.raises(ReconstructionError, match=r"blocks\.1 \(call 1\): y, at"):
        bench.measure(workload, "bdia", verify=True)


def test_a_transformers_model_with_its_own_batch() -> None:
    """A BatchEncoding is a batch like any other."""
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=11, bos_token_id=0, eos_token_id=0))
    tokens = torch.randint(11, (2, 5))
    batch = BatchEncoding({"input_ids": tokens, "labels": tokens})
    result = bench.measure(bench.Workload(model, batch, lambda model, batch: model(**batch).loss), "bdia")
    assert (result.blocks, result.bit_exact, result.gradient_error) == (2, True, 0.0)


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    """The workload is checked as one from a file is."""
    workload = bench.Workload(gpt(), torch.zeros(2, 7, dtype=torch.long), lambda model, batch: model(batch)[0])
    with pytest.raises(UsageError, match="workload: its loss"):
        bench.measure(workload)
