"""What is looked at while a model trains, at its weights as they then are: one watch a file, one line in `WATCHES`.

A look runs forwards and backwards of its own, with methods of its own, and leaves no trace: a watched training ends
with the weights of an unwatched one, bit for bit. The table imports no torch; a watch's file is imported as it looks.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench import axes, resolve
from bench.errors import UsageError
from bench.peers import Peer
from bench.watches import subjects

if TYPE_CHECKING:
    from bench.batches import Batch
    from bench.case import Case, Plan
    from bench.workload import Workload

Found = dict[str, Any]
"""A point of a curve without its arm and seed: `step`, `name`, `value`, and `block` or `gamma` where it is of one."""


@dataclass(frozen=True)
class Watch:
    """One thing to look at. `file` names its module in this package; `finds` are the names of its points."""

    name: str
    summary: str
    file: str
    finds: tuple[str, ...]
    rebuilds: bool = False
    """It looks at what methods rebuild, so there must be one that can."""
    plain: bool = False
    """It looks at eval mode, which must be the plain model's."""

    def obstacle(self, case: Case) -> str | None:
        """Why there is nothing to look at in this case; None where there is."""
        method = resolve.method(case.method)
        if isinstance(method, Peer):
            return f"{self.name}: {method.name} is a peer, and a watch looks through bdia's own methods"
        if self.plain and not subjects.is_plain(method):
            return f"{self.name}: {method.name} is no plain model at inference, where γ would be kept"
        if self.rebuilds and not subjects.rebuilders(case):
            return f"{self.name}: nothing can be rebuilt of {method.name} with γ = {case.gamma}"
        return None

    def look(self, workload: Workload, plan: Plan, step: int, held_out: Iterable[Batch] = ()) -> list[Found]:
        """What there is to see of `workload` after `step` optimiser steps, while the method of `plan` is attached to it
        or not. `held_out` are validation batches on its device, for a watch that evaluates; they are gone through once.

        Everything is drawn from the case's seed, so that looks at two steps differ by the weights alone. Weights,
        buffers, gradients, the optimiser, train() and eval(), torch's RNG and an attached method with its γ are left as
        they were. A value that is not finite is None.

        Raises: UsageError where `obstacle` has one; whatever the workload raises.
        """
        obstacle = self.obstacle(plan.case)
        if obstacle is not None:
            raise UsageError(obstacle)
        aside = importlib.import_module("bench.watches.aside")
        looker = importlib.import_module(f"bench.watches.{self.file}")
        with aside.aside(workload, seed=plan.case.seed):
            found: Sequence[Found] = looker.look(workload, plan.case, held_out)
        return [{"step": step, **one} for one in found]


WATCHES: Final[dict[str, Watch]] = {
    watch.name: watch
    for watch in (
        Watch(
            "reconstruction", "error of each rebuilt block input, by eq. 24 and by eq. 16", "reconstruction",
            ("reconstruction_error", "reconstruction_error_naive"), rebuilds=True,
        ),
        Watch(
            "drift", "error of the gradients against stored activations, whole and by block", "drift",
            ("gradient_error", "gradient_error_naive"), rebuilds=True,
        ),
        Watch("headroom", "largest |x| of the stream, and the largest l it leaves exact", "headroom",
              ("max_abs", "largest_bits")),
        Watch(
            "gamma-inference", "loss and accuracy on held-out batches with one γ kept at inference", "gamma_inference",
            ("loss_plain", "loss_at_gamma", "accuracy_at_gamma"), plain=True,
        ),
    )
}  # fmt: skip


def named(names: Iterable[str]) -> tuple[Watch, ...]:
    """The watches of these names.

    Raises: UsageError for a name that is none.
    """
    names = tuple(names)
    for name in names:
        if name not in WATCHES:
            raise UsageError(f"unknown watch {name!r}{axes.suggest(name, WATCHES)}")
    return tuple(WATCHES[name] for name in names)
