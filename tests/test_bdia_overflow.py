"""`on_overflow="store"`: past the exact range of fp32 states are kept as they are, and only there."""

from __future__ import annotations

import pytest
import torch
from networks import Errors, gpt, gpt_loss, same, tokens
from torch import Tensor, nn

import bdia
from bdia.errors import HeadroomError, MethodError

Gradients = dict[str, Tensor | None]


def growing(depth: int = 6) -> nn.Module:
    """A GPT whose stream leaves the exact range of l = 14 on its way up."""
    model = gpt(depth)
    with torch.no_grad():
        for number, block in enumerate(model.transformer.h):
            block.mlp.c_proj.weight.mul_(40.0 * 8.0**number)
    return model


def run(model: nn.Module, method: str, bits: int) -> tuple[Gradients, Errors, bdia.Handle]:
    """Gradients, what was rebuilt, and the handle, of two forwards and backwards."""
    model.zero_grad()
    errors = Errors()
    with bdia.attach(model, method, seed=0, bits=bits, on_overflow="store") as handle, handle.observing(errors):
        for seed in range(2):
            gpt_loss(model, tokens(seed=seed)).backward()
    grads = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    return grads, errors, handle


@pytest.mark.parametrize("bits", [14, 18, 23])
def test_beyond_the_range_it_stays_exact_and_counts(bits: int) -> None:
    """Every x is rebuilt, the gradients are the stored twin's, and each such forward is counted."""
    ours, errors, handle = run(growing(), "bdia", bits)
    stored, _, twin = run(growing(), "bdia-stored", bits)
    assert errors.equal == dict.fromkeys(range(12), True)
    assert same(ours, stored)
    assert handle.headroom is not None
    assert not handle.headroom.exact
    assert (handle.overflows, twin.overflows) == (2, 2)


def test_within_the_range_nothing_is_stored() -> None:
    """A forward that has headroom keeps its side bits and no state."""
    model = gpt(6)
    with bdia.attach(model, "bdia") as plain:
        gpt_loss(model, tokens())
    with bdia.attach(model, "bdia", on_overflow="store") as storing:
        gpt_loss(model, tokens())
    assert storing.overflows == 0
    assert storing.side_bytes == plain.side_bytes == 5 * -(-3 * 7 * 12 // 8)


def test_only_the_steps_that_leave_it_are_stored() -> None:
    """Below the first step that leaves the range, side bits do as before."""
    model = growing()
    with bdia.attach(model, "bdia", bits=14, on_overflow="store") as handle:
        gpt_loss(model, tokens())
    assert 0 < handle.side_bytes < 5 * -(-3 * 7 * 12 // 8)


def test_raising_is_the_default() -> None:
    """Without it the same forward raises, and names the option."""
    model = growing()
    with bdia.attach(model, "bdia", bits=14), pytest.raises(HeadroomError, match="on_overflow='store'"):
        gpt_loss(model, tokens())


def test_an_unknown_choice_is_refused() -> None:
    """The error names the two that there are."""
    with pytest.raises(MethodError, match="on_overflow='keep': expected 'raise' or 'store'"):
        bdia.attach(gpt(), on_overflow="keep")  # type: ignore[arg-type]
