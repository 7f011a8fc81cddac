"""Small models for the tests, of odd sizes, and the arithmetic that every engine test repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import bdia
from bdia.methods import Method
from bdia.models.gpt import GPT, GPTConfig

VOCAB = 29


def gpt(depth: int = 5, width: int = 12, heads: int = 3, tokens: int = 7, dropout: float = 0.0, seed: int = 0) -> GPT:
    """A GPT small enough to test with, in training mode, its weights scaled up so that blocks do something."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(tokens, VOCAB, depth, heads, width, dropout=dropout))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0) if parameter.dim() > 1 else None
    return model


def tokens(batch: int = 3, length: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A batch of tokens [B, T] and its targets."""
    drawn = torch.randint(0, VOCAB, (batch, length + 1), generator=torch.Generator().manual_seed(seed))
    return drawn[:, :-1], drawn[:, 1:]


def gpt_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return model(*batch)[1]


class Errors:
    """A watcher: for every call, whether x was rebuilt with `torch.equal`, and the largest error."""

    def __init__(self) -> None:
        self.forward: dict[int, Tensor] = {}
        self.equal: dict[int, bool] = {}
        self.largest: dict[int, float] = {}

    def forwarded(self, call: int, x: Tensor) -> None:
        self.forward[call] = x.clone()

    def rebuilt(self, call: int, x: Tensor) -> None:
        self.equal[call] = torch.equal(x, self.forward[call])
        self.largest[call] = (x - self.forward[call]).abs().max().item()


def gradients(
    model: nn.Module,
    batch: Any,
    method: str | Method,
    *,
    loss: Callable[[nn.Module, Any], Tensor] = gpt_loss,
    seed: int = 3,
    bits: int = 9,
    blocks: Any = None,
) -> tuple[dict[str, Tensor | None], Errors]:
    """One forward and backward with `method`, from a fixed RNG state: all gradients, and how x was rebuilt."""
    for parameter in model.parameters():
        parameter.grad = None
    torch.manual_seed(seed)
    errors = Errors()
    with bdia.attach(model, method, seed=seed, bits=bits, blocks=blocks) as handle, handle.observing(errors):
        loss(model, batch).backward()
    grads = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    return grads, errors


def same(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> bool:
    """Whether two sets of gradients are equal bit for bit, and there is one at all."""
    assert one.keys() == other.keys()
    assert any(grad is not None for grad in one.values())
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(one.values(), other.values(), strict=True)
    )


@contextmanager
def trained(model: nn.Module, batch: Any, steps: int) -> Iterator[nn.Module]:
    """The model after some optimiser steps with `bdia-stored`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with bdia.attach(model, "bdia-stored", seed=1):
        for _ in range(steps):
            gpt_loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    yield model
