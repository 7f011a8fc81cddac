"""The table of a training run: a row an arm, what it reached over seeds, and what that took."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reports import settings, units
from reports.arms import Arm, Spread, ended, headline, reference, scored, spread
from reports.sheets import Cell, Column, Line, Notes, Sheet, axis_cell, cell

NAME: Final = "training"
PERCENT: Final = 100.0
_RECIPE: Final[Mapping[str, str]] = {
    "lr": "lr", "weight_decay": "weight decay", "warmup_steps": "warm-up", "min_lr": "lowest lr",
    "eval_every": "evaluated every", "eval_batches": "evaluation batches", "augment": "augmented",
}  # fmt: skip
"""What an entry of the recipe is called, where that is not its name."""
_UNTOLD: Final = ("checkpoint_every", "eval_every", "eval_batches")
"""Entries that change nothing of what is trained."""


@dataclass(frozen=True)
class Metric:
    """A measured column: its heading, its value over the seeds of an arm, and how a cell is made of it."""

    column: Column
    value: Callable[[Arm], Spread | float | None]
    cell: Callable[[Any], Cell]


def sheet(found: Sequence[Arm]) -> Sheet | None:
    """A row an arm: mean and sample deviation over the seeds that were trained to the end. None without arms.

    A column that no arm has a number for is left out. What seeds failed of, and how many, is told with their number."""
    if not found:
        return None
    rows = [row for arm in found for row in arm.rows]
    axes = settings.varying(rows, leave_out=("arm", "seed", "method"))
    recipe = _differing(found)
    metrics = [one for one in _metrics(found) if any(one.value(arm) is not None for arm in found)]
    told = [arm for arm in found if arm.name != arm.method]
    notes = Notes(("arm", "seed") if told else ("seed",))
    lines = tuple(
        Line(
            (
                Cell(arm.name),
                *([Cell(arm.method)] if told else []),
                *(axis_cell(arm.first, axis) for axis in axes),
                *(_plain((arm.first["recipe"] or {}).get(name)) for name in recipe),
                seeds_cell(arm, notes),
                *(one.cell(one.value(arm)) for one in metrics),
            )
        )
        for arm in found
    )
    head = [Column("arm", numeric=False), *([Column("method", numeric=False)] if told else [])]
    head += [Column(settings.name_of(axis), numeric=isinstance(rows[0][axis], int)) for axis in axes]
    head += [Column(_RECIPE.get(name, name)) for name in recipe]
    return Sheet(
        title=" · ".join(part for part in (f"{NAME} {_experiments(found)}".rstrip(), settings.sentence(rows)) if part),
        columns=(*head, Column("seeds"), *(one.column for one in metrics)),
        lines=lines,
        labels=len(head) + 1,
        notes=notes.lines(),
        legend=_legend(found, metrics),
        name=NAME,
    )


def seeds_cell(arm: Arm, notes: Notes) -> Cell:
    """How many seeds were trained to the end; those that were not are counted by how they ended."""
    marks = {notes.mark(row): None for row in arm.rows}
    ends = Counter(ended(row) for row in arm.rows if ended(row) != "ok")
    said = ", ".join(f"{number} {status}" for status, number in ends.items())
    text = " ".join([units.integer(len(arm.ok)), f"({said})" if said else "", *marks])
    return Cell(" ".join(text.split()), "bad" if said else "plain", value=len(arm.ok))


def seconds_a_step(arm: Arm) -> Spread | None:
    """The median step of each seed."""
    timed: dict[int, list[float]] = {}
    for point in arm.points("step_seconds"):
        if point.value is not None:
            timed.setdefault(point.seed, []).append(point.value)
    done = {row["seed"] for row in arm.ok}
    return spread(statistics.median(values) for seed, values in timed.items() if seed in done)


def recipe_line(found: Sequence[Arm]) -> str:
    """What the recipes of all arms have in common, as a line: `optimizer set-adam · lr 0.0001 · …`."""
    recipes = [dict(arm.first["recipe"]) for arm in found if arm.first["recipe"]]
    if not recipes:
        return ""
    common = [
        f"{_RECIPE.get(name, name)} {_told(value)}"
        for name, value in recipes[0].items()
        if name not in _UNTOLD and value not in (None, False) and all(one.get(name) == value for one in recipes)
    ]
    return " · ".join(common)


def _metrics(found: Sequence[Arm]) -> list[Metric]:
    def score(heading: str, unit: str, field: str, *, factor: float, decimals: int) -> Metric:
        return Metric(
            Column(heading, unit),
            lambda arm: arm.over_seeds(field),
            lambda value: spread_cell(value, factor=factor, decimals=decimals),
        )

    def memory(heading: str, field: str) -> list[Metric]:
        scale = units.ByteScale.of(arm.measured[field] for arm in found)

        def ratio(arm: Arm) -> float | None:
            first = reference(found, arm)
            beside = None if first is None else first.measured[field]
            held = arm.measured[field]
            return None if held is None or not beside else held / beside

        return [
            Metric(
                Column(heading, scale.unit),
                lambda arm: arm.measured[field],
                lambda value: cell(scale.number(value), value),
            ),
            Metric(Column("vs", "first"), ratio, lambda value: cell(units.ratio(value), value)),
        ]

    def time_ratio(arm: Arm) -> float | None:
        first = reference(found, arm)
        ours, theirs = (None if one is None else seconds_a_step(one) for one in (arm, first))
        return None if ours is None or theirs is None or not theirs.mean else ours.mean / theirs.mean

    def time(heading: str, read: Callable[[Arm], Spread | None]) -> Metric:
        known = [one.mean for one in map(read, found) if one is not None]
        short = bool(known) and max(known) < 1
        factor, decimals = (1e3, 1) if short else (1.0, 2)
        return Metric(
            Column(heading, "ms" if short else "s"),
            read,
            lambda value: spread_cell(value, factor=factor, decimals=decimals),
        )

    best, final = ("best", "acc. %"), ("final", "acc. %")
    # Of arms that classify, the best loss is of little interest: it is where they begin to be too sure.
    loss = [] if scored(found) else [score("best", "val. loss", "best_validation_loss", factor=1, decimals=4)]
    return [
        score(*best, "best_validation_accuracy", factor=PERCENT, decimals=2),
        score(*final, "validation_accuracy", factor=PERCENT, decimals=2),
        *loss,
        score("final", "val. loss", "validation_loss", factor=1, decimals=4),
        score("training", "loss", "train_loss", factor=1, decimals=4),
        *memory("peak", "peak_bytes"),
        *memory("activ.", "activation_bytes"),
        time("epoch", lambda arm: arm.over_seeds("epoch_seconds")),
        time("step", seconds_a_step),
        Metric(Column("vs", "first"), time_ratio, lambda value: cell(units.ratio(value), value)),
    ]


def spread_cell(value: Spread | None, *, factor: float, decimals: int) -> Cell:
    """Mean and deviation, times `factor`."""
    if value is None:
        return cell(units.MISSING)
    deviation = None if value.deviation is None else factor * value.deviation
    return cell(units.plus_minus(factor * value.mean, deviation, decimals), value.mean)


def _differing(found: Sequence[Arm]) -> list[str]:
    """The entries of the recipe in which arms differ."""
    recipes = [dict(arm.first["recipe"] or {}) for arm in found]
    names = dict.fromkeys(name for one in recipes for name in one if name not in _UNTOLD)
    return [name for name in names if any(one.get(name) != recipes[0].get(name) for one in recipes)]


def _experiments(found: Sequence[Arm]) -> str:
    return ", ".join(dict.fromkeys(str(arm.first["experiment"]) for arm in found))


def _plain(value: object) -> Cell:
    return cell(_told(value), value if isinstance(value, int | float) else None)


def _told(value: object) -> str:
    if isinstance(value, bool):
        return units.yes_no(value)
    if isinstance(value, int | float) or value is None:
        return units.MISSING if value is None else units.tick(value)
    return ", ".join(map(_told, value)) if isinstance(value, list | tuple) else str(value)


def _whose(firsts: Sequence[str]) -> str:
    return f"{firsts[0]}'s" if len(firsts) == 1 else f"that of {' or '.join(firsts)}, whichever has the same data"


def _legend(found: Sequence[Arm], metrics: Sequence[Metric]) -> tuple[str, ...]:
    headings = {one.column.heading for one in metrics}
    firsts = {arm.name: None for one in found if (arm := reference(found, one)) is not None}
    chosen = "accuracy" if headline(found) == "validation_accuracy" else "loss"
    several = any(len(arm.rows) > 1 for arm in found)
    lines = {
        "final": f"final, best: validation {chosen} at the end, and the best of all evaluations, which favours nobody "
        "as all are evaluated as often",
        "training": "training loss: mean over the steps between the last two evaluations, in training mode",
        "peak": f"peak, activ.: of one step in a fresh process; vs first is over {_whose(list(firsts))}",
        "epoch": "epoch: as it was trained, one arm after another; bdia-bench run measures rates in paired rounds",
        "step": "step: the median of each seed, as it was trained; bdia-bench run measures rates in paired rounds",
    }
    said = [text for heading, text in lines.items() if heading in headings]
    if {"epoch", "step"} <= headings:
        said.remove(lines["epoch"])
    recipe = recipe_line(found)
    spread_said = "±: sample deviation over seeds" + ("" if several else "; of a single seed there is none")
    return (spread_said, *said, *([f"recipe: {recipe}"] if recipe else []))
