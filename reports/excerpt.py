"""What a page shows of a long table: how it begins, and of the rest the rows that a reader must not miss."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bench import options
from reports import units

ROWS: Final = 200
"""Of a table on a page, unless more are asked for: what a reader may go through, and made in a moment."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Excerpt(Generic[Item]):
    """Some rows of a table, in its order."""

    shown: Sequence[Item]
    left_out: int
    telling: int
    """Of those that are left out, the ones that a reader should not miss: there were too many."""

    def said(self, telling: str) -> str:
        """What is left out, as a line below the table; empty where nothing is. `telling` is what the rows that a
        reader should not miss are: `cases that did not end well`."""
        if not self.left_out:
            return ""
        whole = len(self.shown) + self.left_out
        said = f"{units.integer(self.left_out)} of {units.integer(whole)} rows are left out"
        return f"{said}, {units.integer(self.telling)} {telling} among them" if self.telling else said


def limit(given: str | None) -> int | None:
    """What `--rows` says: at most so many rows, None for all; `ROWS` where it is not given.

    Raises: UsageError for what is no number of rows.
    """
    if given is None:
        return ROWS
    return None if given == "all" else options.count("--rows", ", or all")(given)


def excerpt(
    rows: Sequence[Item],
    limit: int | None,
    *,
    point: Callable[[Item], Hashable],
    telling: Callable[[Item], bool],
) -> Excerpt[Item]:
    """At most `limit` of `rows`, or all of them for None.

    At least half of them are the first ones, up to where `point` changes; the others are the first of the rest that are
    `telling`."""
    if limit is None or len(rows) <= limit:
        return Excerpt(rows, 0, 0)
    room = limit - min(limit // 2, sum(map(telling, rows)))
    start = next((number for number in range(room, 0, -1) if point(rows[number]) != point(rows[number - 1])), room)
    told = [row for row in rows[start:] if telling(row)]
    shown = [*rows[:start], *told[: limit - start]]
    return Excerpt(shown, len(rows) - len(shown), len(told) - (len(shown) - start))
