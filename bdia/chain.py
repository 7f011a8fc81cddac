"""A chain: one list of blocks under one method, and the forwards that pass through it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bdia.backprop import Index, Numbered, Recording, Strategy
from bdia.backprop.checks import Checks
from bdia.backprop.lanes import Lanes
from bdia.backprop.stored import Stored
from bdia.errors import HeadroomError
from bdia.gamma import GammaSource
from bdia.passage import Passage, Recorders, Summary
from bdia.updates import Rule

if TYPE_CHECKING:
    from bdia.planner import Planner


@dataclass(frozen=True)
class Layout:
    """Where the samples of a chain's x lie."""

    batch_dim: int = 0
    least_dims: int = 1
    """x of fewer dimensions has no dimension of samples."""


class Chain:
    """The rule and the strategy of one block list, its γ, and the forwards now under way."""

    def __init__(
        self,
        names: tuple[str, ...],
        rule: Rule,
        strategy: Strategy,
        gamma: GammaSource,
        *,
        layout: Layout,
        inference: Rule | None,
        stores_overflow: bool,
        verify: bool,
        keep: int,
        micro_batches: int,
    ) -> None:
        self.names = names
        self.rule = rule
        self.gamma = gamma
        self.layout = layout
        self.inference = inference
        """The rule of eval mode; None for the plain model."""
        self.guarded = True
        self.watcher: Numbered | None = None
        self.summary = Summary()
        self.called = False
        """Whether any of its blocks was ever called in a forward that trains."""
        self.overflows = 0
        """Forwards that left the exact range and were stored where they did."""
        self.keep = keep
        """How many of its last blocks keep their graph."""
        self.micro_batches = micro_batches
        self.planner: Planner | None = None
        """What sets `keep` and `micro_batches` at the first forward that trains."""
        self._strategy = strategy
        self._stores_overflow = stores_overflow
        self._checks: Checks = "verify" if verify else "checksum"
        self._threads = threading.local()

    @property
    def _open(self) -> list[Passage]:
        """The forwards under way in this thread."""
        if not hasattr(self._threads, "open"):
            self._threads.open = []
        under_way: list[Passage] = self._threads.open
        return under_way

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_threads"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _threads=threading.local())

    @property
    def current(self) -> Passage | None:
        """The innermost forward under way."""
        return self._open[-1] if self._open else None

    def open(self, *, training: bool) -> Passage:
        """Begins a forward. Without grad mode the rule runs all the same, and nothing is kept."""
        rule = self.rule if training or self.inference is None else self.inference
        recorded = training and torch.is_grad_enabled()
        strategy = self._strategy if recorded else Stored()

        def begin(x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recorders:
            if recorded and self.planner is not None:
                dial = self.planner.dial_for(self, x, args, kwargs)
                self.keep, self.micro_batches = dial.keep, dial.micro_batches
            micro_batches, keep_from = self.micro_batches if training else 1, len(self.names) - self.keep
            return Recorders(
                self._begin(strategy, rule, micro_batches, keep_from),
                self._begin(Stored(), rule, micro_batches, self.keep),
                keep_from if self.keep else None,
            )

        passage = Passage(
            rule,
            begin,
            draw=lambda: self.gamma.begin(len(self.names), self.layout.batch_dim),
            watcher=self.watcher,
            least_dims=self.layout.least_dims,
            by_sample=rule.draws_gamma or (training and (self.micro_batches > 1 or self.planner is not None)),
            stores_overflow=self._stores_overflow,
            isolates=recorded,
        )
        self._open.append(passage)
        return passage

    def _begin(self, strategy: Strategy, rule: Rule, micro_batches: int, blocks: int) -> Recording:
        checks: Checks = self._checks if self.guarded else "off"
        watcher = self.watcher
        if micro_batches == 1:
            return strategy.begin(rule, blocks=blocks, checks=checks, watcher=watcher)

        def begin(index: Index) -> Recording:
            part = None if watcher is None else watcher.part(index)
            return strategy.begin(rule, blocks=blocks, checks=checks, watcher=part)

        return Lanes(begin, micro_batches, self.layout.batch_dim)

    def drop(self, passage: Passage) -> None:
        """Ends a forward, whichever way it went."""
        self._open.remove(passage)

    def close(self, passage: Passage) -> None:
        """Takes a forward that came through.

        Raises: HeadroomError where its stream left the exact range, and was not stored there; BudgetError where it ran
        more blocks than were planned for.
        """
        summary = passage.close()
        if summary is None:  # the module around the one that ran the blocks
            return
        self.called = True
        self.summary = summary
        self.overflows += summary.stored_calls > 0
        if self.planner is not None:
            self.planner.check(summary.calls)
        room = summary.headroom
        if room is None or room.exact or self._stores_overflow or not self.guarded:
            return
        cure = f"use bits={room.largest_bits} or fewer" if room.largest_bits else "no l would do; is it diverging?"
        raise HeadroomError(
            f"block {room.block}: max|x| = {room.max_abs:.6g} leaves no headroom at l={room.bits}: fp32 holds "
            f"multiples of 2^-{room.bits} exactly only up to 2^{24 - room.bits}; {cure}, or on_overflow='store'",
            block=room.block,
            max_abs=room.max_abs,
            bits=room.bits,
            largest_bits=room.largest_bits,
        )
