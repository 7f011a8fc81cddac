"""The search for the largest value that fits: which to probe next. Pure, and no torch.

Memory is about a line in batch and in depth, so two small probes tell where the limit should be. That is a guess: what
is believed is a value that was measured to fit with the next one measured not to. All that was measured to fit lies
below all that was measured not to, whatever the function, so a bracket that closes has shown both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_PROBES: Final = 12
"""Within which a search ends, closed or not."""
FIRST_STRIDE: Final = 4
"""The second probe is so many times the first: far enough for a slope, and still small."""
GROWTH: Final = 8
"""No probe is more than so many times the largest that fits: a line through small cases may miss what takes over in
larger ones, and a guess far beyond the limit takes long to fail."""

PATIENCE: Final = 2
"""After so many probes near one end, each twice as far from it as the last, the guess is not believed any more."""


@dataclass(frozen=True)
class Reading:
    """What a probe found of one value."""

    fits: bool
    bytes: int | None = None
    """What is held to the limit; None where it ran out before that could be read."""
    level: int | None = None
    """Another figure, whose growth foretells that of `bytes` where something else is the largest as yet: of a small
    batch the optimiser's step is the highest moment, and says nothing of the activations."""


class Search:
    """Looks for the largest multiple of `step` that fits `limit` bytes, from `low` up to `most`.

    Ask `next` for a value, probe it, `tell` what came of it, until `next` is None.
    """

    def __init__(self, limit: int, *, low: int, step: int = 1, most: int, probes: int = MOST_PROBES) -> None:
        """Raises: ValueError unless `low` is a multiple of `step` from 1 step to `most`."""
        if step < 1 or low < step or low % step or low > most:
            raise ValueError(f"low={low}, step={step}, most={most}: expected a multiple of step, of at most most")
        self._limit = limit
        self._step = step
        self._low, self._most = low // step, most // step
        self._probes = probes
        self._readings: dict[int, Reading] = {}
        self._used = 0
        self._near = 0
        """Probes in a row that were next to an end of the bracket, and moved it."""

    @property
    def used(self) -> int:
        """How many probes were told of."""
        return self._used

    @property
    def largest(self) -> int | None:
        """The largest value that fits, as far as is known."""
        lo = self._lo
        return None if lo is None else lo * self._step

    @property
    def beyond(self) -> int | None:
        """The smallest value that does not fit, as far as is known."""
        hi = self._hi
        return None if hi is None else hi * self._step

    @property
    def closed(self) -> bool:
        """Whether the largest value is known to one step: it fits, and the next does not or is not allowed. Also where
        the first did not fit."""
        lo, hi = self._lo, self._hi
        return hi == self._low or (lo is not None and (lo == self._most or hi == lo + 1))

    @property
    def flat(self) -> bool:
        """Whether three different values took the same bytes throughout: what was varied has no say."""
        found = [(one.bytes, one.level) for one in self._readings.values() if one.fits and one.level is not None]
        return len(found) > 2 and len(set(found)) == 1

    def next(self) -> int | None:
        """The value to probe next; None where nothing is left to know, or no probe."""
        if self.closed or self.flat or self._used >= self._probes:
            return None
        return self._choice() * self._step

    def tell(self, value: int, reading: Reading) -> None:
        """What a probe of `value` found. A value that was told to fit may be told later not to."""
        number = value // self._step
        lo, hi = self._lo, self._hi
        beside_lo = lo is not None and number == lo + self._stride
        beside_hi = hi is not None and number == hi - self._stride
        moved = (reading.fits and beside_lo) or (not reading.fits and beside_hi)
        self._near = self._near + 1 if moved else 0
        self._used += number not in self._readings
        self._readings[number] = reading

    @property
    def _stride(self) -> int:
        """How far from an end of the bracket to look, once a guess was beyond it."""
        return 1 << self._near

    @property
    def _hi(self) -> int | None:
        return min((number for number, one in self._readings.items() if not one.fits), default=None)

    @property
    def _lo(self) -> int | None:
        # Below all that does not fit: where more turns out to fit than less, the lower end counts.
        hi = self._hi
        fitting = (number for number, one in self._readings.items() if one.fits and (hi is None or number < hi))
        return max(fitting, default=None)

    def _choice(self) -> int:
        lo, hi = self._lo, self._hi
        if lo is None:
            return self._low
        if hi is None:
            top = min(self._most, max(lo * GROWTH, lo + 1))
            guess = self._guess(lo, None)
            if guess is None:
                return min(lo * FIRST_STRIDE if lo == self._low else top, top)
            return min(max(guess, lo + self._stride), top)
        choice, half = self._between(lo, hi), 1 << (self._probes - self._used - 1)
        # Never so near to an end that what is left could not be halved to one step by the probes that are left.
        return max(hi - half, min(choice, lo + half)) if hi - lo <= 2 * half else choice

    def _between(self, lo: int, hi: int) -> int:
        middle = (lo + hi) // 2
        guess = None if self._near > PATIENCE else self._guess(lo, hi)
        if guess is None:
            return middle
        if guess <= lo:  # then the next one should not fit
            return min(lo + self._stride, max(middle, lo + 1))
        if guess >= hi:  # and here the one below should
            return max(hi - self._stride, min(middle + 1, hi - 1))
        return guess

    def _guess(self, lo: int, hi: int | None) -> int | None:
        """The largest that should fit, by a curve through what was read; None where there is none to draw, or it does
        not rise."""
        at = self._readings[lo]
        over = None if hi is None else self._readings[hi].bytes
        below = [number for number, one in self._readings.items() if number < lo and one.bytes is not None]
        if at.bytes is None or (not below and over is None):
            return None
        # Not from a close neighbour: over a step or two, a slope is mostly the allocator's rounding.
        far = max((number for number in below if 4 * number <= 3 * lo), default=min(below, default=None))
        points = [(lo, at.bytes)]
        if hi is not None and over is not None:
            points.append((hi, over))
        if far is not None:
            points += self._points("bytes", far)
            rise = _slope(*points[-1], lo, at.bytes)
            levels = self._points("level", far, lo)
            if len(levels) == 2 and over is None and 2 * rise < _slope(*levels[0], *levels[1]):
                # What will be the highest moment, and is not yet: by how much less than the level, is not known.
                return None if hi is not None else max(_crossing(levels[::-1], self._limit) or lo, lo + (lo + 1) // 2)
        if len(points) < 3 and far is not None:
            points += self._points("bytes", *sorted(number for number in below if 4 * number <= 3 * far)[-1:])
        return _crossing(points, self._limit)

    def _points(self, figure: str, *numbers: int) -> list[tuple[int, int]]:
        found = ((number, getattr(self._readings[number], figure)) for number in numbers)
        return [(number, value) for number, value in found if value is not None]


def _slope(x: int, y: int, other_x: int, other_y: int) -> float:
    return (other_y - y) / (other_x - x)


def _crossing(points: Sequence[tuple[int, int]], height: int) -> int | None:
    """The last whole number at which a curve through the points has not passed `height`: a line through the first two
    or, where a third says that it bends upwards (attention does, in tokens), a parabola. None where it does not rise
    there."""
    (x0, y0), (x1, y1), *rest = points
    slope = _slope(x0, y0, x1, y1)
    bend = (_slope(x1, y1, *rest[0]) - slope) / (rest[0][0] - x0) if rest else 0.0
    # y0 + slope (x - x0) + bend (x - x0) (x - x1) = height, of x - x0
    linear = slope - bend * (x1 - x0)
    if bend > 0 and (root := linear**2 + 4 * bend * (height - y0)) >= 0 and linear + math.sqrt(root) > 0:
        return x0 + math.floor(2 * (height - y0) / (linear + math.sqrt(root)))
    return None if slope <= 0 else x0 + math.floor((height - y0) / slope)
