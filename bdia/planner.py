"""A budget kept: tries the blocks of a chain at the first forward that trains, and sets the dial to what fits.

The blocks are run as the engine would run them, forward and backward, on some samples of what the first is given, and
the tensors that they make are counted. Nothing that a training step sees is left changed.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bdia import budget, sizes, snapshots
from bdia.backprop import rng
from bdia.backprop.cut import Cut
from bdia.budget import Plan
from bdia.dial import Dial
from bdia.errors import BdiaError, BudgetError
from bdia.live import LiveBytes
from bdia.outputs import hidden
from bdia.sharding import is_sharded

if TYPE_CHECKING:
    from bdia.attached import AttachedBlock
    from bdia.chain import Chain


class Planner:
    """Plans for one chain, once, and again for an x that is larger than any before, in one of its sides or in all."""

    def __init__(self, limit: int, blocks: Sequence[AttachedBlock], *, divisible: bool) -> None:
        self.plan: Plan | None = None
        """What was found last; None before the first forward that trains."""
        self._limit = limit
        self._blocks = tuple(blocks)
        self._divisible = divisible
        self._elements = 0
        """Of the largest x that was planned for."""
        self._sides: tuple[int, ...] = ()
        """The longest of each, over all that were."""

    def dial_for(self, chain: Chain, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Dial:
        """Where the dial is to stand for a forward whose first block is called with these.

        Raises: BudgetError where nothing fits, or the blocks cannot be tried.
        """
        if self.plan is None or self._is_larger(x):
            if any(is_sharded(part) for block in self._blocks for part in block.module.modules()):
                raise BudgetError(
                    f"budget of {sizes.text(self._limit)}: weights that FSDP shards cannot be gathered for a trial; "
                    f"set keep and micro_batches",
                    limit=self._limit,
                )
            given = tuple(map(snapshots.alone, args)), {key: snapshots.alone(value) for key, value in kwargs.items()}

            def held(samples: int, dial: Dial) -> float:
                return self._held(trial_of(chain, dial), x.detach(), given, samples)

            samples = x.shape[chain.layout.batch_dim]
            found = budget.choose(
                held, samples=samples, blocks=len(self._blocks), limit=self._limit, divisible=self._divisible,
            )  # fmt: skip
            # What is not larger than all together goes by the plan, so it has to do for each.
            both = found.dial if self.plan is None else _both(self.plan.dial, found.dial)
            if both != found.dial and (nbytes := held(samples, both)) <= self._limit:
                found = dataclasses.replace(found, dial=both, nbytes=int(nbytes))
            serves_both = both == found.dial and len(self._sides) == x.dim()
            self._elements = max(self._elements, x.numel()) if serves_both else x.numel()
            self._sides = tuple(map(max, zip(x.shape, self._sides if serves_both else x.shape, strict=True)))
            self.plan = found
        return self.plan.dial

    def _is_larger(self, x: Tensor) -> bool:
        """As many elements may take more where they lie otherwise: attention's grow with the square of a side."""
        sides = zip(x.shape, self._sides, strict=False)
        return x.numel() > self._elements or x.dim() != len(self._sides) or any(side > most for side, most in sides)

    def check(self, calls: int) -> None:
        """Raises: BudgetError where a forward had more calls of blocks than were tried."""
        if calls > len(self._blocks):
            raise BudgetError(
                f"budget of {sizes.text(self._limit)}: the model calls its {len(self._blocks)} blocks {calls} times in "
                f"a forward, and each was tried once; set keep and micro_batches",
                limit=self._limit,
            )

    def _held(self, chain: Chain, x: Tensor, given: tuple[Any, Any], samples: int) -> float:
        """The most bytes that the blocks hold in a step of the first `samples` samples of x."""
        dim = chain.layout.batch_dim
        left = x.shape[dim] - samples
        if left:
            cut = Cut((samples, left), dim, x.shape)
            name = self._blocks[0].name
            given = snapshots.copied(given, lambda tensor: cut.argument(name, tensor)[0])
        leaf = x.narrow(dim, 0, samples).requires_grad_()
        live = LiveBytes()
        with self._as_before(x.device), live:
            try:
                y = self._forward(chain, leaf.clone(), given)
                # Gradients of weights are no part of what blocks hold, and those that there are stay as they are.
                torch.autograd.backward(y, torch.ones_like(y), inputs=[leaf])
            except torch.OutOfMemoryError:
                return math.inf
        return live.peak

    def _forward(self, chain: Chain, x: Tensor, given: tuple[Any, Any]) -> Tensor:
        passage = chain.open(training=True)
        try:
            for block in self._blocks:
                args, kwargs = snapshots.copied(given)
                try:
                    outputs = passage.call(block.name, block.module, block.original, x, args, kwargs)
                except (BdiaError, torch.OutOfMemoryError):
                    raise
                except Exception as error:
                    raise BudgetError(
                        f"budget of {sizes.text(self._limit)}: {block.name} does not run on what the first block is "
                        f"called with ({type(error).__name__}: {error}), so it cannot be tried; set keep and "
                        f"micro_batches",
                        limit=self._limit,
                    ) from error
                x = hidden(outputs, block.name)
            passage.close()
        finally:
            chain.drop(passage)
        return x

    @contextlib.contextmanager
    def _as_before(self, device: torch.device) -> Iterator[None]:
        """Puts generators and buffers back."""
        modules = [block.module for block in self._blocks]
        buffers = [(buffer, buffer.detach().clone()) for module in modules for buffer in module.buffers()]
        try:
            with rng.restored(rng.state_of(device), device):
                yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def _both(one: Dial, other: Dial) -> Dial:
    """The dial that holds no more than either. Of more parts than a batch has samples, each has one."""
    return Dial(min(one.keep, other.keep), max(one.micro_batches, other.micro_batches))


def trial_of(chain: Chain, dial: Dial) -> Chain:
    """A chain as `chain` with that dial, to be tried: it counts no forward of training's, and checks nothing."""
    tried = copy.copy(chain)
    tried.gamma = copy.copy(chain.gamma)
    tried.planner, tried.watcher, tried.guarded = None, None, False
    tried.keep, tried.micro_batches = dial.keep, dial.micro_batches
    return tried
