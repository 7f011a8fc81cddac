"""The memory law: activation_bytes = a + b·depth of each method, and how far b is from its floor. Imports no torch.

Bytes are exact, so the fit is too: least squares over integers, in fractions. `b` is also given in bits for each
element of the residual stream and block, the unit in which its floors are known.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import msgspec

from bdia import distributions
from bdia.methods import CHECKPOINT, METHODS
from bench import models
from bench.case import Case

DEVIATION_BITS: Final = Fraction(1, 100)
"""How far a point may lie off the line: a share of what the blocks add or, if more, of one bit an activation each."""
WIDTHS: Final = {"float32": 32, "bfloat16": 16, "float16": 16}


_BUT_THE_DEPTH = operator.attrgetter(*(axis for axis in Case.__struct_fields__ if axis != "depth"))


class Measured(Protocol):
    """What a law is fitted to: a record, or an entry of a baseline."""

    @property
    def activation_bytes(self) -> int | None: ...
    @property
    def stream_elements(self) -> int | None: ...
    @property
    def stream_dtype(self) -> str | None: ...
    def case(self) -> Case:
        """The case it is of."""


@dataclass(frozen=True)
class Law:
    """What one method keeps against depth, all other axes being equal."""

    series: Case
    """The case of the points, with `depth` None."""
    depths: tuple[int, ...]
    intercept_bytes: Fraction
    """a."""
    slope_bytes: Fraction
    """b, for each block."""
    deviation_bytes: Fraction
    """The largest distance of a point from the line."""
    stream_elements: int
    """B·T·D; on average over the blocks where x has several sizes."""
    floor_bits: int | None
    """What b cannot fall below in bits an activation: the side bits of an exactly reversible method, the stream's own
    width for one that keeps each block's input, 0 for one that keeps nothing; None where it depends on the block, or on
    the stage."""

    @property
    def bits_per_activation(self) -> float:
        """b, in bits for each element of the stream and block."""
        return float(self.slope_bytes * 8 / self.stream_elements)

    @property
    def deviation(self) -> float:
        """The largest distance of a point from the line, in bits an activation and block, over the depths spanned."""
        span = self.depths[-1] - self.depths[0]
        return float(self.deviation_bytes * 8 / self.stream_elements / span)

    @property
    def linear(self) -> bool | None:
        """Whether the points lie on a line; None for two points, which always do."""
        if len(self.depths) < 3:
            return None
        span = self.depths[-1] - self.depths[0]
        scale = max(abs(self.slope_bytes), Fraction(self.stream_elements, 8))
        return self.deviation_bytes <= DEVIATION_BITS * scale * span


def laws(measured: Iterable[Measured]) -> list[Law]:
    """A law for each set of cases equal in all but depth, of two or more depths, in the order of their first case."""
    found: dict[tuple[object, ...], tuple[Case, dict[int, Measured]]] = {}
    for one in measured:
        if one.activation_bytes is None or not one.stream_elements:
            continue
        case = one.case()
        if case.depth is not None:
            _, points = found.setdefault(_BUT_THE_DEPTH(case), (case, {}))
            points[case.depth] = one
    return [_fit(series(case), points) for case, points in found.values() if len(points) > 1]


def series(case: Case) -> Case:
    """The case with `depth` None: what the cases of one law share."""
    return msgspec.structs.replace(case, depth=None)


def floor_bits(case: Case, stream_dtype: str | None) -> int | None:
    """The least that a method can keep of each activation, in bits, from what it is; None where it depends on the
    block or the stage, or the method is not of the table."""
    method = next((one for one in METHODS if one.name == case.method), None)
    if method is None:
        return None
    if method.reversible and (not method.quantised or case.gamma is None):
        return 0
    model = models.of_table(case.model)
    if model is not None and model.staged:
        return None
    if method.strategy == CHECKPOINT:
        return WIDTHS.get(stream_dtype or "")
    return None if not method.reversible else distributions.side_bits(distributions.parse(case.gamma))


def _fit(series: Case, points: Mapping[int, Measured]) -> Law:
    depths = sorted(points)
    sizes = [points[depth].activation_bytes or 0 for depth in depths]
    count, sum_depth, sum_size = len(points), sum(depths), sum(sizes)
    # Slope and intercept over one denominator each: whole numbers up to here, fractions only of the results.
    below = count * sum(depth * depth for depth in depths) - sum_depth**2
    slope = count * sum(depth * size for depth, size in zip(depths, sizes, strict=True)) - sum_depth * sum_size
    intercept = sum_size * below - slope * sum_depth
    deviation = max(
        abs(count * below * size - intercept - count * slope * depth) for depth, size in zip(depths, sizes, strict=True)
    )
    last = points[depths[-1]]
    assert last.stream_elements is not None
    return Law(
        series=series,
        depths=tuple(depths),
        intercept_bytes=Fraction(intercept, count * below),
        slope_bytes=Fraction(slope, below),
        deviation_bytes=Fraction(deviation, count * below),
        stream_elements=last.stream_elements,
        floor_bits=floor_bits(series, last.stream_dtype),
    )
