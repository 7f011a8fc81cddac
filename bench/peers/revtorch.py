"""RevTorch (https://github.com/RobinBruegger/RevTorch): additive coupling, all of it one custom autograd function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from revtorch.revtorch import ReversibleBlock, ReversibleSequence
from torch import Tensor, nn

from bench.peers.equations import Stack, mean
from bench.peers.functions import Residual


def sequence(functions: Sequence[Residual]) -> Stack:
    """With its defaults, which restore no random state: both streams in one tensor [B, …, 2D]."""
    pairs = zip(functions[::2], functions[1::2], strict=True)
    stack = ReversibleSequence(nn.ModuleList(ReversibleBlock(f, g, split_along_dim=-1) for f, g in pairs))

    def run(x: Tensor) -> Tensor:
        return mean(*cast("Tensor", stack(torch.cat((x, x), dim=-1))).chunk(2, dim=-1))

    return run
