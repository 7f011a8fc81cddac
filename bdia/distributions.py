"""Distributions of γ (section 4.2): symmetric about 0, so that its mean, and with it the model at inference, is plain.

Reversal divides by γ, and is exact where that is a shift of bits: |γ| = 2^-m, with m side bits an activation. Any
other distribution will do where activations are stored (Remark 1). Imports no torch until something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bdia.errors import MethodError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_SIDE_BITS = 8
"""The largest m: with 2^-9 and less there is next to nothing of x₋ in x₊, and more than a byte to pay for it."""


@runtime_checkable
class Gamma(Protocol):
    """A distribution of γ, symmetric about 0. Stateless: what is drawn depends on the generator alone."""

    @property
    def magnitude(self) -> float | None:
        """|γ|, where it is always the same; None where it varies."""
        ...

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Independent draws, float32 on the CPU, of this shape."""
        ...


def _check(what: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise MethodError(f"{what} is {value:g}: expected 0 to 1, such as 0.5")


@dataclass(frozen=True)
class PlusMinus:
    """+g or -g with equal probability; `PlusMinus(0.0)` is the plain transformer.

    Raises: MethodError for a g outside [0, 1].
    """

    magnitude: float = 0.5

    def __post_init__(self) -> None:
        _check("γ", self.magnitude)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        import torch

        signs = torch.randint(0, 2, shape, generator=generator, device="cpu")
        # Halves times 2g, not ones times g: the draws of ±½ are those of earlier versions, bit for bit.
        return signs.to(torch.float32).sub_(0.5).mul_(2.0 * self.magnitude)

    def __str__(self) -> str:
        return f"±{self.magnitude:g}"


@dataclass(frozen=True)
class Uniform:
    """Uniform on [-g, g].

    Raises: MethodError for a g outside [0, 1].
    """

    limit: float = 0.5
    magnitude = None

    def __post_init__(self) -> None:
        _check("the limit of a uniform γ", self.limit)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        import torch

        return torch.rand(shape, generator=generator, device="cpu").mul_(2.0).sub_(1.0).mul_(self.limit)

    def __str__(self) -> str:
        return f"uniform on ±{self.limit:g}"


@dataclass(frozen=True)
class Normal:
    """Normal with mean 0 and standard deviation σ.

    Raises: MethodError for a σ outside [0, 1].
    """

    deviation: float = 0.5
    magnitude = None

    def __post_init__(self) -> None:
        _check("the deviation of a normal γ", self.deviation)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        import torch

        return torch.randn(shape, generator=generator, device="cpu").mul_(self.deviation)

    def __str__(self) -> str:
        return f"normal, σ = {self.deviation:g}"


HALF = PlusMinus(0.5)
"""The paper's γ."""


def parse(value: float | str | Gamma | None) -> Gamma:
    """The distribution that `value` stands for: None for ±½, a number g for ±g, a text such as `0.25`, `uniform:0.5`
    or `normal:0.3`, or a distribution itself.

    Raises: MethodError.
    """
    if value is None:
        return HALF
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return PlusMinus(float(value))
    if isinstance(value, Gamma) and not isinstance(value, type):
        return value
    raise MethodError(f"gamma={value!r}: expected a number such as 0.5, 'uniform:0.5', or a bdia.distributions.Gamma")


def side_bits(gamma: Gamma) -> int | None:
    """m where |γ| is always 2^-m, which is what exact reversal needs: the side bits an activation. None elsewhere."""
    magnitude = gamma.magnitude
    if magnitude is None or magnitude <= 0.0:
        return None
    mantissa, exponent = math.frexp(magnitude)
    m = 1 - exponent
    return m if mantissa == 0.5 and 0 <= m <= MAX_SIDE_BITS else None


_KINDS: dict[str, Callable[[float], Gamma]] = {"uniform": Uniform, "normal": Normal}


def _parse_text(text: str) -> Gamma:
    kind, colon, number = text.rpartition(":")
    try:
        size = float(number)
    except ValueError:
        size = math.nan
    if math.isnan(size) or (colon and kind not in _KINDS):
        raise MethodError(f"gamma={text!r}: expected a number g for ±g, as in 0.25, or uniform:0.5, or normal:0.3")
    return _KINDS[kind](size) if colon else PlusMinus(size)
