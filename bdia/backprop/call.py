"""One call of one block, as a backward that reruns it needs to know it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bdia.backprop import ambient, rng
from bdia.backprop.module_state import ModuleState

if TYPE_CHECKING:
    from bdia.backprop.checks import Evidence
    from bdia.backprop.work import Work
    from bdia.sidebits import SideBits
    from bdia.updates import State


class Call:
    """How to run the block again, and what undoes its step. To be made before the first run, of a `Work` that is for
    the later ones."""

    __slots__ = ("ambient", "before", "evidence", "gamma", "kept", "module_state", "requires_grad", "rng", "work")

    def __init__(self, work: Work, x: Tensor, gamma: Tensor | None = None) -> None:
        self.work = work
        self.gamma = gamma
        self.requires_grad = x.requires_grad
        self.ambient = ambient.capture()
        self.module_state = ModuleState(work.name, work.module)
        self.evidence: Evidence | None = None
        self.rng: rng.RngState | None = None
        """What its block drew from; None where it drew nothing."""
        self.kept: SideBits | None = None
        self.before: State | None = None
        """The state before its step, where that step cannot be undone."""

    @contextlib.contextmanager
    def as_then(self, device: torch.device) -> Iterator[None]:
        """Grad mode, switches, RNG state and module as they were when the call was first run."""
        with (
            torch.enable_grad(),
            ambient.restored(self.ambient),
            rng.restored(self.rng, device),
            self.module_state.again(),
        ):
            yield


def rng_bytes(calls: list[Call]) -> int:
    """Bytes of the RNG states that the calls hold; one may serve several."""
    held = {id(state): state for call in calls for state in call.rng or ()}
    return sum(state.nbytes for state in held.values())
