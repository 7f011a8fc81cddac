"""The table of published numbers beside measured ones: a row is either, and says which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import gamma, words
from reports import settings, units
from reports.arms import Arm, Spread, scored, tasks
from reports.frame import REFERENCE
from reports.literature import BY_EXPERIMENT, Published, Quantity
from reports.sheets import Cell, Column, Line, Sheet, cell, superscript
from reports.trained import PERCENT, spread_cell

NAME: Final = "published beside measured"
_ACCURACY: Final = "validation_accuracy"
"""At the end, as the test over seeds has it. The best of many looks is chosen by what it is judged by."""
_WHAT: Final[Mapping[Quantity, str]] = {"accuracy": "val. accuracy", "peak": "peak memory", "epoch": "an epoch"}


def sheet(found: Sequence[Arm]) -> Sheet | None:
    """The published rows of each quantity, and below them what was measured of it here. None where nothing is published
    on the experiment."""
    experiment = str(found[0].first["experiment"]) if found else ""
    published = BY_EXPERIMENT.get(experiment, ())
    if not published:
        return None
    by_gamma = experiment == "gamma"
    columns = list(dict.fromkeys(name for one in published for name in one.values))
    chosen = [{name: _arm(task, name, by_gamma=by_gamma) for name in columns} for task in tasks(found)]
    lines: list[Line] = []
    notes: dict[str, int] = {}
    for quantity in dict.fromkeys(one.quantity for one in published):
        rows = [one for one in published if one.quantity == quantity]
        for number, one in enumerate(rows):
            lines.append(Line(_published(one, columns, notes), opens=not number))
        lines += [Line(_measured(quantity, columns, one, notes)) for one in chosen if any(one.values())]
    return Sheet(
        title=f"{NAME} · {experiment}",
        columns=(
            Column("of", numeric=False),
            Column("from", numeric=False),
            Column("on", numeric=False),
            *(Column(_heading(name, by_gamma=by_gamma)) for name in columns),
            Column("last", "vs first"),
        ),
        lines=tuple(lines),
        keys=1,
        notes=tuple(f"{superscript(number)} {note}" for note, number in notes.items()),
        legend=_LEGEND,
        name=NAME,
    )


def _heading(name: str, *, by_gamma: bool) -> str:
    return name if not by_gamma else f"γ = ±{name}" if name != "0" else "γ = 0"


def _arm(found: Sequence[Arm], name: str, *, by_gamma: bool) -> Arm | None:
    """The arm that a published column is of: the first of its method with the model's own dropout or, of a sweep over γ
    without quantisation, the one with that γ."""
    if by_gamma:
        loose = [arm for arm in found if arm.first["bits"] is None]
        text = gamma.text_of(name)
        of = next((arm for arm in loose if arm.first["gamma"] == text), None)
        return of or next((arm for arm in loose if name == "0" and arm.method == REFERENCE), None)
    return next((arm for arm in found if arm.method == name), None)


def _published(one: Published, columns: Sequence[str], notes: dict[str, int]) -> tuple[Cell, ...]:
    values = [one.values.get(name) for name in columns]
    return (
        Cell(_WHAT[one.quantity]),
        Cell(f"published {_mark(notes, f'published: {one.source}: {one.setting}')}"),
        Cell(one.on),
        *(_value(value, one) for value in values),
        _against(one.quantity, values[0], values[-1]),
    )


def _value(value: float | None, one: Published) -> Cell:
    text = f"{units.fixed(value, one.decimals)} {one.unit}"
    return cell(units.MISSING) if value is None else cell(text, value)


def _measured(
    quantity: Quantity, columns: Sequence[str], chosen: Mapping[str, Arm | None], notes: dict[str, int]
) -> tuple[Cell, ...]:
    arms = [arm for arm in chosen.values() if arm is not None]
    means = [None if (arm := chosen[name]) is None else _mean(arm, quantity) for name in columns]
    return (
        Cell(_WHAT[quantity]),
        Cell(f"measured {_mark(notes, f'measured here: {_setting(arms)}')}"),
        Cell(_on(quantity, arms)),
        *(cell(units.MISSING) if (arm := chosen[name]) is None else _MADE[quantity](arm) for name in columns),
        _against(quantity, means[0], means[-1]),
    )


def _accuracy(arm: Arm) -> Cell:
    return _with_unit(arm.over_seeds(_ACCURACY), PERCENT, 2, "%")


def _epoch(arm: Arm) -> Cell:
    return _with_unit(arm.over_seeds("epoch_seconds"), 1.0, 2, "s")


def _peak(arm: Arm) -> Cell:
    held = arm.measured["peak_bytes"]
    return cell(units.size(held), held)


def _with_unit(value: Spread | None, factor: float, decimals: int, unit: str) -> Cell:
    made = spread_cell(value, factor=factor, decimals=decimals)
    return made if value is None else Cell(f"{made.text} {unit}", value=made.value)


_MADE: Final[Mapping[Quantity, Callable[[Arm], Cell]]] = {"accuracy": _accuracy, "peak": _peak, "epoch": _epoch}


def _mean(arm: Arm, quantity: Quantity) -> float | None:
    if quantity == "peak":
        held: int | None = arm.measured["peak_bytes"]
        return held
    value = arm.over_seeds(_ACCURACY if quantity == "accuracy" else "epoch_seconds")
    return None if value is None else (PERCENT if quantity == "accuracy" else 1.0) * value.mean


def _against(quantity: Quantity, first: float | None, last: float | None) -> Cell:
    """The last column against the first: accuracies differ by points, the others by a factor."""
    if first is None or last is None or not first:
        return cell(units.MISSING)
    if quantity == "accuracy":
        return Cell(f"{units.signed(last - first, 2)}", value=last - first)
    return Cell(units.ratio(last / first), value=last / first)


def _mark(notes: dict[str, int], note: str) -> str:
    return superscript(notes.setdefault(note, len(notes) + 1))


def _on(quantity: Quantity, arms: Sequence[Arm]) -> str:
    """The data of the measured arms or, of what depends on it, their batch."""
    if not arms:
        return units.MISSING
    batches = sorted({arm.first["batch"] for arm in arms})
    if quantity == "peak":
        return f"batch {', '.join(map(units.integer, batches))}"
    data = {arm.first["data"] for arm in arms} - {None}
    return ", ".join(sorted(Path(path).name for path in data)) or ("digits" if scored(arms) else "library text")


def _setting(arms: Sequence[Arm]) -> str:
    """What was trained here, for how long, over how many seeds, on what."""
    rows = [row for arm in arms for row in arm.rows]
    if not rows:
        return "no such arm"
    steps = [row["trained_steps"] for row in rows if row["trained_steps"] is not None]
    held = {**settings.constants(rows)}
    said = [
        *(str(held[axis]) for axis in ("model",) if axis in held),
        *settings.values(held, [axis for axis in ("depth", "width", "batch", "bits") if axis in held]),
        str(held.get("dtype", "")),
        f"{units.integer(max(steps))} steps" if steps else "",
        words.counted(max(len(arm.ok) for arm in arms), "seed"),
        str(held.get("device", "")),
    ]
    return ", ".join(part for part in said if part)


_LEGEND: Final = (
    "published: as others have published it, and not measured here; where the setting is another, compare differences "
    "and ratios, not the numbers",
    "a measured accuracy is that at the end of training",
    "last vs first: of accuracy the difference in points, of memory and time the ratio",
    "v2 of the paper: second-hand, from reviews of it that agree with one another; its MB are as it says",
)
