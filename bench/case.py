"""A case: one point of the grid, complete and frozen. Imports no torch."""

from __future__ import annotations

from typing import Literal

import msgspec

Dtype = Literal["fp32", "bf16-amp", "bf16"]
Measurement = Literal["memory", "throughput", "reconstruction", "gradients"]
MEASUREMENTS: tuple[Measurement, ...] = ("memory", "throughput", "reconstruction", "gradients")


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what is computed. Field names are the command line's options.

    An axis that the method or the model does not have is None: `bits` for a rule that does not quantise,
    `seq` and `vocab` for a vision model. So is a size that was not given and that a model of the user's settles.
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
    vocab: int | None
    dtype: Dtype
    train_steps: int
    """Optimiser steps taken before measuring; 0 means initial weights."""
    device: str
    """`cpu` or `cuda`; never `auto`."""
    seed: int
    data: str | None
    """Path of the user's data; None for the built-in data."""

    def group(self) -> tuple[object, ...]:
        """Cases of one group differ only in the method (and its bits), so their times can be paired."""
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name not in ("method", "bits"))

    def label(self) -> str:
        """A short name for progress lines and messages, such as `bdia gpt depth=6 width=128 seed=0`."""
        shown = ("depth", "width", "heads", "seq", "batch", "bits", "dtype", "train_steps", "device", "seed")
        axes = " ".join(f"{name}={getattr(self, name)}" for name in shown if getattr(self, name) is not None)
        return f"{self.method} {self.model} {axes}"


class Plan(msgspec.Struct, frozen=True):
    """A case and what to measure of it."""

    case: Case
    measure: frozenset[Measurement]
