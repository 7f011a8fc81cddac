"""The axes of the grid: one table of names, types and bounds, and the reading of their values.

A value comes from the command line as text (`4`, `4,8,16`, `4:64:x2`, `4:16:+4`) or from a suite as TOML.
Imports no torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, get_args

from bench import gamma
from bench.case import Dtype
from bench.errors import UsageError

AxisValue = int | str

LARGEST: Final = 2**31 - 1
"""Upper bound of the whole numbers that have no narrower one."""
LONGEST: Final = 1000
"""The most values that one axis may take: a range that yields more is a slip of the finger."""


@dataclass(frozen=True)
class Axis:
    """One axis: a field of `Case`, and what its values may be.

    `choices` are the only values of an axis of words (empty: any word). An axis of whole numbers has bounds,
    both inclusive, in `low` and `high`; `why` says where an unusual bound comes from. Where several spellings mean
    the same, `spelling` gives the one to keep, and None for a value that is none; `spelled` says what it takes.
    """

    name: str
    summary: str
    low: int | None = None
    high: int = LARGEST
    why: str = ""
    choices: tuple[str, ...] = ()
    alias: str | None = None
    spelling: Callable[[object], str | None] | None = None
    spelled: str = ""

    @property
    def option(self) -> str:
        """The command line's name for it, such as `--train-steps`."""
        return "--" + self.name.replace("_", "-")

    @property
    def numeric(self) -> bool:
        """Whether the values are whole numbers (else words)."""
        return self.low is not None

    def expected(self) -> str:
        """What a value must be, in words."""
        if self.low is not None:
            bound = f"at least {self.low}" if self.high == LARGEST else f"from {self.low} to {self.high}"
            return f"a whole number {bound}{self.why}"
        if self.spelling is not None:
            return self.spelled
        return f"one of {', '.join(self.choices)}" if self.choices else "a name"


AXES: Final[tuple[Axis, ...]] = (
    Axis("method", "named method, see `bdia-bench list`"),
    Axis("model", "model, see `bdia-bench list`"),
    Axis("depth", "transformer blocks, N", low=1),
    Axis("width", "width of the residual stream, D", low=1),
    Axis("heads", "attention heads; must divide the width", low=1),
    Axis("seq", "tokens a sample, T", low=1),
    Axis("batch", "samples a step, B", low=1),
    Axis(
        "bits", "l of eq. 17: the stream is a multiple of 2^-l", low=1, high=23, alias="-l",
        why=" (fp32 has 24 significant bits)",
    ),
    Axis(
        "gamma", "γ of BDIA: 0.25 for ±0.25, uniform:0.5, normal:0.3", spelling=gamma.text_of, spelled=gamma.EXPECTED
    ),
    Axis("micro_batches", "parts that the batch is cut into inside each block; for methods that recompute", low=1),
    Axis("keep", "last blocks that keep their graph; for methods that recompute", low=0),
    Axis("accumulate", "parts of a step's batch that go forward and backward one by one", low=1),
    Axis("loss_chunks", "parts of the tokens between the last block and the loss; for GPTs", low=1),
    Axis("vocab", "vocabulary size; follows the data unless given", low=2),
    Axis("dtype", "number formats", choices=get_args(Dtype)),
    Axis("train_steps", "optimiser steps taken before measuring", low=0),
    Axis("device", "where to run", choices=("auto", "cpu", "cuda")),
    Axis("seed", "seed of the weights, the data and γ", low=0),
)  # fmt: skip

NAMES: Final = tuple(axis.name for axis in AXES)


def get(name: str) -> Axis:
    """The axis called `name`.

    Raises: UsageError where there is none.
    """
    for axis in AXES:
        if axis.name == name:
            return axis
    raise UsageError(f"unknown axis {name!r}{suggest(name, NAMES)}")


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown `name`: the likeliest name meant, and all that are known."""
    known = tuple(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f": {hint}expected one of {', '.join(known)}"


def parse(name: str, text: str, where: str | None = None) -> tuple[AxisValue, ...]:
    """The values of axis `name` written as `text`: one value, a list `4,8,16`, a geometric range `4:64:x2` or
    an arithmetic one `4:16:+4`. Ranges include their end where a step lands on it; a list may hold ranges, and
    a value given twice counts once. `where` begins the errors, the axis's option unless given.

    Raises: UsageError, in one line, where a value is not one of the axis.
    """
    axis = get(name)
    where = where or axis.option
    values: dict[AxisValue, None] = {}
    for part in text.split(","):
        for value in _part(axis, part.strip(), where):
            values[value] = None
    if len(values) > LONGEST:
        raise UsageError(f"{where} {text!r}: {len(values)} values, expected at most {LONGEST}")
    return tuple(values)


def check(name: str, value: object, where: str) -> AxisValue:
    """`value`, or its one spelling, if it is one of axis `name`; `where` begins the error, such as `mine.toml: depth`.

    Raises: UsageError with the value and what was expected.
    """
    axis = get(name)
    if axis.low is not None:
        if isinstance(value, int) and not isinstance(value, bool) and axis.low <= value <= axis.high:
            return value
    elif axis.spelling is not None:
        spelled = axis.spelling(value)
        if spelled is not None:
            return spelled
    elif isinstance(value, str) and value and (not axis.choices or value in axis.choices):
        return value
    raise UsageError(f"{where} {shown(value)}: expected {axis.expected()}")


def shown(value: object) -> str:
    """A wrong value as an error shows it, of at most 60 characters."""
    text = str(value) if isinstance(value, int) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]


def _part(axis: Axis, text: str, where: str) -> tuple[AxisValue, ...]:
    if not axis.numeric:
        return (check(axis.name, text, where),)
    if ":" in text:
        return _span(axis, text, where)
    return (check(axis.name, _number(text), where),)


def _span(axis: Axis, text: str, where: str) -> tuple[AxisValue, ...]:
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10}):([x+])([0-9]{1,10})", text)
    if match is None:
        raise UsageError(f"{where} {text!r}: expected a range such as 4:64:x2 (times 2) or 4:16:+4 (plus 4)")
    first, last, step = int(match[1]), int(match[2]), int(match[4])
    for end in (first, last):
        check(axis.name, end, f"{where} {text!r}: its end")
    if first > last:
        raise UsageError(f"{where} {text!r}: the range is empty; write the smaller end first")
    if match[3] == "x" and (step < 2 or first == 0):
        raise UsageError(f"{where} {text!r}: a range of products needs a start above 0 and a factor above 1")
    if step < 1:
        raise UsageError(f"{where} {text!r}: the step must be at least 1")
    values: list[AxisValue] = []
    value = first
    while value <= last:
        if len(values) == LONGEST:
            raise UsageError(f"{where} {text!r}: more than {LONGEST} values; take a larger step")
        values.append(value)
        value = value * step if match[3] == "x" else value + step
    return tuple(values)


def _number(text: str) -> int | str:
    """`text` as a whole number, or as it is where it is none, for `check` to refuse."""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else text
