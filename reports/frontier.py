"""The table of a frontier: how far each method goes within a limit, and how fast it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from bench import frontier
from bench.case import METHOD_AXES
from bench.frontier import Largest
from bench.record import Record
from reports import settings, units
from reports.frame import grid_order
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Notes, Sheet, cell

NAME: Final = "frontier"
_FIELDS: Final = Record.__struct_fields__


def probes(rows: Sequence[Row]) -> list[Record]:
    """The rows that a frontier probed, as records again."""
    return [
        msgspec.convert({name: row[name] for name in _FIELDS}, Record) for row in rows if row["limit_bytes"] is not None
    ]


def largests(rows: Sequence[Row]) -> list[Largest]:
    """What they come to, in the order of the other tables."""
    return sorted(frontier.largests(probes(rows)), key=lambda one: grid_order(one.case))


def worth_a_row(row: Row) -> bool:
    """Whether a row belongs into tables of cases: of a frontier's probes, those that were timed. The others only tell
    where the limit is."""
    return row["limit_bytes"] is None or row["step_seconds"] is not None


def sheet(found: Sequence[Largest]) -> Sheet | None:
    """A row a method and its settings; None without any."""
    if not found:
        return None
    shown = [_row(one) for one in found]
    axes = settings.varying(shown, leave_out=(*METHOD_AXES, "over"))
    tail = settings.of_the_method(shown)
    metrics = [(column, make) for column, counts, make in _columns(found) if any(map(counts, found))]
    notes = Notes()
    lines: list[Line] = []
    point: tuple[Any, ...] | None = None
    for one, row in zip(found, shown, strict=True):
        before, point = point, tuple(row[axis] for axis in axes)
        mark = notes.mark({"status": "ok", "message": one.message})
        lines.append(
            Line(
                (
                    *(cell(_told(row[axis]), _number(row[axis])) for axis in axes),
                    Cell(f"{row['method']} {mark}".rstrip()),
                    *(cell(_told(row[axis]), _number(row[axis])) for axis in tail),
                    *(make(one) for _, make in metrics),
                ),
                opens=point != before,
            )
        )
    head = [Column(settings.name_of(axis), numeric=_numeric(shown, axis)) for axis in axes]
    head += [Column("method", numeric=False), *(Column(settings.name_of(axis)) for axis in tail)]
    return Sheet(
        title=" · ".join((NAME, f"within {_limits(found)}", settings.sentence(shown))),
        columns=(*head, *(column for column, _ in metrics)),
        lines=tuple(lines),
        keys=len(axes),
        labels=len(head),
        notes=notes.lines(),
        legend=_legend(found),
        name=NAME,
    )


def noun(over: str, value: int) -> str:
    """A value of what is looked for, in a sentence: `batch 40`."""
    return f"{over} {units.integer(value)}"


def value_cell(one: Largest) -> Cell:
    """The largest value, and how surely."""
    if one.value is None:
        return Cell("stopped" if one.ending == "stopped" else "none", "bad")
    text = units.integer(one.value)
    if one.ending == "at least":
        return Cell(f"≥ {text}", value=one.value)
    if one.ending == "open" and one.beyond is not None:
        return Cell(f"{text} to {units.integer(one.beyond - one.step)}", value=one.value)
    return Cell(text, value=one.value)


def rate_of(tokens: float | None, samples: float | None, in_tokens: bool) -> float | None:
    """The one that the table is in."""
    return tokens if in_tokens else samples


def in_tokens(found: Sequence[Largest]) -> bool:
    """Whether all that was timed has a rate in tokens: a table of both kinds of model can only share samples."""
    timed = [one for one in found if one.samples_per_second is not None or one.equal_samples_per_second is not None]
    return all(one.tokens_per_second is not None or one.equal_tokens_per_second is not None for one in timed)


_Make = Callable[[Largest], Cell]


def _columns(found: Sequence[Largest]) -> list[tuple[Column, Callable[[Largest], object], _Make]]:
    """Each measured column: its heading, whether there is anything in it, and how a cell is made."""
    over = {one.over for one in found}
    what = over.pop() if len(over) == 1 else "value"
    equal = {one.equal_value for one in found} - {None}
    at = f"at {units.integer(equal.pop())}" if len(equal) == 1 else "at equal"
    scale = units.ByteScale.of(one.peak_bytes for one in found)
    tokens = in_tokens(found)
    unit = "tok/s" if tokens else "samples/s"
    references = frontier.references(found)

    def further(one: Largest) -> float | None:
        reference = references.get(frontier.group(one))
        return None if one.value is None or reference is None or not reference.value else one.value / reference.value

    def ratio(read: Callable[[Largest], float | None]) -> _Make:
        return lambda one: cell(units.ratio(read(one)), read(one))

    def own(one: Largest) -> float | None:
        return rate_of(one.tokens_per_second, one.samples_per_second, tokens)

    def shared(one: Largest) -> float | None:
        return rate_of(one.equal_tokens_per_second, one.equal_samples_per_second, tokens)

    return [
        (Column("largest", what), lambda one: True, value_cell),
        (Column("vs", "std"), lambda one: further(one) is not None, ratio(further)),
        (Column("peak", scale.unit), lambda one: one.peak_bytes, lambda one: cell(scale.number(one.peak_bytes))),
        (Column("rate", unit), own, lambda one: cell(units.rate(own(one)), own(one))),
        (Column("vs", "std"), lambda one: one.rate_ratio, ratio(lambda one: one.rate_ratio)),
        (Column(f"rate {at}", unit), shared, lambda one: cell(units.rate(shared(one)), shared(one))),
        (Column("vs", "std"), lambda one: one.equal_rate_ratio, ratio(lambda one: one.equal_rate_ratio)),
        (Column("probes"), lambda one: True, lambda one: cell(units.integer(one.probes), one.probes)),
    ]


def _legend(found: Sequence[Largest]) -> tuple[str, ...]:
    over = found[0].over
    step = found[0].step
    confirmed = sum(one.confirmed_steps is not None for one in found)
    steps = next((one.confirmed_steps for one in found if one.confirmed_steps is not None), None)
    trained = f"; {steps} training steps stayed within it, of {confirmed} of {len(found)}" if confirmed else ""
    return (
        f"largest: the peak of a step was measured to fit at this {over} and not at {step} more{trained}",
        *_legend_of_rates(found),
    )


def _legend_of_rates(found: Sequence[Largest]) -> Iterator[str]:
    """How each column's rates were timed, as far as there are any."""
    over = found[0].over
    rated = [one for one in found if one.samples_per_second is not None]
    if rated:
        alone = ", timed alone" if any(one.value != one.equal_value for one in rated) else ""
        but = " unless that is the equal one" if alone and any(one.value == one.equal_value for one in rated) else ""
        yield f"rate: at the largest{alone}{but}; vs std is over standard's at its own largest"
    if any(one.equal_samples_per_second is not None for one in found):
        equal = "at the largest that all have, so with as many samples a step; side by side, in rounds"
        yield f"rate at equal {over}: {equal}"


def _limits(found: Sequence[Largest]) -> str:
    return ", ".join(dict.fromkeys(units.size(one.limit_bytes) for one in found))


def _row(one: Largest) -> Row:
    return msgspec.structs.asdict(one.case)


def _told(value: object) -> str:
    return units.integer(value) if isinstance(value, int) or value is None else str(value)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _numeric(rows: Sequence[Row], axis: str) -> bool:
    return {type(row[axis]) for row in rows} <= {int, type(None)}
