"""Sizes of memory as people write them: `8GiB`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

UNITS: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_TEXT: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGT]iB)")


def parse(text: str) -> int | None:
    """The bytes that a text such as `4GiB` or `1.5 MiB` means; None for any other text, and for no bytes at all."""
    match = _TEXT.fullmatch(text)
    return int(Fraction(match[1]) * UNITS[match[2]]) or None if match else None


def text(nbytes: float) -> str:
    """About so many bytes, in the largest unit that leaves a whole."""
    unit = next((name for name in reversed(UNITS) if nbytes >= UNITS[name]), "KiB")
    value = nbytes / UNITS[unit]
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"
