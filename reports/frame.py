"""Records to one tidy pandas frame: a row a case, its axes, what was measured, and what follows from it.

Nulls stay null (`pd.NA`), never 0 or NaN: columns have pandas' nullable dtypes. Beside the record's fields:

    group                    cases that differ only in method, bits and gamma share a number
    activation_ratio         activation_bytes over that of `standard` in the same group, of the whole batch at once
    step_seconds_median
    rate_ratio               median over paired rounds of standard's step_seconds[i] / this step_seconds[i]
    rate_ratio_low, _high    the smallest and the largest of those paired ratios
    first_max_abs_error      max_abs_error of the lowest block, where eq. 16 is worst
    worst_max_abs_error      the largest max_abs_error of all blocks; null where one is not finite
    reconstruction_finite    false where a block's error is not finite
    mismatched               elements that differ, over all blocks
    error_doublings          -log2 slope of max_abs_error against the block, over blocks where it is above 0
    bits_per_activation      slope of activation_bytes against depth, in bits an element of the stream (`bench.law`)
    law_linear               whether it is a line at all; null for two depths, which always make one
    law_intercept_bytes      the law's a, and law_slope_bytes its b, in activation_bytes = a + b·depth
    law_deviation_bytes      the largest distance of a case from the line
    law_floor_bits           what bits_per_activation cannot fall below; null where that depends on the block
    loss_difference          loss_method less loss_plain
    arm_place                of a training record: the place of its arm in the order in which arms were first recorded
    curves                   of a training record: its points of `curves.jsonl`, in order; None where it has none
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, get_args, get_type_hints

import msgspec
import pandas as pd

from bench import gamma, law, rates, resolve
from bench.case import METHOD_AXES, Case
from bench.curves import Point
from bench.record import BlockError, Record

AXES: tuple[str, ...] = Case.__struct_fields__
"""The axes of a case, in the order of the command line."""
_POINT = operator.attrgetter(*(name for name in AXES if name not in METHOD_AXES))
"""What cases of one group have in common."""
_VERSION = operator.attrgetter(*METHOD_AXES)
"""What tells them apart."""
_SERIES = operator.attrgetter(*(name for name in AXES if name != "depth"))
"""What points of one memory law have in common."""
_BUT_THE_SEED = operator.attrgetter(*(name for name in AXES if name != "seed"))
"""And what the records of one arm have."""
REFERENCE = rates.REFERENCE
"""The method that ratios are against."""

_KEPT: ContextVar[tuple[pd.DataFrame, list[dict[str, Any]]] | None] = ContextVar("_KEPT", default=None)
_KINDS: Mapping[object, str] = {int: "Int64", float: "Float64", bool: "boolean", str: "string"}
_DERIVED: Mapping[str, str] = {
    "group": "Int64",
    "activation_ratio": "Float64",
    "step_seconds_median": "Float64",
    "rate_ratio": "Float64",
    "rate_ratio_low": "Float64",
    "rate_ratio_high": "Float64",
    "first_max_abs_error": "Float64",
    "worst_max_abs_error": "Float64",
    "reconstruction_finite": "boolean",
    "mismatched": "Int64",
    "error_doublings": "Float64",
    "bits_per_activation": "Float64",
    "law_linear": "boolean",
    "law_intercept_bytes": "Float64",
    "law_slope_bytes": "Float64",
    "law_deviation_bytes": "Float64",
    "law_floor_bits": "Int64",
    "loss_difference": "Float64",
    "arm_place": "Int64",
    "curves": "object",
}


def frame(records: Iterable[Record], curves: Iterable[Point] = ()) -> pd.DataFrame:
    """One row a record, in the order of the methods table within each group; derived columns last. `curves` are the
    points that were logged as arms were trained.

    Lists (`step_seconds`, `reconstruction`, `curves`) and parts are objects, or None; every other column is scalar and
    nullable.
    """
    found = list(records)
    ordered, groups = _in_order(found)
    # A record at a time: of many, one is in the processor's cache and the next is not.
    values = list(map(list, zip(*map(msgspec.structs.astuple, ordered), strict=True)))
    fields = Record.__struct_fields__
    columns: dict[str, list[Any]] = dict(zip(fields, values or [[] for _ in fields], strict=True))
    columns["reconstruction"] = msgspec.to_builtins(columns["reconstruction"])
    columns |= _derived(ordered, groups) | _trained(ordered, found, curves)
    dtypes = {**_field_dtypes(), **_DERIVED}
    return pd.DataFrame({name: pd.Series(values, dtype=dtypes[name]) for name, values in columns.items()})


def blocks(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a case and block: the axes, `group`, and the block's errors. Cases without any add no row."""
    errors = BlockError.__struct_fields__
    head = [*AXES, "group", "status"]
    found: list[dict[str, Any]] = []
    for row in rows(frame):
        for entry in row["reconstruction"] or ():
            found.append({name: row[name] for name in head} | dict(entry))
    dtypes = {name: str(frame[name].dtype) for name in head}
    dtypes |= {name: "Int64" if name in ("block", "mismatched") else "Float64" for name in errors}
    return pd.DataFrame({name: pd.Series([row[name] for row in found], dtype=dtypes[name]) for name in dtypes})


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame's rows as plain dictionaries: every null is None, whatever pandas holds it as."""
    kept = _KEPT.get()
    if kept is not None and kept[0] is frame:
        return list(kept[1])
    columns = {str(name): _plain(frame[name]) for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@contextmanager
def rows_kept(frame: pd.DataFrame) -> Iterator[list[dict[str, Any]]]:
    """Within it `rows` of this very frame, which must stay as it is, are made once: a page with all tables and figures
    asks for them some fifty times. Yields them."""
    found = rows(frame)
    token = _KEPT.set((frame, found))
    try:
        yield found
    finally:
        _KEPT.reset(token)


def least_squares_slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of y against x by least squares; None where x takes fewer than two values."""
    if len({x for x, _ in points}) < 2:
        return None
    mean_x, mean_y = statistics.fmean(x for x, _ in points), statistics.fmean(y for _, y in points)
    covariance = math.fsum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / math.fsum((x - mean_x) ** 2 for x, _ in points)


def method_rank(name: str) -> tuple[int, str]:
    """A sorting key: the order of the methods table and of the peers', then methods from outside them by name."""
    known = resolve.names()
    return (known.index(name) if name in known else len(known), name)


def grid_order(case: Case) -> tuple[object, ...]:
    """A sorting key: groups in order of depth, width and so on; within one, the order of the methods table, then l,
    γ, and into how many parts the work is cut."""
    return _point_order(_POINT(case)), _version_order(_VERSION(case))


def _in_order(records: list[Record]) -> tuple[list[Record], list[int]]:
    """The records as `grid_order` has them, and the number of each one's group. Keys are made for what differs: many
    records share a point of the grid, and all but a few their version of a method with others."""
    points, versions = list(map(_POINT, records)), list(map(_VERSION, records))
    place = {point: number for number, point in enumerate(sorted(set(points), key=_point_order))}
    within = {version: _version_order(version) for version in set(versions)}
    keys = [(place[point], within[version]) for point, version in zip(points, versions, strict=True)]
    order = sorted(range(len(records)), key=keys.__getitem__)
    return [records[number] for number in order], [keys[number][0] for number in order]


def _point_order(point: tuple[Any, ...]) -> tuple[object, ...]:
    return tuple((value is not None, value) for value in point)


def _version_order(version: tuple[Any, ...]) -> tuple[object, ...]:
    method, bits, gamma_, *others = version
    return method_rank(method), bits or 0, gamma.rank(gamma_), *((one is not None, one) for one in others)


def _field_dtypes() -> dict[str, str]:
    """The nullable dtype of each field of the record; lists stay Python objects."""
    dtypes: dict[str, str] = {}
    for name, hint in get_type_hints(Record).items():
        options = get_args(hint) or (hint,)
        kinds = [_KINDS.get(str if isinstance(option, str) else option) for option in options]
        dtypes[name] = next((kind for kind in kinds if kind is not None), "object")
    return dtypes


def _derived(records: list[Record], numbers: list[int]) -> dict[str, list[Any]]:
    references = rates.references(numbers, records)
    paired = [rates.paired(record, references.get(number)) for number, record in zip(numbers, records, strict=True)]
    return {
        "group": numbers,
        "activation_ratio": [
            _activation_ratio(record, references.get(number)) for number, record in zip(numbers, records, strict=True)
        ],
        "step_seconds_median": [_over(statistics.median, record.step_seconds) for record in records],
        "rate_ratio": [_over(statistics.median, ratios) for ratios in paired],
        "rate_ratio_low": [_over(min, ratios) for ratios in paired],
        "rate_ratio_high": [_over(max, ratios) for ratios in paired],
        **_errors(records),
        **_laws(records),
        "loss_difference": [_loss_difference(record) for record in records],
    }


def _activation_ratio(record: Record, reference: Record | None) -> float | None:
    if reference is None or record.activation_bytes is None or not reference.activation_bytes:
        return None
    return record.activation_bytes / reference.activation_bytes


def _errors(records: list[Record]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {
        name: []
        for name in (
            "first_max_abs_error",
            "worst_max_abs_error",
            "reconstruction_finite",
            "mismatched",
            "error_doublings",
        )
    }
    for record in records:
        entries = sorted(record.reconstruction or [], key=lambda entry: entry.block)
        errors = [entry.max_abs_error for entry in entries]
        finite = [error for error in errors if error is not None]
        above = [(entry.block, math.log2(entry.max_abs_error)) for entry in entries if entry.max_abs_error]
        slope = least_squares_slope(above)
        found["first_max_abs_error"].append(errors[0] if errors else None)
        found["worst_max_abs_error"].append(max(finite) if errors and len(finite) == len(errors) else None)
        found["reconstruction_finite"].append(len(finite) == len(errors) if errors else None)
        found["mismatched"].append(sum(entry.mismatched for entry in entries) if entries else None)
        found["error_doublings"].append(None if slope is None else -slope)
    return found


def _laws(records: list[Record]) -> dict[str, list[Any]]:
    """The law that each case is a point of; null for what was not measured, or at one depth alone."""
    found: dict[tuple[Any, int | None], dict[str, Any]] = {}
    for one in law.laws(records):
        values = {
            "bits_per_activation": one.bits_per_activation,
            "law_linear": one.linear,
            "law_intercept_bytes": float(one.intercept_bytes),
            "law_slope_bytes": float(one.slope_bytes),
            "law_deviation_bytes": float(one.deviation_bytes),
            "law_floor_bits": one.floor_bits,
        }
        found |= {(_SERIES(one.series), depth): values for depth in one.depths}
    of = [
        found.get((_SERIES(record), record.depth), {})
        if record.activation_bytes is not None and record.stream_elements
        else {}
        for record in records
    ]
    names = ("bits_per_activation", *(name for name in _DERIVED if name.startswith("law_")))
    return {name: [values.get(name) for values in of] for name in names}


def _loss_difference(record: Record) -> float | None:
    if record.loss_method is None or record.loss_plain is None:
        return None
    return record.loss_method - record.loss_plain


def _trained(ordered: list[Record], found: Iterable[Record], curves: Iterable[Point]) -> dict[str, list[Any]]:
    """What training records have beside what was recorded: their arms' places, and the curves of each."""
    arms = dict.fromkeys(_BUT_THE_SEED(record) for record in found if record.experiment is not None)
    places = {arm: place for place, arm in enumerate(arms)}
    logged: dict[tuple[str, int], list[Point]] = {}
    for point in curves:
        logged.setdefault((point.arm, point.seed), []).append(point)
    return {
        "arm_place": [places.get(_BUT_THE_SEED(record)) if places else None for record in ordered],
        "curves": [
            None if record.experiment is None or record.arm is None else logged.get((record.arm, record.seed))
            for record in ordered
        ],
    }


def _over(statistic: Callable[[list[float]], float], values: list[float] | None) -> float | None:
    return statistic(values) if values else None


def _plain(column: pd.Series[Any]) -> list[Any]:
    """A column's values as Python's own, None for every null."""
    values = column.to_numpy(dtype=object, copy=True)
    values[column.isna().to_numpy()] = None
    return list(values)
