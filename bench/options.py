"""Options of the command line: the numbers that their texts mean, and what is said of a line that means nothing.

What more there is to read is read where it is at home: axes, limits to memory, tolerances.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bench.errors import UsageError


def count(option: str, otherwise: str = "") -> Callable[[str], int]:
    """What reads the value of `option`, a whole number; `otherwise` is what the option takes beside those.

    Raises: UsageError for anything but one of at least 1.
    """

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
            raise UsageError(f"{option} {text!r}: expected a whole number, at least 1{otherwise}")
        return int(text)

    return read


def seconds(option: str) -> Callable[[str], float]:
    """What reads the value of `option`, a time.

    Raises: UsageError for anything but a number above 0.
    """

    def read(text: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or float(text) <= 0:
            raise UsageError(f"{option} {text!r}: expected seconds above 0, as in 600")
        return float(text)

    return read


def complaint(error: Any, program: str) -> str:
    """What the library that reads the command line complains of, as one line with the cure."""
    context = getattr(error, "ctx", None)
    cure = f"see `{context.command_path if context else program} --help`"
    name, near = getattr(error, "option_name", None), getattr(error, "possibilities", None)
    if near:
        return f"unknown option {name}: did you mean {near[0]}? {cure}"
    text = error.format_message().rstrip(".")
    return f"{text[:1].lower()}{text[1:]}{'' if text.endswith('?') else ';'} {cure}"
