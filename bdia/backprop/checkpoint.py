"""`torch.utils.checkpoint` on each block, as people use it: x_k is stored, the rest of the block computed again."""

from __future__ import annotations

from typing import cast

import torch.utils.checkpoint
from torch import Tensor

from bdia.backprop import Numbered
from bdia.backprop.checks import Checks
from bdia.backprop.work import Work
from bdia.updates import Rule, State


class Checkpoint:
    """Keeps each block's input. Works with every rule. `rng_bytes` is not counted: torch keeps those states itself."""

    side_bytes = 0
    rng_bytes = 0

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> Checkpoint:
        return self

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        work.isolate()
        # What a block writes into its arguments is written once: its second run gets a copy from before.
        return cast("Tensor", torch.utils.checkpoint.checkpoint(work, x, use_reentrant=False))

    def keep(self, kept: Tensor | None) -> None:
        pass

    def keep_state(self, state: State) -> None:
        pass

    def close(self, state: State, versions: list[int]) -> None:
        pass
