"""Which rows of a frame belong into one figure: cases alike in all that the figure does not show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.errors import UsageError
from reports import settings
from reports.frame import AXES
from reports.frame import rows as rows_of
from reports.settings import Row
from reports.verdict import PREFERRED_BITS

SCALES = ("depth", "width", "seq", "batch")
"""The axes along which a figure may run."""
_FOLLOWERS: Mapping[str, tuple[str, ...]] = {"width": ("heads",)}
"""Axes that may vary along with another."""


def comparable(
    rows: Sequence[Row], along: Iterable[str], counts: Callable[[Row], bool], by: Sequence[str]
) -> list[Row]:
    """The rows of one setting: equal in all axes but method, l, seed and those of `along`.

    Of several settings, the one whose rows that `counts` take the most values of `by`, an axis at a time; then
    the deepest, the widest and so on."""
    free = {"method", "bits", "seed", *along, *(name for axis in along for name in _FOLLOWERS.get(axis, ()))}
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(tuple(row[axis] for axis in AXES if axis not in free), []).append(row)

    def worth(members: list[Row]) -> tuple[Any, ...]:
        counted = [row for row in members if counts(row)]
        spread = tuple(len({row[axis] for row in counted}) for axis in by)
        size = tuple(row_size(counted[0] if counted else members[0]))
        return (*spread, len(counted), *size)

    return max(alike.values(), key=worth, default=[])


def row_size(row: Row) -> Iterable[int]:
    """How large a case is, axis by axis."""
    return (row[axis] or 0 for axis in SCALES)


def one_precision(rows: Sequence[Row]) -> list[Row]:
    """The rows with one l a method: 9, else the largest that was measured, else the largest."""
    kept: dict[str, int | None] = {}
    for row in rows:
        kept[row["method"]] = max(
            (row["bits"], kept.get(row["method"])), key=lambda bits: _precision_worth(bits, row["method"], rows)
        )
    return [row for row in rows if row["bits"] == kept[row["method"]]]


def setting(found: Sequence[Row], chosen: Sequence[Row], counts: Callable[[Row], bool]) -> str:
    """What tells the rows `chosen` for a figure from the others that it could have drawn; empty without others."""
    return settings.picked([row for row in chosen if counts(row)], [row for row in found if counts(row)])


def leading_axis(rows: Sequence[Row], counts: Callable[[Row], bool]) -> str:
    """The axis with the most values among comparable rows; where nothing varies, the first that is known at all, or
    depth."""

    def spread(axis: str) -> int:
        found = comparable(rows, [axis], counts, by=[axis])
        return len({row[axis] for row in found if counts(row)} - {None})

    return max(SCALES, key=spread)


def numbers(found: Sequence[Mapping[str, Any]], schema: Mapping[str, str]) -> pd.DataFrame:
    """The plotted numbers as a frame with the columns of `schema`, a nullable dtype each."""
    return pd.DataFrame({name: pd.Series([row[name] for row in found], dtype=kind) for name, kind in schema.items()})


def required(frame: pd.DataFrame, needs: str) -> Sequence[Row]:
    """The rows of plotted numbers, of which there must be some.

    Raises: UsageError with what the figure `needs`."""
    if frame.empty:
        raise UsageError(f"nothing to draw: the figure needs {needs}; measure such cases, or choose another figure")
    return rows_of(frame)


def _precision_worth(bits: int | None, method: str, rows: Sequence[Row]) -> tuple[bool, bool, bool, int]:
    ok = any(row["status"] == "ok" for row in rows if row["method"] == method and row["bits"] == bits)
    return (bits is not None, bits == PREFERRED_BITS and ok, ok, bits or 0)
