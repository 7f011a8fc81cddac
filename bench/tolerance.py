"""What is compared between two runs, and how far two values may lie apart and still count as the same.

Bytes are compared exactly unless a tolerance says otherwise. It comes from a suite's file or the command line, each
metric's in its own unit:

    [tolerance]
    activation_bytes = "0.5%"        # or bytes, as peak_bytes = "64KiB"
    bits_per_activation = "0.02"     # bits; likewise rounding_error, in units of 2^-l
    gradient_error = "10x"           # a factor
    rate_ratio = "20%"

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal, get_args

from bench.axes import shown, suggest
from bench.errors import UsageError

Metric = Literal[
    "activation_bytes",
    "peak_bytes",
    "side_bytes",
    "bits_per_activation",
    "bit_exact",
    "gradient_error",
    "rounding_error",
    "rate_ratio",
]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
"""What is compared. Less is better but for `bit_exact` and `rate_ratio`."""
BYTES: Final[tuple[Metric, ...]] = ("activation_bytes", "peak_bytes", "side_bytes")
"""The method's own memory, a whole step's, the side information."""

_UNITS: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_NUMBER: Final = re.compile(r"(?P<number>\d{1,18}(?:\.\d{1,18})?)\s*(?P<unit>%|[A-Za-z]*)", re.ASCII)
_OF_BYTES: Final = "a share such as 0.5%, or bytes such as 64KiB; 0 for the same bytes"


@dataclass(frozen=True)
class Tolerance:
    """How far two values may lie apart and still be the same: the larger of a share of the old one and an absolute
    distance or, where there is a factor, anything up to that many times the other. Exact arithmetic: nothing hangs on
    a rounding."""

    share: Fraction = Fraction(0)
    absolute: Fraction = Fraction(0)
    factor: Fraction | None = None
    """0 times anything is 0: an exact 0 is the same as nothing but another."""

    def allows(self, old: int | float | Fraction, new: int | float | Fraction) -> bool:
        """Whether `new` counts as `old`."""
        if old == new:
            return True
        was, now = _as_written(old), _as_written(new)
        if self.factor is not None:
            return now <= self.factor * was and was <= self.factor * now
        return abs(now - was) <= max(self.share * was, self.absolute)


EXACT: Final = Tolerance()
DEFAULTS: Final[Mapping[Metric, Tolerance]] = {
    "bits_per_activation": Tolerance(absolute=Fraction(5, 100)),
    "gradient_error": Tolerance(factor=Fraction(10)),
    "rounding_error": Tolerance(absolute=Fraction(5, 100)),
    "rate_ratio": Tolerance(share=Fraction(20, 100)),
}
"""Of what is not exact by nature; everything else has to be the same.

Where the law's slope is off by more than 0.05 bits, a block keeps something new: a tensor of the stream is 32. What
errors there are beside 0 come from rounding, which differs between processors."""


@dataclass(frozen=True)
class Tolerances:
    """A tolerance for every metric: the ones given, and `DEFAULTS` for the rest."""

    given: Mapping[Metric, Tolerance] = field(default_factory=dict)

    def of(self, metric: Metric) -> Tolerance:
        """That of one metric."""
        found = self.given.get(metric)
        return DEFAULTS.get(metric, EXACT) if found is None else found

    def overlaid(self, words: Iterable[str]) -> Tolerances:
        """These, with those of the command line laid over them in turn: `METRIC=VALUE`, or a value for all bytes.

        Raises: UsageError for a metric that is none, and a value that is none of its metric.
        """
        given = dict(self.given)
        for word in words:
            name, equals, text = word.partition("=")
            if equals:
                metric = _metric(name.strip(), f"--tolerance {word!r}")
                given[metric] = parse(metric, text, f"--tolerance {word!r}")
            else:
                given |= dict.fromkeys(BYTES, _of_bytes(word, f"--tolerance {word!r}"))
        return Tolerances(given)


def checked(word: str) -> str:
    """A word of the command line, as it is.

    Raises: UsageError where it gives no tolerance.
    """
    Tolerances().overlaid([word])
    return word


def of_table(table: Mapping[str, str]) -> Tolerances:
    """The tolerances of a suite's table, as `texts` has it, or of what `run.json` remembers of it.

    Raises: UsageError as `parse` does.
    """
    return Tolerances({_metric(name, "tolerance"): parse(_metric(name, "tolerance"), table[name]) for name in table})


def texts(table: Mapping[str, object], where: str) -> dict[str, str]:
    """A suite's table in the order of `METRICS`, its values as text. `where` begins the errors.

    Raises: UsageError for a metric that is none, and a value that is none of its metric.
    """
    read: dict[Metric, str] = {}
    for name, value in table.items():
        metric = _metric(name, where)
        plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        parse(metric, str(value) if plain else "", f"{where}: {name} {shown(value)}")
        read[metric] = str(value)
    return {metric: read[metric] for metric in METRICS if metric in read}


def parse(metric: Metric, text: str, where: str | None = None) -> Tolerance:
    """The tolerance that `text` means for `metric`. `where` begins the error, `tolerance METRIC 'TEXT'` unless given.

    Raises: UsageError where it means none.
    """
    where = f"tolerance {metric} {text!r}" if where is None else where
    if metric in BYTES:
        return _of_bytes(text, where)
    if metric == "bit_exact":
        raise UsageError(f"{where}: bits are exact or they are not, there is no tolerance; leave it out")
    number, unit = _parts(text)
    if metric == "gradient_error":
        if number is not None and unit in ("x", "X") and number >= 1:
            return Tolerance(factor=number)
        raise UsageError(f"{where}: expected a factor of 1 or more such as 10x, beyond which an error has grown")
    if metric == "rate_ratio":
        if number is not None and unit == "%":
            return Tolerance(share=number / 100)
        raise UsageError(f"{where}: expected a share such as 20%")
    if number is not None and unit == "":
        return Tolerance(absolute=number)
    what = "bits an activation" if metric == "bits_per_activation" else "units of 2^-l"
    raise UsageError(f"{where}: expected a number of {what} such as 0.05")


def _as_written(value: int | float | Fraction) -> Fraction:
    """A float as the decimal number that files and tables have of it: 0.55 is 0.05 from 0.5, and no hair more."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _of_bytes(text: str, where: str) -> Tolerance:
    number, unit = _parts(text)
    if number is not None and unit == "%":
        return Tolerance(share=number / 100)
    if number is not None and unit in _UNITS:
        return Tolerance(absolute=Fraction(int(number * _UNITS[unit])))
    raise UsageError(f"{where}: expected {_OF_BYTES}")


def _parts(text: str) -> tuple[Fraction | None, str]:
    match = _NUMBER.fullmatch(text.strip())
    return (None, "") if match is None else (Fraction(match["number"]), match["unit"])


def _metric(name: str, where: str) -> Metric:
    for metric in METRICS:
        if name == metric:
            return metric
    raise UsageError(f"{where}: unknown metric {name!r}{suggest(name, METRICS)}")
