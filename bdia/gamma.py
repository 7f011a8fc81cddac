"""γ, drawn per sample and per block (section 4.2), from a generator apart from torch's global one."""

from __future__ import annotations

import hashlib
import struct
import threading

import torch
import torch.distributed as dist
from torch import Tensor

from bdia.distributions import HALF, Gamma

_COUNTING = threading.Lock()


class GammaSource:
    """Draws γ for one chain of blocks.

    What forward number c draws depends on (seed, c, distributed rank, chain) alone: not on what the model drew, not on
    the device; with a data-parallel model each rank draws its own, and so does each chain of an encoder-decoder.

    `seed` None takes torch's current seed, without drawing from its generator; `rank` None the process's own.
    """

    def __init__(self, seed: int | None = None, gamma: Gamma = HALF, chain: int = 0, rank: int | None = None) -> None:
        self.seed = torch.initial_seed() if seed is None else seed
        self._gamma = gamma
        self._chain = chain
        self._rank = rank
        self.forwards = 0
        """Forwards begun since attaching."""

    def begin(self, blocks: int, batch_dim: int = 0) -> GammaDraw:
        """The draw for the next forward, of about `blocks` calls; the samples lie along `batch_dim` of x."""
        with _COUNTING:  # threads that share a model must not share a γ
            number, self.forwards = self.forwards, self.forwards + 1
        rank = _rank() if self._rank is None else self._rank
        key = struct.pack("<QQQ", self.seed % 2**64, number, rank)
        if self._chain:  # the first chain draws what it drew when there was but one
            key += struct.pack("<Q", self._chain)
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "little")
        return GammaDraw(seed, blocks, self._gamma, batch_dim)

    def state_dict(self) -> dict[str, int]:
        """What it takes to draw the same γ again."""
        return {"seed": self.seed, "forwards": self.forwards}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken."""
        self.seed, self.forwards = state["seed"], state["forwards"]


class GammaDraw:
    """The γ of one forward. Call k gets row k of a table drawn ahead, moved to the device in one copy."""

    def __init__(self, seed: int, blocks: int, gamma: Gamma, batch_dim: int) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._rows_ahead = max(blocks, 1)
        self._gamma = gamma
        self._batch_dim = batch_dim
        self._rows: list[Tensor] = []

    def next(self, x: Tensor) -> Tensor:
        """γ of shape [B, 1, …, 1] for a stream x of shape [B, …], on x's device and in its dtype; with ones before B
        as well where the samples lie along another dimension."""
        samples = x.shape[self._batch_dim]
        if not self._rows:
            table = self._gamma.sample((self._rows_ahead, samples), self._generator)
            self._rows = list(table.to(device=x.device, dtype=x.dtype).unbind())[::-1]
        shape = [1] * x.dim()
        shape[self._batch_dim] = samples
        return self._rows.pop().view(shape)


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
