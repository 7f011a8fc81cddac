"""The axis γ: its values as texts of `bdia.distributions.parse`, one text a distribution, and who can have which.

Imports no torch.
"""

from __future__ import annotations

from typing import Final

from bdia import distributions
from bdia.methods import METHODS, Method

DEFAULT: Final = "0.5"
"""The paper's γ = ±½."""
EXPECTED: Final = "a number g from 0 to 1 for ±g, or uniform:0.5, or normal:0.3"
_ZERO: Final = "0"


def text_of(value: object) -> str | None:
    """The one text for the distribution that `value` stands for, so that `.5` and `0.50` are one case; None where it
    stands for none. A width of 0 leaves γ = 0, whatever the distribution is called."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        text = str(value)
        distributions.parse(text)
    except ValueError:  # MethodError is one, as is what Python says of a whole number too long to write out
        return None
    kind, colon, number = text.rpartition(":")
    size = abs(float(number))
    return kind + colon + repr(size).removesuffix(".0") if size else _ZERO


def drawn_by(name: str) -> bool:
    """Whether the table has a method of this name, and it draws γ."""
    return any(method.name == name and method.draws_gamma for method in METHODS)


def refused_by(name: str, text: str | None) -> bool:
    """Whether the table has a method of this name, and this γ is none for it."""
    return text is not None and any(method.name == name and obstacle(method, text) for method in METHODS)


def obstacle(method: Method, text: str) -> str | None:
    """Why `method` cannot be trained with this γ, with the cure; None where it can.

    Reversal divides by γ, which must not be 0, and is exact where γ is a power of two. A distribution that may come
    near 0 is left to `bdia-naive`: how wrong that goes is what the bench measures.
    """
    if not (method.draws_gamma and method.reversible):
        return None
    if method.quantised and distributions.side_bits(distributions.parse(text)) is None:
        return (
            f"gamma {text}: {method.name} inverts bit for bit, so |γ| must be 2^-m, m from 0 to "
            f"{distributions.MAX_SIDE_BITS}; take --gamma 0.5 or 0.25, or --method bdia-stored, which takes any"
        )
    if text == _ZERO:
        return f"gamma {text}: {method.name} divides by γ; take another, or --method bdia-stored, which takes any"
    return None


def rank(text: str | None) -> tuple[str, float]:
    """A sorting key: no γ first, then magnitudes and widths in ascending order, a kind at a time."""
    if text is None:
        return "", -1.0
    kind, _, number = text.rpartition(":")
    return kind, float(number)
