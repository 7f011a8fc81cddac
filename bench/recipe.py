"""The recipe of a training run: optimiser, learning rate, how long, and how often to look. Imports no torch.

What a case says is what is computed in one step; what the steps are is said here.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

import msgspec

Optimizer = Literal["adamw", "adam", "set-adam"]
Schedule = Literal["constant", "cosine"]
OPTIMIZERS: Final[tuple[Optimizer, ...]] = get_args(Optimizer)
SCHEDULES: Final[tuple[Schedule, ...]] = get_args(Schedule)
LARGEST: Final = 1e9
"""Beyond any rate, and short of infinity."""

_Above0 = Annotated[float, msgspec.Meta(gt=0, le=LARGEST)]
_AtLeast0 = Annotated[float, msgspec.Meta(ge=0, le=LARGEST)]
_Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_CountOr0 = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an arm is trained. Everything that changes its weights is here or in its case."""

    optimizer: Optimizer = "adamw"
    lr: _Above0 = 1e-3
    """The largest learning rate: after the warm-up, before it falls."""
    betas: tuple[_Share, _Share] = (0.9, 0.999)
    eps: _AtLeast0 = 1e-8
    weight_decay: _AtLeast0 = 0.0
    """Of matrices alone, as in nanoGPT: vectors are biases and the scales of norms."""
    clip: _Above0 | None = None
    """What the norm of all gradients together is cut down to; None leaves it."""
    schedule: Schedule = "constant"
    warmup_steps: _CountOr0 = 0
    """Steps in which the learning rate rises from 0 in a line."""
    min_lr: _AtLeast0 = 0.0
    """Where `cosine` ends."""
    steps: _Count
    """Optimiser steps."""
    dropout: _Share | None = None
    """In the place of the model's own; None keeps that."""
    augment: bool = False
    """Training images are moved and mirrored at random."""
    eval_every: _Count = 100
    """Steps between two looks at the validation set; there is one before the first step and one after the last."""
    eval_batches: _Count | None = None
    """Batches of a look; None takes the whole validation set."""
    checkpoint_every: _Count = 500

    def flat(self) -> dict[str, Any]:
        """Its fields as a record holds them."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built


FIELDS: Final = Recipe.__struct_fields__


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with a case that is trained: its recipe, and what is looked at on the way."""

    experiment: str
    recipe: Recipe
    watch: tuple[str, ...] = ()
    """Names of `bench.watches`."""
    watch_every: _Count | None = None
    """Steps between two looks of the watches; None as often as validation."""
