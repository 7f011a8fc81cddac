"""The table of where the bytes are: activation memory and whole-step peak, each as the sum of its parts."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench import parts
from bench.case import METHOD_AXES, WHOLE
from bench.parts import PartName
from reports import settings, units
from reports.frame import AXES, method_rank
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Sheet, axis_cell, cell
from reports.verdict import PREFERRED_BITS

NAME = "where the bytes are"
HEADINGS: Final[Mapping[PartName, tuple[str, str]]] = {
    "parameters": ("params", ""),
    "gradients": ("grads", ""),
    "optimizer_state": ("optim.", "state"),
    "input": ("batch", ""),
    "residual_states": ("resid.", "states"),
    "side_bits": ("side", "bits"),
    "rng_states": ("RNG", "states"),
    "block": ("blocks", ""),
    "head_and_loss": ("head,", "loss"),
    "optimizer_step": ("optim.", "step"),
    "other": ("other", ""),
}
"""What a part's column is called, on two lines."""
_PLAIN: Final[tuple[PartName, ...]] = ("parameters", "gradients", "optimizer_state", "input", "other")
"""The parts whose names say what they are."""
SIZES = ("depth", "width", "heads", "seq", "batch")
"""The axes that make a case larger: of each setting the table has one point of them."""


@dataclass(frozen=True)
class Figure:
    """A figure of memory that has parts: the fields of the record, and what it is called."""

    name: str
    total: str
    parts: str
    above: tuple[PartName, ...] = ()
    """The parts that were there before, and are not counted."""


FIGURES: Final = (
    Figure(
        "activ.",
        "activation_bytes",
        "activation_parts",
        above=("parameters", "gradients", "optimizer_state", "input", "optimizer_step"),
    ),
    Figure("peak", "peak_bytes", "peak_parts"),
)

_OWN: Final[Mapping[PartName, str]] = {"side_bits": "side_bytes", "rng_states": "rng_bytes"}
"""Parts with a field of their own, which is null where they are not known: what a library keeps is its business."""
_VERSION = operator.itemgetter(*(axis for axis in METHOD_AXES if axis != "bits"))
"""What may change where the bytes of a method are."""


def held(row: Row, figure: Figure) -> dict[PartName, int] | None:
    """Bytes of each part that the row's figure is made of, in the order of `parts.NAMES`; None where it has none.

    They add up to the figure: what its parts leave is `other`."""
    if row[figure.parts] is None or row[figure.total] is None:
        return None
    sums = parts.totals(row[figure.parts])
    rest = row[figure.total] - sum(sums.values())
    if rest:
        sums["other"] = sums.get("other", 0) + rest
    return {name: sums[name] for name in parts.NAMES if sums.get(name)}


def points(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows to compare, for each setting: those at the largest of the points where the most methods have parts.

    A row a method, l and γ apart where they make a difference: of several seeds the lowest, of several l the
    paper's or else the largest, since neither changes where bytes are. Cases that failed at that point are among
    them; settings without any parts are left out."""
    setting = operator.itemgetter(*(axis for axis in AXES if axis not in (*METHOD_AXES, *SIZES, "seed")))
    size = operator.itemgetter(*SIZES)
    found: dict[Any, dict[tuple[Any, ...], list[Row]]] = {}
    for row in rows:
        found.setdefault(setting(row), {}).setdefault(size(row), []).append(row)

    def worth(point: tuple[tuple[Any, ...], list[Row]]) -> tuple[Any, ...]:
        sizes, members = point
        return len({row["method"] for row in members if has_parts(row)}), [one or 0 for one in sizes]

    chosen = (max(sizes.items(), key=worth)[1] for sizes in found.values())
    return [_versions(members) for members in chosen if any(map(has_parts, members))]


def breakdown(rows: Sequence[Row]) -> Sheet | None:
    """A row a figure and case, of the cases that `points` chooses; None where no case has parts.

    A part that no case has is no column. The last column is the figure itself, the sum of the others."""
    chosen = [row for members in points(rows) for row in members]
    if not chosen:
        return None
    sums = {
        figure: [(row, held(row, figure)) for row in chosen]
        for figure in FIGURES
        if any(held(row, figure) is not None for row in chosen)
    }
    terms = [one for found in sums.values() for _, one in found if one is not None]
    names = parts.names(terms)
    scale = units.ByteScale.of_sums(
        (row[figure.total] for figure, found in sums.items() for row, _ in found),
        (size for one in terms for size in one.values()),
    )
    axes = settings.varying(chosen, leave_out=(*METHOD_AXES, "seed"))
    tail = settings.of_the_method(chosen)
    lines: list[Line] = []
    point: tuple[Any, ...] | None = None
    for figure, found in sums.items():
        counted = {name for _, one in found for name in one or ()} | set(names) - set(figure.above)
        for row, bytes_of in found:
            before, point = point, (figure, *(row[axis] for axis in axes))
            cells = (
                Cell(figure.name),
                *(axis_cell(row, axis) for axis in axes),
                Cell(row["method"]),
                *(axis_cell(row, axis) for axis in tail),
                *(_part(row, bytes_of, name, scale, counted=name in counted) for name in names),
                _total(row, figure, scale),
            )
            lines.append(Line(cells, opens=point != before))
    head = [Column("of", numeric=False)]
    head += [Column(settings.name_of(axis), numeric=isinstance(chosen[0][axis], int)) for axis in axes]
    head += [Column("method", numeric=False), *(Column(settings.name_of(axis)) for axis in tail)]
    return Sheet(
        title=" · ".join((f"{NAME}, in {scale.unit}", settings.sentence(chosen))),
        columns=(*head, *(Column(*HEADINGS[name]) for name in names), Column("total")),
        lines=tuple(lines),
        keys=len(axes) + 1,
        labels=len(head),
        legend=tuple(_legend(names)),
        name=NAME,
    )


def has_parts(row: Row) -> bool:
    """Whether the row has parts of any figure."""
    return any(row[figure.parts] is not None and row[figure.total] is not None for figure in FIGURES)


def _versions(members: Sequence[Row]) -> list[Row]:
    def worth(row: Row) -> tuple[Any, ...]:
        return has_parts(row), row["status"] != "ok", row["bits"] == PREFERRED_BITS, row["bits"] or 0, -row["seed"]

    best: dict[tuple[Any, ...], Row] = {}
    for row in members:
        key = _VERSION(row)
        if has_parts(row) or row["status"] != "ok":
            best[key] = max(best.get(key, row), row, key=worth)
    cuts = operator.itemgetter(*WHOLE)

    def order(row: Row) -> tuple[Any, ...]:
        # Arms of an experiment stay in its order.
        return row["arm_place"] or 0, method_rank(row["method"]), [count or 0 for count in cuts(row)]

    return sorted(best.values(), key=order)


def _part(
    row: Row, found: Mapping[PartName, int] | None, name: PartName, scale: units.ByteScale, *, counted: bool
) -> Cell:
    """The bytes of a part; a dash where they were not measured, and nothing where the figure does not count them."""
    if not counted:
        return Cell("")
    if found is not None and name not in found and name in _OWN and row[_OWN[name]] is None:
        return cell(units.MISSING)
    return cell(units.MISSING) if found is None else cell(scale.number(found.get(name, 0)), found.get(name, 0))


def _total(row: Row, figure: Figure, scale: units.ByteScale) -> Cell:
    if row[figure.total] is None and row["status"] != "ok":
        return Cell(row["status"], "bad")
    return cell(scale.number(row[figure.total]), row[figure.total])


def _legend(names: Sequence[PartName]) -> list[str]:
    meant = (name for name in names if name not in _PLAIN)
    said = [f"{' '.join(filter(None, HEADINGS[name]))}: {parts.MEANINGS[name]}" for name in meant]
    return ["activ.: what comes on top of the level before the step; peak: all there is, over a whole step", *said]
