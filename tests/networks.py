"""Small models for the tests, of odd sizes, and the arithmetic that every engine test repeats."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import bdia
from bdia.backprop import Index, Watcher
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


class SequentialViT(nn.Module):
    """The shape of timm's vision transformers: `blocks`, a Sequential called as one module under `forward_features`."""

    def __init__(self, depth: int, width: int = 12) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.Sequential(*(_ViTBlock(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def embed(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] → [B, 1 + (S / 4)², D]."""
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        return torch.cat((self.cls_token.expand(len(image), -1, -1), patches), 1)

    def forward_features(self, image: Tensor) -> Tensor:
        return self.norm(self.blocks(self.embed(image)))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.forward_features(image)[:, 0])


class IteratedViT(SequentialViT):
    """The same, its Sequential iterated by its parent and never called, as timm does to return intermediate layers."""

    def forward_features(self, image: Tensor) -> Tensor:
        x = self.embed(image)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class TorchvisionViT(nn.Module):
    """The shape of torchvision's: an `encoder` whose `layers` is a Sequential of named blocks."""

    def __init__(self, depth: int, width: int = 12) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, 4, 4)
        self.encoder = _TorchvisionEncoder(depth, width)
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(width, 5)))

    def forward(self, image: Tensor) -> Tensor:
        return self.heads(self.encoder(self.conv_proj(image).flatten(2).transpose(1, 2)).mean(1))


class _TorchvisionEncoder(nn.Module):
    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.Sequential(OrderedDict((f"encoder_layer_{k}", _ViTBlock(width)) for k in range(depth)))
        self.ln = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(self.dropout(x)))


class _ViTBlock(nn.Module):
    """Pre-norm; `nn.MultiheadAttention` as torchvision has it, `DropPath` a sample as timm has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 3, dropout=0.1, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 20), nn.GELU(), nn.Linear(20, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self._drop_path(self.attn(normed, normed, normed, need_weights=False)[0])
        return x + self._drop_path(self.mlp(self.norm2(x)))

    def _drop_path(self, h: Tensor) -> Tensor:
        return h * torch.rand(len(h), 1, 1).gt(0.2) / 0.8 if self.training else h


class Errors(Watcher):
    """A watcher: for every call, whether x was rebuilt with `torch.equal`, and the largest error."""

    def __init__(self) -> None:
        self.forward: dict[int, Tensor] = {}
        self.equal: dict[int, bool] = {}
        self.largest: dict[int, float] = {}

    def forwarded(self, call: int, x: Tensor) -> None:
        self.forward[call] = x.clone()

    def rebuilt(self, call: int, x: Tensor, index: Index) -> None:
        then = self.forward[call][index]
        self.equal[call] = self.equal.get(call, True) and torch.equal(x, then)
        self.largest[call] = max(self.largest.get(call, 0.0), (x - then).abs().max().item())


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
