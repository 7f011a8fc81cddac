"""A case: one point of the grid, complete and frozen. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from bdia.dial import Dial
from bdia.methods import METHODS
from bench import gamma
from bench.recipe import Training

Dtype = Literal["fp32", "bf16-amp", "bf16"]
Measurement = Literal["memory", "throughput", "reconstruction", "gradients"]
METHOD_AXES: tuple[str, ...] = ("method", "bits", "gamma", "micro_batches", "keep", "accumulate", "arm")
"""The method and what belongs to it: cases that differ in nothing else are compared side by side."""
PARTS: tuple[str, ...] = ("micro_batches", "keep", "accumulate", "loss_chunks")
"""What cuts a step's work into parts, or spares some of them."""
WHOLE: Mapping[str, int] = {"micro_batches": 1, "keep": 0, "accumulate": 1, "loss_chunks": 1}
"""Where each of those stands when nothing is cut or spared, which goes without saying."""
MEASUREMENTS: tuple[Measurement, ...] = ("memory", "throughput", "reconstruction", "gradients")


def recomputed_by(name: str) -> bool:
    """Whether the table has a method of this name, and it runs blocks again in the backward."""
    return any(method.name == name and method.recomputes for method in METHODS)


class Case(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that decides what is computed. Field names are the command line's options.

    An axis that the method or the model does not have is None: `bits` for a rule that does not quantise, `gamma` for
    one that draws none, `micro_batches` and `keep` where no block is run again, `seq` and `vocab` for a vision model.
    So is a size that was not given and that a model of the user's settles.
    """

    method: str
    model: str
    depth: int | None
    """Number of transformer blocks, N."""
    width: int | None
    """Width of the residual stream, D."""
    heads: int | None
    seq: int | None
    """Tokens a sample, T."""
    batch: int | None
    """Samples a step, B."""
    bits: int | None
    """l of eq. 17."""
    gamma: str | None = None
    """The distribution of γ, as `bench.gamma.text_of` spells it."""
    micro_batches: int | None = None
    """Parts that the batch is cut into inside each block."""
    keep: int | None = None
    """Of the last so many blocks the graph is kept."""
    accumulate: int = 1
    """Parts that a step's batch is cut into, one forward and backward each; 1 is the whole batch at once."""
    loss_chunks: int = 1
    """Parts that the tokens are cut into between the last block and the loss; 1 is all logits at once."""
    vocab: int | None
    dtype: Dtype
    train_steps: int
    """Optimiser steps taken before measuring; 0 means initial weights."""
    device: str
    """`cpu` or `cuda`; never `auto`."""
    seed: int
    data: str | None
    """Path of the user's data; None for the built-in data."""
    arm: str | None = None
    """Which arm of an experiment this is: arms may differ in their recipe alone. None outside experiments."""

    def __post_init__(self) -> None:
        """Records and baselines from before there was a choice of γ are of ±½, from before there was a dial of whole
        batches, no block kept."""
        if self.gamma is None and gamma.drawn_by(self.method):
            msgspec.structs.force_setattr(self, "gamma", gamma.DEFAULT)
        if self.keep is None and recomputed_by(self.method):
            msgspec.structs.force_setattr(self, "keep", 0)
            msgspec.structs.force_setattr(self, "micro_batches", self.micro_batches or 1)

    @property
    def dial(self) -> Dial:
        """What is kept, and in how many parts a block works."""
        return Dial(self.keep or 0, self.micro_batches or 1)

    def group(self) -> tuple[object, ...]:
        """Cases of one group differ only in the method and what belongs to it, so their times can be paired."""
        return tuple(getattr(self, name) for name in Case.__struct_fields__ if name not in METHOD_AXES)

    def label(self) -> str:
        """A short name for progress lines and messages, such as `bdia gpt depth=6 width=128 seed=0`."""
        values = {name: getattr(self, name) for name in _SHOWN}
        axes = " ".join(f"{name}={value}" for name, value in values.items() if value not in (None, WHOLE.get(name)))
        return f"{self.method} {self.model} {axes}"

    def text(self) -> str:
        """The same with all that tells cases apart: no two have the same."""
        told = {"vocab": self.vocab, "data": self.data, "arm": self.arm}
        return " ".join([self.label(), *(f"{name}={value}" for name, value in told.items() if value is not None)])


_SHOWN: Final = (
    "depth",
    "width",
    "heads",
    "seq",
    "batch",
    "bits",
    "gamma",
    *PARTS,
    "dtype",
    "train_steps",
    "device",
    "seed",
)


class Plan(msgspec.Struct, frozen=True):
    """A case and what to measure of it."""

    case: Case
    measure: frozenset[Measurement]
    verify: bool = False
    """Attach with `verify=True`: every rebuilt activation is checked, at a cost that is measured with the rest."""
    unsupported: str | None = None
    """Why a case that a sweep asks for cannot be; there is nothing to measure of it then."""
    training: Training | None = None
    """Of an experiment's arm: how it is trained, once it has been measured."""
