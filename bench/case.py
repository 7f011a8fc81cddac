"""A case: one point of the grid, complete and frozen. Imports no torch."""

from __future__ import annotations

from typing import Literal

import msgspec

from bench import gamma

Dtype = Literal["fp32", "bf16-amp", "bf16"]
Measurement = Literal["memory", "throughput", "reconstruction", "gradients"]
METHOD_AXES: tuple[str, ...] = ("method", "bits", "gamma")
"""The method and what belongs to it: cases that differ in nothing else are compared side by side."""
MEASUREMENTS: tuple[Measurement, ...] = ("memory", "throughput", "reconstruction", "gradients")


class Case(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that decides what is computed. Field names are the command line's options.

    An axis that the method or the model does not have is None: `bits` for a rule that does not quantise, `gamma` for
    one that draws none, `seq` and `vocab` for a vision model. So is a size that was not given and that a model of the
    user's settles.
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
    vocab: int | None
    dtype: Dtype
    train_steps: int
    """Optimiser steps taken before measuring; 0 means initial weights."""
    device: str
    """`cpu` or `cuda`; never `auto`."""
    seed: int
    data: str | None
    """Path of the user's data; None for the built-in data."""

    def __post_init__(self) -> None:
        """Records and baselines from before there was a choice of γ are of ±½."""
        if self.gamma is None and gamma.drawn_by(self.method):
            msgspec.structs.force_setattr(self, "gamma", gamma.DEFAULT)

    def group(self) -> tuple[object, ...]:
        """Cases of one group differ only in the method (and its bits and gamma), so their times can be paired."""
        return tuple(getattr(self, name) for name in Case.__struct_fields__ if name not in METHOD_AXES)

    def label(self) -> str:
        """A short name for progress lines and messages, such as `bdia gpt depth=6 width=128 seed=0`."""
        shown = ("depth", "width", "heads", "seq", "batch", "bits", "gamma", "dtype", "train_steps", "device", "seed")
        axes = " ".join(f"{name}={getattr(self, name)}" for name in shown if getattr(self, name) is not None)
        return f"{self.method} {self.model} {axes}"

    def text(self) -> str:
        """The same with all that tells cases apart: no two have the same."""
        told = {"vocab": self.vocab, "data": self.data}
        return " ".join([self.label(), *(f"{name}={value}" for name, value in told.items() if value is not None)])


class Plan(msgspec.Struct, frozen=True):
    """A case and what to measure of it."""

    case: Case
    measure: frozenset[Measurement]
    verify: bool = False
    """Attach with `verify=True`: every rebuilt activation is checked, at a cost that is measured with the rest."""
    unsupported: str | None = None
    """Why a case that a sweep asks for cannot be; there is nothing to measure of it then."""
