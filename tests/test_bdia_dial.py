"""The dial: blocks that keep their graph, and batches cut into parts inside each block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bdia
from tests.networks import Errors, gpt, gpt_loss, same, tokens, trained

STRATEGIES = {"bdia-stored": "bdia", "standard": "checkpoint"}


def gradients(
    model: nn.Module, batch: Any, method: str, *, train_seed: int = 3, loss: Any = gpt_loss, **options: Any
) -> tuple[dict[str, Tensor | None], Errors, float]:
    """One forward and backward: all gradients, how x was rebuilt, and the loss."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(train_seed)
    errors = Errors()
    with bdia.attach(model, method, seed=train_seed, **options) as handle, handle.observing(errors):
        value = loss(model, batch)
        value.backward()
    return {name: p.grad for name, p in model.named_parameters()}, errors, value.item()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("keep", [0, 1, 3, 5])
@pytest.mark.parametrize("micro_batches", [1, 2, 3, 8])
@pytest.mark.parametrize("stored", STRATEGIES)
def test_wherever_the_dial_stands_gradients_are_those_of_stored_activations(
    stored: str, micro_batches: int, keep: int, dropout: float, seed: int
) -> None:
    """Batch 5 in 1, 2 and 3 parts and one sample each; dropout draws alike; every rebuilt x is the forward's."""
    model, batch = gpt(dropout=dropout, seed=seed), tokens(5, seed=seed)
    with trained(model, batch, 2):
        cut = {"micro_batches": micro_batches, "train_seed": seed}
        reference, _, loss = gradients(model, batch, stored, **cut)
        ours, errors, our_loss = gradients(model, batch, STRATEGIES[stored], keep=keep, **cut)
        assert our_loss == loss
        assert same(ours, reference)
        assert all(errors.equal.values())
        if stored == "bdia-stored":
            assert sorted(errors.equal) == list(range(5 - keep))


def test_the_blocks_kept_are_not_rerun() -> None:
    """A block's forward runs once where it is kept, twice where not, and once more for each part of a batch."""
    model, batch = gpt(), tokens(4)
    runs = dict.fromkeys(range(5), 0)
    for number, block in enumerate(model.transformer.h):
        block.mlp.register_forward_hook(lambda *_, number=number: runs.__setitem__(number, runs[number] + 1))
    gradients(model, batch, "bdia", keep=2)
    assert list(runs.values()) == [2, 2, 2, 1, 1]
    runs.update(dict.fromkeys(range(5), 0))
    gradients(model, batch, "bdia", keep=2, micro_batches=4)
    assert list(runs.values()) == [8, 8, 8, 4, 4]
