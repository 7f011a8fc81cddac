"""What a report holds, in its order."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports import beside, differences, frontier, trained
from reports.arms import arms, as_cases
from reports.breakdown import breakdown
from reports.fitted import fitted
from reports.frame import rows
from reports.measured import measured
from reports.reconstructed import partition, reconstructed
from reports.settings import Row
from reports.sheets import Sheet


def sheets(frame: pd.DataFrame, limit: int | None = None) -> list[Sheet]:
    """All tables: the arms of a training run, the frontier, what was measured, reconstructions, the memory law, where
    the bytes are; as far as there are rows. Of one with more than `limit` rows how it begins."""
    found = rows(frame)
    main, second = parted(found)
    first = measured(main, limit=limit, beginning=True)
    tables = [*above(found), *([] if first is None else [first]), *below(main, second, limit, beginning=True)]
    return [*tables, *parts_of_arms(found)]


def above(found: Sequence[Row]) -> list[Sheet]:
    """The tables above the main one: those of a training run and of a frontier, where there are such."""
    trained_arms = arms(found)
    tables = (
        trained.sheet(trained_arms),
        differences.sheet(trained_arms),
        beside.sheet(trained_arms),
        frontier.sheet(frontier.largests(found)),
    )
    return [table for table in tables if table is not None]


def parted(found: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the main table and those of reconstructions, as `partition` has them, without what was trained, which
    has tables of its own, and what only tells where a limit is."""
    return partition([row for row in found if row["experiment"] is None and frontier.worth_a_row(row)])


def below(
    main: Sequence[Row], second: Sequence[Row], limit: int | None = None, *, beginning: bool = False
) -> list[Sheet]:
    """The tables below the main one, of the rows that `parted` makes; of one with more than `limit` an excerpt, or
    its `beginning` alone."""
    found = (
        reconstructed(second, limit, beginning=beginning),
        fitted(main, limit, beginning=beginning),
        breakdown(main),
    )
    return [sheet for sheet in found if sheet is not None]


def parts_of_arms(found: Sequence[Row]) -> list[Sheet]:
    """Where the bytes are of what was trained, an arm a method."""
    table = breakdown(as_cases(arms(found)))
    return [] if table is None else [table]
