"""From axes to points of the grid: products of factors, laid over one another.

A grid is a list of factors. A factor is one axis with its values, or several axes that move together
(zipped): `width, heads = (128, 4), (256, 8)` is one factor of two rows. The points are the product of the
factors. Layers of a suite (defaults, device, cases, command line) are laid over one another.
Imports no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench import axes
from bench.axes import AxisValue
from bench.errors import UsageError

ORDER: Final = (
    "model", "dtype", "device", "width", "heads", "seq", "batch", "vocab", "depth", "train_steps", "seed",
    "loss_chunks", "method", "bits", "gamma", "micro_batches", "keep", "accumulate",
)  # fmt: skip
"""The slowest axis first, so that the points that differ only in the method and what is its own are neighbours."""


@dataclass(frozen=True)
class Factor:
    """One axis, or several zipped. `rows` has a value for each of `names`, in their order."""

    names: tuple[str, ...]
    rows: tuple[tuple[AxisValue, ...], ...]


Grid = tuple[Factor, ...]
"""Factors that share no axis."""


def single(name: str, values: Sequence[AxisValue]) -> Factor:
    """The factor of one axis."""
    return Factor((name,), tuple((value,) for value in values))


def overlay(below: Grid, above: Grid, where: str) -> Grid:
    """`above` laid over `below`: its axes replace those below.

    Axes zipped below stay together. Where `above` gives all of them as single axes, they are zipped anew;
    where it gives only some, the rows below that have those values are kept, so that `--width 256` finds its
    heads. `where` begins the errors.

    Raises: UsageError where zipped axes come in different numbers, or a row cannot be found.
    """
    kept: list[Factor] = []
    above_left = list(above)
    for factor in below:
        hits = [over for over in above_left if set(over.names) & set(factor.names)]
        covered = {name for over in hits for name in over.names}
        if not hits:
            kept.append(factor)
        elif len(factor.names) == 1 or any(len(over.names) > 1 for over in hits):
            if not set(factor.names) <= covered:
                raise _apart(factor, covered, where)
        else:
            above_left = [over for over in above_left if over not in hits]
            merged = _rezip(factor, hits, where) if len(hits) == len(factor.names) else _pick(factor, hits, where)
            kept.append(merged)
    return tuple(kept) + tuple(above_left)


def points(grid: Grid) -> Iterator[dict[str, AxisValue]]:
    """Every point of the grid, as values by axis, in the order of `ORDER`."""
    factors = sorted(grid, key=lambda factor: min(ORDER.index(name) for name in factor.names))
    for rows in itertools.product(*(factor.rows for factor in factors)):
        point: dict[str, AxisValue] = {}
        for factor, row in zip(factors, rows, strict=True):
            point.update(zip(factor.names, row, strict=True))
        yield point


def values(name: str, grid: Grid) -> tuple[AxisValue, ...]:
    """The values that one axis takes in the grid; none where it has no factor."""
    return tuple(row[factor.names.index(name)] for factor in grid if name in factor.names for row in factor.rows)


def zipped(columns: dict[str, tuple[AxisValue, ...]], where: str) -> Factor:
    """The factor of axes that move together; an axis of one value serves every row.

    Raises: UsageError where the axes have different numbers of values.
    """
    longest = max(len(values) for values in columns.values())
    filled = {name: values * longest if len(values) == 1 else values for name, values in columns.items()}
    if any(len(values) != longest for values in filled.values()):
        counts = ", ".join(f"{name} has {len(values)}" for name, values in columns.items())
        raise UsageError(f"{where}: {counts} values, but they move together; give as many of each, or one")
    return Factor(tuple(filled), tuple(dict.fromkeys(zip(*filled.values(), strict=True))))


def _rezip(factor: Factor, hits: list[Factor], where: str) -> Factor:
    columns = {over.names[0]: tuple(row[0] for row in over.rows) for over in hits}
    return zipped({name: columns[name] for name in factor.names}, where)


def _pick(factor: Factor, hits: list[Factor], where: str) -> Factor:
    """The rows of `factor` that have the values of `hits`, in the order of the values."""
    rows: dict[tuple[AxisValue, ...], None] = {}
    for wanted in itertools.product(*(over.rows for over in hits)):
        names = [over.names[0] for over in hits]
        values = [row[0] for row in wanted]
        found = [
            row for row in factor.rows
            if all(row[factor.names.index(name)] == value for name, value in zip(names, values, strict=True))
        ]  # fmt: skip
        if not found:
            raise _apart(factor, set(names), where, dict(zip(names, values, strict=True)))
        rows.update(dict.fromkeys(found))
    return Factor(factor.names, tuple(rows))


def _apart(factor: Factor, given: set[str], where: str, values: dict[str, AxisValue] | None = None) -> UsageError:
    """The error for axes pulled out of a zip."""
    lacking = " and ".join(axes.get(name).option for name in factor.names if name not in given)
    together = " and ".join(factor.names)
    shown = ", ".join(f"{name} {value}" for name, value in (values or {}).items()) or ", ".join(sorted(given))
    rows = "; ".join(" ".join(str(value) for value in row) for row in factor.rows)
    return UsageError(f"{where}: {shown}: {together} move together here ({rows}); give {lacking} as well")
