"""momentumnet (https://github.com/michaelsdr/momentumnet): momentum residual networks, v exact in 64-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from momentumnet import MomentumNet

from bench.peers.equations import MOMENTUM, Stack
from bench.peers.functions import Residual


def sequence(functions: Sequence[Residual]) -> Stack:
    """Its own network, without storing: x [B, …] in, x [B, …] out."""
    return cast("Stack", MomentumNet(functions, gamma=MOMENTUM, use_backprop=False))
