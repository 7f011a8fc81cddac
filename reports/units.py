"""The only formatting of numbers: bytes, seconds, rates, ratios, errors.

Bytes are binary: KiB = 2^10, MiB = 2^20, GiB = 2^30. A value that was not measured is an em dash, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench import words

MISSING = "—"
NOT_FINITE = "not finite"
EXACT = "0 (exact)"

BYTE_UNITS: tuple[tuple[str, int], ...] = (
    ("B", 1),
    ("KiB", 2**10),
    ("MiB", 2**20),
    ("GiB", 2**30),
    ("TiB", 2**40),
)
_FACTORS = dict(BYTE_UNITS)


@dataclass(frozen=True)
class ByteScale:
    """One unit and one number of decimals for a whole column or axis of byte counts."""

    unit: str
    decimals: int

    @property
    def factor(self) -> int:
        """Bytes in one unit."""
        return _FACTORS[self.unit]

    @classmethod
    def of(cls, values: Iterable[int | None]) -> ByteScale:
        """The unit in which the smallest of `values` above 0 is at least 1 and the largest below 100,000; bytes where
        none is above 0."""
        sizes = [value for value in values if value]
        if not sizes:
            return cls("B", 0)
        smallest, largest = min(sizes), max(sizes)
        unit = _unit_of(smallest)
        for name, factor in BYTE_UNITS:
            if factor >= _FACTORS[unit] and largest / factor < 100_000:
                unit = name
                break
        if unit == "B":
            return cls("B", 0)
        least = smallest / _FACTORS[unit]
        return cls(unit, 1 if least >= 9.995 else 2 if least >= 0.0995 else 3)

    @classmethod
    def of_sums(cls, sums: Iterable[int | None], terms: Iterable[int]) -> ByteScale:
        """The unit of `sums`, with the decimals that the smallest of `terms` needs: two or three, but for whole bytes.
        Terms of less than a ten-thousandth of the largest sum need none."""
        totals = [total for total in sums if total]
        scale = cls.of(totals)
        least = max(totals, default=0) / 10_000
        small = min((abs(term) for term in terms if abs(term) >= max(1, least)), default=scale.factor)
        decimals = 2 if small >= 0.0995 * scale.factor else 3
        return cls(scale.unit, 0 if scale.unit == "B" else max(scale.decimals, decimals))

    def number(self, value: int | None) -> str:
        """`value` in this scale, without the unit; `<0.01` for what would round to nothing."""
        if value is None:
            return MISSING
        if value == 0:
            return "0"
        text = f"{value / self.factor:.{self.decimals}f}"
        return text if float(text) else f"{'-' if value < 0 else ''}<{10.0**-self.decimals:.{self.decimals}f}"


def size(value: int | None) -> str:
    """A count of bytes with its unit: `512 B`, `12.3 MiB`."""
    if value is None:
        return MISSING
    unit = _unit_of(value)
    return f"{value} B" if unit == "B" else f"{value / _FACTORS[unit]:.1f} {unit}"


def seconds(value: float | None) -> str:
    """A duration: `820 µs`, `41.3 ms`, `2.31 s`, `3 min 05 s`, `2 h 04 min`."""
    if value is None:
        return MISSING
    if value == 0:
        return "0 s"
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.3g} ms" if value < 0.9995 else "1.00 s"
    if value < 59.995:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rate(value: float | None) -> str:
    """A rate per second, without its unit: `41.2`, `2,778`, `12.3k`, `1.20M`."""
    if value is None:
        return MISSING
    if value < 99.95:
        return f"{value:.3g}"
    if value < 9999.5:
        return f"{value:,.0f}"
    scaled, letter = (value / 1e3, "k") if value < 999_500 else (value / 1e6, "M")
    return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{letter}"


def ratio(value: float | None) -> str:
    """A ratio: `0.040×`, `0.78×`, `25.2×`."""
    if value is None:
        return MISSING
    if value == 0:
        return "0×"
    if value < 0.001:
        return f"{_scientific(value)}×"
    decimals = 3 if value < 0.0995 else 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}×"


def change(old: int | None, new: int | None) -> str:
    """From one count to another, in percent: `+1.25%`, `-0.40%`; `=` only where they are equal."""
    if old is None or new is None:
        return MISSING
    if old == new:
        return "="
    if old == 0:
        return "+∞%"
    percent = 100 * (new - old) / old
    if abs(percent) < 0.005:
        return "+<0.01%" if percent > 0 else "-<0.01%"
    return f"{percent:+.2f}%" if abs(percent) < 99.95 else f"{percent:+,.0f}%"


def added(value: int) -> str:
    """By how many bytes more, or fewer: `+12 B`, `-4,096 B`."""
    return f"{value:+,} B"


def percent(share: float | None) -> str:
    """A share of a whole, as a percentage: `12.5%`, `100.0%`, `-3.1%`."""
    return MISSING if share is None else f"{100 * share:.1f}%"


def plus_minus(mean: float | None, deviation: float | None, decimals: int) -> str:
    """A mean over seeds and its sample deviation: `97.21 ± 0.34`, and `97.21 ± —` where a single seed has none. There
    are more decimals where the deviation would round to nothing."""
    if mean is None:
        return MISSING
    if deviation is None:
        return f"{mean:.{decimals}f} ± {MISSING}"
    if deviation == 0:
        return f"{mean:.{decimals}f} ± 0"
    shown = min(8, max(decimals, math.ceil(-math.log10(deviation))))
    return f"{mean:.{shown}f} ± {deviation:.{shown}f}"


def signed(value: float | None, decimals: int) -> str:
    """By how much more or less: `+0.95`, `−0.0012`, and `0` where it is the same. There are more decimals where it
    would round to nothing."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    shown = min(8, max(decimals, math.ceil(-math.log10(abs(value)))))
    return f"{value:+.{shown}f}".replace("-", "−")


def probability(value: float | None) -> str:
    """A p-value: `0.62`, `0.031`, `<0.001`."""
    if value is None:
        return MISSING
    if value < 0.001:
        return "<0.001"
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.3f}"


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals: `88.15`."""
    return MISSING if value is None else f"{value:,.{decimals}f}".replace("-", "−")


def error(value: float | None) -> str:
    """A reconstruction or gradient error: an exact zero is `0 (exact)`, anything else like `2.1e-3`."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return NOT_FINITE
    return EXACT if value == 0 else _scientific(value)


def difference(value: float | None) -> str:
    """How far one loss is from another: `+0.049`, `-3.1e-5`, and `0` where they are the same."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    if abs(value) < 0.0005:
        return f"{'+' if value > 0 else '-'}{_scientific(abs(value))}"
    return f"{value:+.3f}"


def error_range(low: float, high: float) -> str:
    """The range of an error over seeds: `1.8e-3–2.6e-3`, with an exact zero as plain `0`."""
    return "–".join("0" if value == 0 else _scientific(value) for value in (low, high))


def bits(value: float | None) -> str:
    """Bits per activation: `1.03`, `32.1`, `412`."""
    if value is None:
        return MISSING
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    # The slope of a method that keeps nothing per block may come out a hair below zero: `z` drops its sign.
    return f"{value:z.{decimals}f}"


def rounding(value: float | None) -> str:
    """A rounding error in units of 2^-l: `0.5`, `0.5004`, `1`."""
    return MISSING if value is None else f"{value:.4g}"


def cases(count: int) -> str:
    """How many cases: `1 case`, `12 cases`."""
    return words.counted(count, "case")


def slope(value: float | None) -> str:
    """A slope in log2 per block: `1.05`."""
    return MISSING if value is None else f"{value:.2f}"


def slope_range(low: float, high: float) -> str:
    """The range of a slope over seeds: `0.98–1.07`."""
    return f"{low:.2f}–{high:.2f}"


def integer(value: int | None) -> str:
    """An integer, with separators from five digits on: `50,304`, `1024`."""
    if value is None:
        return MISSING
    return f"{value:,}" if abs(value) >= 10_000 else str(value)


def plain(value: float | None) -> str:
    """A raw number for people to read, in the record's own unit: `27,366,408`, `0.641975`, `2.1e-07`."""
    if value is None:
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def power_of_ten(exponent: int) -> str:
    """A decade at an axis: `10⁻⁴`."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def values(numbers: Sequence[int]) -> str:
    """Several integers: `6, 12, 24`, and of many the ends and how many they are, `4–64 (16)`."""
    if len(numbers) <= 4:
        return ", ".join(map(integer, numbers))
    return f"{integer(numbers[0])}–{integer(numbers[-1])} ({len(numbers)})"


def tick(value: float) -> str:
    """A number at an axis, with no more digits than it takes: `0.5`, `20`, `1,000`."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"


def yes_no(value: bool | None) -> str:
    """`yes`, `no`, or an em dash where it was not measured."""
    return MISSING if value is None else "yes" if value else "no"


def _unit_of(value: float) -> str:
    """The largest unit that leaves at least 1, after rounding to one decimal."""
    return next((name for name, factor in reversed(BYTE_UNITS) if value >= 0.99995 * factor), "B")


def _scientific(value: float) -> str:
    """Two significant digits, with an exponent without padding where it is needed: `2.1e-3`, `0.21`, `3.6`."""
    if 0.0995 <= value < 999.5:
        return f"{value:.2g}" if value < 99.5 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
