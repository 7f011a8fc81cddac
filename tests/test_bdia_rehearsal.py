"""Rehearsing: what a model shows of itself before it is trained."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
import torch
from networks import gpt, gpt_loss, tokens
from torch import Tensor, nn

import bdia
from bdia.errors import AttachError, MethodError, TapeError


def test_a_sound_model_is_stable_and_tells_its_costs() -> None:
    """Side bits and headroom are those of a training forward."""
    model, batch = gpt(6, dropout=0.2), tokens()
    found = bdia.rehearse(model, lambda: gpt_loss(model, batch), bits=9, seed=1)
    with bdia.attach(model, "bdia", seed=1) as handle:
        gpt_loss(model, batch)
    assert found.stable
    assert [block.name for block in found.blocks] == [f"transformer.h.{k}" for k in range(6)]
    assert {block.elements for block in found.blocks} == {3 * 7 * 12}
    assert found.side_bytes == handle.side_bytes
    assert found.chains == handle.chains
    assert found.headroom is not None
    assert handle.headroom is not None
    assert found.headroom.bits == 9


@pytest.mark.parametrize("gamma", [0.5, 0.25, 0.125])
def test_side_bits_follow_gamma(gamma: float) -> None:
    """|γ| = 2^-m costs m bits an activation."""
    model, batch = gpt(6), tokens()
    found = bdia.rehearse(model, lambda: gpt_loss(model, batch), gamma=gamma)
    assert found.side_bytes == 5 * -(-3 * 7 * 12 // 8) * {0.5: 1, 0.25: 2, 0.125: 3}[gamma]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda block, y: y + random.random() * 1e-3, "draws from Python's random"),
        (lambda block, y: y + 1e-3 * _next(block), r"transformer\.h\.2\.count"),
        (lambda block, y: y + 1e-3 * next(NUMBERS), "gives something else each time"),
    ],
)
def test_an_unstable_block_is_named_with_its_reason(change: Any, reason: str) -> None:
    """Only the block that does not repeat itself is unstable, and why is said."""
    model, batch = gpt(4), tokens()
    model.transformer.h[2].count = 0

    class Faulty(type(model.transformer.h[2])):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = change(self, super().forward(x))
            return out

    model.transformer.h[2].__class__ = Faulty
    found = bdia.rehearse(model, lambda: gpt_loss(model, batch), blocks=list(model.transformer.h))
    assert [block.stable for block in found.blocks] == [True, True, False, True]
    unstable = found.blocks[2]
    assert (unstable.differing, unstable.elements) == (3 * 7 * 12, 3 * 7 * 12)
    assert 0 < unstable.max_abs_difference < 0.01
    assert unstable.reason is not None

    assert re.search(reason, unstable.reason)


NUMBERS = iter(range(1, 10**6))


def _next(block: Any) -> int:
    block.count += 1
    return int(block.count)


def test_the_model_is_left_as_it_was() -> None:
    """Weights, running statistics, modes, RNG and forwards are those of before; no gradients are left."""
    model, batch = gpt(3, dropout=0.1), tokens()
    model.transformer.h[1].norm = nn.BatchNorm1d(7)
    inner = type(model.transformer.h[1])

    class Normed(inner):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(super().forward(x))
            return out

    model.transformer.h[1].__class__ = Normed
    model.eval()
    before, rng = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    bdia.rehearse(model, lambda: gpt_loss(model, batch), blocks=list(model.transformer.h))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_what_cannot_be_attached_is_refused_as_attach_does() -> None:
    """The errors are those of `attach` and of its forward."""
    model, batch = gpt(3), tokens()
    with pytest.raises(AttachError, match="blocks="):
        bdia.rehearse(nn.Linear(3, 3), lambda: None)
    with pytest.raises(MethodError, match="divides by γ"):
        bdia.rehearse(model, lambda: gpt_loss(model, batch), gamma=0.3)
    model.transformer.h[1].register_forward_hook(lambda module, given, out: out + 1)
    with pytest.raises(TapeError, match="another x"):
        bdia.rehearse(model, lambda: gpt_loss(model, batch))


def test_beyond_the_exact_range_it_is_told_and_no_error() -> None:
    """Headroom is a finding."""
    model, batch = gpt(3), tokens()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(4000)
    found = bdia.rehearse(model, lambda: gpt_loss(model, batch), bits=20)
    assert found.headroom is not None
    assert not found.headroom.exact


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia-stored", "bdia-unquantised", "bdia-naive", "bdia"])
def test_every_method_can_be_rehearsed(method: str) -> None:
    """Methods that rebuild nothing rerun no block, but are looked at all the same."""
    model, batch = gpt(3), tokens()
    found = bdia.rehearse(model, lambda: gpt_loss(model, batch), method=method)
    assert found.stable
    assert len(found.blocks) == 3
    assert (found.headroom is None) == (method not in ("bdia-stored", "bdia"))
