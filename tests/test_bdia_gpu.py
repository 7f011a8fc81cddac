"""The engine on CUDA: what the CPU tests say holds there as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from networks import gpt, gpt_loss, gradients, same, tokens
from torch import Tensor, nn

import bdia
from bdia.gamma import GammaSource
from bdia.models.resnet import ResNet, ResNetConfig

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """Attention's backward is otherwise not the same twice, with any strategy."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def on_cuda(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch[0].cuda(), batch[1].cuda()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("depth", [2, 7, 48])
def test_cuda_rebuilds_exactly(depth: int, dropout: float) -> None:
    """Every x_k and every gradient has the bits of the stored twin, dropout or not."""
    model, batch = gpt(depth, dropout=dropout).cuda(), on_cuda(tokens())
    ours, errors = gradients(model, batch, "bdia")
    stored, _ = gradients(model, batch, "bdia-stored")
    assert errors.equal == dict.fromkeys(range(depth), True)
    assert same(ours, stored)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cuda_autocast_is_repeated(dtype: torch.dtype) -> None:
    """Blocks that compute in 16 bits under autocast are rebuilt exactly."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with torch.autocast("cuda", dtype):
            return gpt_loss(model, batch)

    model, batch = gpt(7, width=64, heads=4, dropout=0.1).cuda(), on_cuda(tokens())
    ours, errors = gradients(model, batch, "bdia", loss=loss)
    stored, _ = gradients(model, batch, "bdia-stored", loss=loss)
    assert all(errors.equal.values())
    assert same(ours, stored)


def test_cuda_bf16_parameters_keep_an_fp32_stream() -> None:
    """A model in bf16 is rebuilt exactly."""
    model, batch = gpt(7, width=64, heads=4).to("cuda", torch.bfloat16), on_cuda(tokens())
    ours, errors = gradients(model, batch, "bdia")
    stored, _ = gradients(model, batch, "bdia-stored")
    assert all(errors.equal.values())
    assert same(ours, stored)


def test_gamma_does_not_depend_on_the_device() -> None:
    """One seed, one γ."""
    x = torch.zeros(5, 2, 3)
    assert torch.equal(GammaSource(1).begin(4).next(x.cuda()).cpu(), GammaSource(1).begin(4).next(x))


def test_cuda_generators_go_on_undisturbed() -> None:
    """A rerun with dropout leaves both generators where the forward left them."""
    model, batch = gpt(dropout=0.2).cuda(), on_cuda(tokens())
    with bdia.attach(model, "bdia", seed=1):
        loss = gpt_loss(model, batch)
        before = torch.get_rng_state(), torch.cuda.get_rng_state()
        loss.backward()
    after = torch.get_rng_state(), torch.cuda.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_cuda_rebuilds_a_resnet(norm: Any, layout: torch.memory_format) -> None:
    """Every x_k of every stage, every gradient and every running statistic has the bits of the stored twin."""
    outcomes = []
    for method in ("bdia", "bdia-stored"):
        torch.manual_seed(0)
        model = ResNet(ResNetConfig(depth=9, norm=norm, dropout=0.1)).to("cuda", memory_format=layout)
        images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)).cuda()
        batch = images.contiguous(memory_format=layout), torch.arange(6).cuda()
        found, errors = gradients(model, batch, method)
        outcomes.append({**found, **dict(model.named_buffers())})
        assert method != "bdia" or errors.equal == dict.fromkeys(range(9), True)
    assert same(*outcomes)
