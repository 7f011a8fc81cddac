"""MemCNN (https://github.com/silvandeleemput/memcnn): additive coupling, each pair a custom autograd function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from memcnn import AdditiveCoupling, InvertibleModuleWrapper
from torch import Tensor

from bench.peers.equations import Stack, mean
from bench.peers.functions import Residual


def sequence(functions: Sequence[Residual]) -> Stack:
    """With the random state preserved, as far as it does: both streams in one tensor [B, …, 2D]."""
    stack = [
        InvertibleModuleWrapper(AdditiveCoupling(f, g, split_dim=-1), preserve_rng_state=True)
        for f, g in zip(functions[::2], functions[1::2], strict=True)
    ]

    def run(x: Tensor) -> Tensor:
        streams = torch.cat((x, x), dim=-1)
        for pair in stack:
            streams = pair(streams)
        return mean(*streams.chunk(2, dim=-1))

    return run
