"""revlib (https://github.com/HomebrewML/revlib): additive coupling, each half a custom autograd function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from revlib import ReversibleSequential
from torch import Tensor

from bench.peers.equations import Stack, mean
from bench.peers.functions import Residual


def sequence(functions: Sequence[Residual]) -> Stack:
    """As its users write it: a sequence of F, G, F, G, …, with both streams in one tensor [B, …, 2D]."""
    stack = ReversibleSequential(*functions, split_dim=-1)

    def run(x: Tensor) -> Tensor:
        return mean(*cast("Tensor", stack(torch.cat((x, x), dim=-1))).chunk(2, dim=-1))

    return run
