"""A look at a model before it is trained: can a method be attached, and would its blocks be rebuilt bit for bit?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from bdia.attachment import Blocks, attach
from bdia.backprop.rehearsing import BlockRehearsal, Rehearsing
from bdia.distributions import Gamma
from bdia.errors import AttachError
from bdia.methods import Method, get
from bdia.quantize import Headroom


@dataclass(frozen=True)
class Rehearsal:
    """What one training forward with every block run twice has shown."""

    blocks: tuple[BlockRehearsal, ...]
    """One for each call of a block, in the order they ran."""
    chains: tuple[tuple[str, ...], ...]
    """The names of the blocks, chain by chain."""
    headroom: Headroom | None
    """How much of fp32's exact range the forward used; None for a rule that does not quantise."""
    side_bytes: int
    """Side bits (eq. 20) that a training forward would hold at its end."""

    @property
    def stable(self) -> bool:
        """Every block gave the same bits twice."""
        return all(block.stable for block in self.blocks)


def rehearse(
    model: nn.Module,
    forward: Callable[[], object],
    *,
    method: str | Method = "bdia",
    bits: int = 9,
    gamma: float | str | Gamma | None = None,
    seed: int | None = 0,
    blocks: Blocks | None = None,
    batch_dim: int | None = None,
) -> Rehearsal:
    """Runs `forward`, one forward of `model` in training mode, with each block run twice as a reversible backward would
    run it: same x, RNG state, autocast, switches and grad mode. Needs the memory of one block, and no backward.

    Parameters, buffers, the mode of each module and torch's RNG state are afterwards as before.

    Args: as `bdia.attach` takes them.

    Raises: what `bdia.attach` raises where the method cannot be attached, and what its forward raises where the blocks
    cannot be a chain (TapeError). Leaving the exact range is no error here: `headroom` tells of it.
    """
    chosen = get(method) if isinstance(method, str) else method
    attach(model, chosen, bits=bits, gamma=gamma, seed=seed, blocks=blocks, batch_dim=batch_dim).detach()
    rehearsing = Rehearsing()
    watched = replace(chosen, strategy=lambda: rehearsing, reversible=False)
    with (
        _as_before(model),
        attach(model, watched, bits=bits, gamma=gamma, seed=seed, blocks=blocks, batch_dim=batch_dim) as handle,
        handle.unguarded(),
        torch.enable_grad(),
    ):
        model.train()
        forward()
        if not rehearsing.found:
            raise AttachError(
                f"none of the blocks {handle.chains[0][0]} … was called by its forward: attach to those that the model "
                f"does call, with blocks="
            )
        return Rehearsal(tuple(rehearsing.found), handle.chains, handle.headroom, rehearsing.side_bytes)


@contextlib.contextmanager
def _as_before(model: nn.Module) -> Iterator[None]:
    """Puts buffers, modes and RNG states back."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
