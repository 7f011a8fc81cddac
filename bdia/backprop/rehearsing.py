"""A strategy that keeps nothing and goes nowhere: it runs each block twice, as reversal would, and compares.

For looking at a model before it is trained. Each block's graph is dropped at once, so a rehearsal needs the memory of
one block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bdia.backprop import Numbered, ambient, rng
from bdia.backprop.checks import Checks
from bdia.backprop.circumstances import Circumstances, Look, look, unrepeatable
from bdia.backprop.module_state import ModuleState
from bdia.backprop.work import Work
from bdia.updates import Rule, State


@dataclass(frozen=True)
class BlockRehearsal:
    """One call of one block, run twice on the same x."""

    name: str
    stable: bool
    """Both runs gave the same bits, so that the block can be rerun in a backward."""
    differing: int
    """Elements of y that were not the same."""
    elements: int
    """Elements of y, as of x."""
    max_abs_difference: float
    """Over the elements of y."""
    reason: str | None
    """What was not the same for both runs; None for a stable block."""


class Rehearsing:
    """Runs each block twice. `found` has a row for each call, in the order of the forward."""

    def __init__(self) -> None:
        self.found: list[BlockRehearsal] = []
        self.side_bytes = 0
        """Side bits that a training forward would hold at its end."""

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> _RehearsalRecording:
        return _RehearsalRecording(self, rule)


class _RehearsalRecording:
    side_bytes = 0
    rng_bytes = 0

    def __init__(self, rehearsing: Rehearsing, rule: Rule) -> None:
        self._rehearsing = rehearsing
        self._rule = rule
        self._calls_in_graph = 0

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        """y without its graph, though it says that it needs gradients where it would in training: kernels are chosen by
        that."""
        again = work.rerunnable()
        then, state, module = ambient.capture(), rng.state_of(x.device), ModuleState(work.name, work.module)
        looks = [look(work.name, work.module, x.device)]
        y = work(x.detach().requires_grad_(x.requires_grad))
        drew = not rng.same(state, rng.state_of(x.device))
        module.ran()
        looks.append(look(work.name, work.module, x.device))

        def rerun() -> Tensor:
            with ambient.restored(then), rng.restored(state if drew else None, x.device), module.again():
                looks.append(look(work.name, work.module, x.device))
                rerun_y = again(x.detach().requires_grad_(x.requires_grad))
                looks.append(look(work.name, work.module, x.device))
            return rerun_y.detach()

        self._rehearsing.found.append(_compared(work.name, y.detach(), rerun(), looks, rerun))
        self._calls_in_graph += y.requires_grad
        return y.detach().requires_grad_(y.requires_grad)

    def keep(self, kept: Tensor | None) -> None:
        if kept is not None and self._calls_in_graph > 1:
            self._rehearsing.side_bytes += self._rule.side_bits * -(-kept.numel() // 8)

    def keep_state(self, state: State) -> None:
        pass

    def close(self, state: State, versions: list[int]) -> None:
        pass


def _compared(name: str, y: Tensor, again: Tensor, looks: list[Look], rerun: Callable[[], Tensor]) -> BlockRehearsal:
    if torch.equal(y, again):
        return BlockRehearsal(name, True, 0, y.numel(), 0.0, None)
    before, after, before_again, after_again = looks[:4]
    reasons = Circumstances(before, after, before_again, after_again).reasons()
    return BlockRehearsal(
        name=name,
        stable=False,
        differing=int((y != again).sum()),
        elements=y.numel(),
        max_abs_difference=float((y.double() - again.double()).abs().max()),
        reason="; ".join(reasons) or unrepeatable(rerun),
    )
