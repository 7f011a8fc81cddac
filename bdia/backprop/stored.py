"""Plain autograd: every activation a block saves is stored. The oracle the others are compared with."""

from __future__ import annotations

from torch import Tensor

from bdia.backprop import Numbered
from bdia.backprop.checks import Checks
from bdia.backprop.work import Work
from bdia.updates import Rule, State


class Stored:
    """Keeps what autograd keeps. Works with every rule."""

    side_bytes = 0
    rng_bytes = 0

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> Stored:
        return self

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        return work(x)

    def keep(self, kept: Tensor | None) -> None:
        pass

    def keep_state(self, state: State) -> None:
        pass

    def close(self, state: State, versions: list[int]) -> None:
        pass
