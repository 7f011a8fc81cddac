"""Which axes of a set of cases vary, which are the same throughout, and how to say so."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import gamma
from bench.case import METHOD_AXES, WHOLE, Case
from reports import units

Row = Mapping[str, Any]

_AXES: tuple[str, ...] = Case.__struct_fields__
NAMES: Mapping[str, str] = {
    "bits": "l", "gamma": "γ", "train_steps": "train steps", "micro_batches": "micro-batches",
    "loss_chunks": "loss chunks",
}  # fmt: skip
"""What an axis is called in print, where that is not its name."""
_UNSAID: Mapping[str, Any] = {"gamma": gamma.DEFAULT, **WHOLE}
"""What goes without saying: the paper's γ, and nothing cut into parts."""
_TIED: Mapping[str, str] = {"heads": "width"}
"""An axis that says nothing of its own where it follows from another."""


def name_of(axis: str) -> str:
    """The axis as a column's heading."""
    return NAMES.get(axis, axis)


def varying(rows: Sequence[Row], *, leave_out: Iterable[str] = ("method",)) -> tuple[str, ...]:
    """The axes with more than one value. Null counts only against nothing: `standard` has no l, and l is no
    varying axis for that. Heads that follow from the width are left out."""
    skipped = set(leave_out)
    found = [axis for axis in _AXES if axis not in skipped and len(_values(rows, axis)) > 1]
    return tuple(axis for axis in found if not _follows(axis, found, rows))


def of_the_method(rows: Sequence[Row]) -> tuple[str, ...]:
    """Of the method's own axes, l and γ, those that vary. Arms have tables and figures of their own."""
    return varying(rows, leave_out=("method", "arm", *(axis for axis in _AXES if axis not in METHOD_AXES)))


def constants(rows: Sequence[Row]) -> dict[str, Any]:
    """The axes with one value throughout, and that value."""
    values = {axis: _values(rows, axis) for axis in _AXES if axis != "method"}
    return {axis: found.pop() for axis, found in values.items() if len(found) == 1}


def values(row: Row, axes: Iterable[str]) -> list[str]:
    """The row's values on `axes`, each with the name of its axis: `depth 24`, `model vit`, `l 9`."""
    return [
        f"{name_of(axis)} {units.integer(row[axis]) if isinstance(row[axis], int) else row[axis]}"
        for axis in axes
        if row.get(axis) is not None
    ]


def sentence(rows: Sequence[Row]) -> str:
    """What holds for every row, as a line above a table: `gpt · depth 12 · width 256 · … · fp32 · cpu`. Some things
    go without saying; that what is rebuilt was verified does not, as it has a cost, nor that figures are
    predicted."""
    held = constants(rows)
    for axis, value in _UNSAID.items():
        if held.get(axis) == value:
            del held[axis]
    verified = ["verified"] if any(row.get("verify") for row in rows) else []
    predicted = ["predicted"] if any(row.get("predicted") for row in rows) else []
    return " · ".join([*(_phrase(axis, value) for axis, value in held.items()), *verified, *predicted])


def fixed(rows: Sequence[Row]) -> tuple[str, ...]:
    """The axes with one value or none: those that tell no row from another."""
    return tuple(axis for axis in _AXES if len(_values(rows, axis)) < 2)


def picked(chosen: Sequence[Row], found: Sequence[Row], fixed: Iterable[str] = ()) -> str:
    """What tells `chosen`, the rows of one setting, from the others of `found`: `model vit, seed 0`. Empty where
    nothing was left out. Axes that are known to be `fixed` over all of them are not looked at."""
    skipped = ("method", *fixed)
    kept = varying(chosen, leave_out=skipped)
    told = [axis for axis in varying(found, leave_out=skipped) if axis not in kept]
    return ", ".join(values(constants(chosen), told))


def which(row: Row, axes: Iterable[str]) -> str:
    """One case among others: its method and the axes that tell it apart, such as `bdia depth=24`."""
    told = [f"{name_of(axis)}={row[axis]}" for axis in axes if row[axis] is not None]
    return " ".join([row["method"], *told])


def _values(rows: Sequence[Row], axis: str) -> set[Any]:
    return set(map(operator.itemgetter(axis), rows)) - {None}


def _phrase(axis: str, value: Any) -> str:
    if axis in ("model", "dtype", "device"):
        return str(value)
    if axis == "train_steps":
        return "initial weights" if value == 0 else f"after {units.integer(value)} train steps"
    return f"{name_of(axis)} {units.integer(value) if isinstance(value, int) else value}"


def _follows(axis: str, found: Iterable[str], rows: Sequence[Row]) -> bool:
    leader = _TIED.get(axis)
    if leader is None or leader not in found:
        return False
    pairs = {(row[leader], row[axis]) for row in rows}
    return len(pairs) == len({lead for lead, _ in pairs})
