"""γ, drawn per sample and per block (section 4.2), from a generator apart from torch's global one."""

from __future__ import annotations

import hashlib
import struct

import torch
import torch.distributed as dist
from torch import Tensor


class GammaSource:
    """Draws γ = ±½ with equal probability.

    What forward number c draws depends on (seed, c, distributed rank) alone: not on what the model drew, not on the
    device, and with a data-parallel model each rank draws its own.

    `seed` None takes torch's current seed, without drawing from its generator.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = torch.initial_seed() if seed is None else seed
        self.forwards = 0
        """Forwards begun since attaching."""

    def begin(self, blocks: int) -> GammaDraw:
        """The draw for the next forward, of about `blocks` calls."""
        key = struct.pack("<QQQ", self.seed % 2**64, self.forwards, _rank())
        self.forwards += 1
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "little")
        return GammaDraw(seed, blocks)

    def state_dict(self) -> dict[str, int]:
        """What it takes to draw the same γ again."""
        return {"seed": self.seed, "forwards": self.forwards}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken."""
        self.seed, self.forwards = state["seed"], state["forwards"]


class GammaDraw:
    """The γ of one forward. Call k gets row k of a table drawn ahead, moved to the device in one copy."""

    def __init__(self, seed: int, blocks: int) -> None:
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._rows_ahead = max(blocks, 1)
        self._rows: list[Tensor] = []

    def next(self, x: Tensor) -> Tensor:
        """γ of shape [B, 1, …, 1] for a stream x of shape [B, …], on x's device."""
        if not self._rows:
            shape = (self._rows_ahead, x.shape[0])
            drawn = torch.randint(0, 2, shape, generator=self._generator, device="cpu")
            table = drawn.to(x.dtype).sub_(0.5).to(x.device)
            self._rows = list(table.view(self._rows_ahead, -1, *[1] * (x.dim() - 1)).unbind())[::-1]
        return self._rows.pop()


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
