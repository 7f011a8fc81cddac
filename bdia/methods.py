"""The table of named methods: an update rule and a backprop strategy each.

Rules and strategies are named as `module:Name` and imported on use, so that listing the methods needs no torch.
A new method is one file and one line in `METHODS` (see docs/adding-a-method.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from bdia.distributions import HALF, Gamma
from bdia.errors import MethodError

if TYPE_CHECKING:
    from bdia.backprop import Strategy
    from bdia.updates import Rule


@dataclass(frozen=True)
class Method:
    """An update rule (what the forward computes) paired with a backprop strategy (what is kept for the backward).

    `rule` and `strategy` are factories, or their names as `module:Name`. A rule's factory takes `bits` (l of
    eq. 17); `quantised` says whether it makes use of it.
    """

    name: str
    rule: str | Callable[..., Rule]
    strategy: str | Callable[[], Strategy]
    summary: str
    quantised: bool = False
    """The stream is rounded to multiples of 2^-l, so `bits` matters."""
    draws_gamma: bool = False
    """The rule mixes with a random γ, and its factory takes `gamma`, a `bdia.distributions.Gamma`."""
    reversible: bool = False
    """The strategy rebuilds activations instead of storing them, so there is a reconstruction to measure."""
    needs: Literal["cuda"] | None = None
    """The kind of device without which the strategy has nothing to do; it trains all the same, as plain autograd."""

    def make_rule(self, bits: int, gamma: Gamma = HALF) -> Rule:
        """The rule for l = `bits` and γ drawn from `gamma`; rules that do not quantise, or draw no γ, ignore them."""
        options: dict[str, object] = {"bits": bits} if self.quantised else {}
        if self.draws_gamma:
            options["gamma"] = gamma
        return cast("Rule", _resolve(self.rule)(**options))

    def make_strategy(self) -> Strategy:
        return cast("Strategy", _resolve(self.strategy)())

    @property
    def recomputes(self) -> bool:
        """Whether the backward runs blocks again: what `keep` spares, and where `micro_batches` saves."""
        return self.strategy not in (STORED, OFFLOAD)

    def twin(self) -> Method:
        """The same rule with stored activations: the reference for `gradient_error`."""
        return replace(
            self, name=f"{self.name}'s stored twin", strategy=STORED, reversible=False, needs=None, summary="reference"
        )


EULER = "bdia.updates:Euler"
QUANTISED_EULER = "bdia.updates:QuantisedEuler"
BDIA = "bdia.updates:Bdia"
QUANTISED_BDIA = "bdia.updates:QuantisedBdia"
TWO_STREAM = "bdia.rules.two_stream:TwoStream"
MOMENTUM = "bdia.rules.momentum:Momentum"
LEAPFROG = "bdia.rules.leapfrog:Leapfrog"
EXACT_LEAPFROG = "bdia.rules.leapfrog:ExactLeapfrog"
STORED = "bdia.backprop.stored:Stored"
CHECKPOINT = "bdia.backprop.checkpoint:Checkpoint"
SEGMENTS = "bdia.backprop.segments:Segments"
SELECTIVE = "bdia.backprop.selective:Selective"
OFFLOAD = "bdia.backprop.offload:Offload"
REVERSIBLE = "bdia.backprop.reversible:Reversible"

METHODS: tuple[Method, ...] = (
    Method("standard", EULER, STORED, "plain transformer (eq. 4), plain autograd"),
    Method("checkpoint", EULER, CHECKPOINT, "plain transformer (eq. 4), torch.utils.checkpoint per block"),
    Method("checkpoint-segments", EULER, SEGMENTS, "plain transformer (eq. 4), rerun in √N segments of blocks"),
    Method(
        "checkpoint-selective", EULER, SELECTIVE,
        "plain transformer (eq. 4), torch's selective checkpoint per block: keeps matrix products",
    ),
    Method("offload", EULER, OFFLOAD, "plain transformer (eq. 4), saved tensors in the CPU's memory", needs="cuda"),
    Method(
        "standard-quantised", QUANTISED_EULER, STORED,
        "plain transformer on a quantised stream (eq. 22), plain autograd: the control, BDIA's γ = 0", quantised=True,
    ),
    Method("two-stream", TWO_STREAM, REVERSIBLE, "two streams coupled, as in RevNet and RevViT", reversible=True),
    Method("momentum", MOMENTUM, REVERSIBLE, "momentum residual network, μ = 0.9", reversible=True),
    Method("leapfrog", LEAPFROG, REVERSIBLE, "x₊ = x₋ + 2h, inverted in floating point", reversible=True),
    Method(
        "leapfrog-exact", EXACT_LEAPFROG, REVERSIBLE, "x₊ = x₋ + Q[2h], inverted bit for bit without side bits",
        quantised=True, reversible=True,
    ),
    Method(
        "bdia-stored", QUANTISED_BDIA, STORED, "quantised BDIA (eq. 18-21), plain autograd",
        quantised=True, draws_gamma=True,
    ),
    Method("bdia-unquantised", BDIA, STORED, "BDIA (eq. 10), plain autograd: any γ", draws_gamma=True),
    Method(
        "bdia-naive", BDIA, REVERSIBLE, "BDIA (eq. 10), inverted in floating point (eq. 16)",
        draws_gamma=True, reversible=True,
    ),
    Method(
        "bdia", QUANTISED_BDIA, REVERSIBLE, "quantised BDIA (eq. 18-21), inverted bit for bit (eq. 24)",
        quantised=True, draws_gamma=True, reversible=True,
    ),
)  # fmt: skip


def names() -> tuple[str, ...]:
    """The names of the table, in its order."""
    return tuple(method.name for method in METHODS)


def get(name: str) -> Method:
    """The method called `name`.

    Raises: MethodError where the table has no such name.
    """
    for method in METHODS:
        if method.name == name:
            return method
    raise MethodError(f"unknown method {name!r}: expected one of {', '.join(names())}")


def _resolve(target: str | Callable[..., object]) -> Callable[..., object]:
    if callable(target):
        return target
    module, _, attribute = target.partition(":")
    return cast("Callable[..., object]", getattr(importlib.import_module(module), attribute))
