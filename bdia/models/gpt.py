"""GPT-2's shape under nanoGPT's parameter names, so that checkpoints and scripts made for nanoGPT fit.

Shapes: B batch, T tokens, D width (n_embd), H heads (n_head), V vocabulary (vocab_size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bdia.losses import chunked_cross_entropy

INIT_STD = 0.02
IGNORED = -1
"""A target with this value takes no part in the loss, as in nanoGPT."""


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT, under nanoGPT's names; the defaults are nanoGPT's GPT-2 (vocabulary padded to 64).

    Raises: ValueError for a size below 1, a dropout outside [0, 1), a width that the heads do not divide.
    """

    block_size: int = 1024
    """The most tokens a sample may have."""
    vocab_size: int = 50304
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = False
    """Biases in the linear layers and layer norms: GPT-2 has them, nanoGPT trains without."""

    def __post_init__(self) -> None:
        for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a size: expected 1 or more")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}: change either one")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} is not a probability below 1: expected 0 ≤ dropout < 1")


PRESETS: dict[str, GPTConfig] = {
    "gpt2": GPTConfig(n_layer=12, n_head=12, n_embd=768),
    "gpt2-medium": GPTConfig(n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": GPTConfig(n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": GPTConfig(n_layer=48, n_head=25, n_embd=1600),
    "char": GPTConfig(block_size=256, vocab_size=65, n_layer=6, n_head=6, n_embd=384, dropout=0.2),
}
"""nanoGPT's models. `char` is its character model; 65 is the vocabulary of tiny Shakespeare."""


class Attention(nn.Module):
    """Causal self-attention, f of eq. 4 behind its layer norm: [B, T, D] → [B, T, D]."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        heads = (batch, tokens, self.n_head, width // self.n_head)
        qkv = self.c_attn(x).split(width, dim=-1)  # three of [B, T, D]
        q, k, v = (part.view(heads).transpose(1, 2) for part in qkv)  # each [B, H, T, D/H]
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)  # [B, H, T, D/H]
        y = y.transpose(1, 2).flatten(2)  # [B, T, D]
        out: Tensor = self.resid_dropout(self.c_proj(y))
        return out


class MLP(nn.Module):
    """Two linear layers with a GELU between, g of eq. 4 behind its layer norm: [B, T, D] → [B, T, D]."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.c_proj(self.gelu(self.c_fc(x))))
        return out


class Block(nn.Module):
    """One residual block, x + h(x) with h(x) = f(x) + g(x + f(x)) (eq. 4): [B, T, D] → [B, T, D]."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """What nanoGPT keeps under `transformer.`: a holder of parts; the loop over `h` is in `GPT.forward`."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)


class GPT(nn.Module):
    """A decoder-only transformer with learned positions; the output layer is tied to the token embedding."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        self._initialise()

    def forward(
        self, idx: Tensor, targets: Tensor | None = None, *, loss_chunks: int = 1
    ) -> tuple[Tensor | None, Tensor | None]:
        """Logits [B, T, V] of tokens idx [B, T], and their mean cross-entropy where targets [B, T] are given. That
        loss in several chunks of tokens (`bdia.chunked_cross_entropy`) never has all logits: None takes their place.

        Raises: ValueError where T exceeds `block_size`.
        """
        tokens = idx.size(1)
        if tokens > self.config.block_size:
            raise ValueError(f"{tokens} tokens exceed block_size={self.config.block_size}: cut the sample or raise it")
        positions = torch.arange(tokens, device=idx.device)  # [T]
        x = self.transformer.drop(self.transformer.wte(idx) + self.transformer.wpe(positions))  # [B, T, D]
        for block in self.transformer.h:
            x = block(x)
        x = self.transformer.ln_f(x)
        if targets is not None and loss_chunks != 1:
            weight = self.lm_head.weight
            return None, chunked_cross_entropy(x, weight, targets, loss_chunks, ignore_index=IGNORED)
        logits: Tensor = self.lm_head(x)  # [B, T, V]
        if targets is None:
            return logits, None
        # `float` copies only what is 16 bits wide: a cross-entropy in bf16 loses most of its digits.
        flat = logits.float().flatten(0, 1)  # [B·T, V]
        return logits, F.cross_entropy(flat, targets.flatten(), ignore_index=IGNORED)

    def _initialise(self) -> None:
        """GPT-2's initial weights: N(0, 0.02²), zero biases; what writes to the stream is smaller by √(2N),
        since 2N such layers add up."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=INIT_STD / math.sqrt(2 * self.config.n_layer))
