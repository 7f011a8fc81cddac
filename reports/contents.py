"""What a report holds, in its order."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports import frontier
from reports.breakdown import breakdown
from reports.fitted import fitted
from reports.frame import rows
from reports.measured import measured
from reports.reconstructed import partition, reconstructed
from reports.settings import Row
from reports.sheets import Sheet


def sheets(frame: pd.DataFrame, limit: int | None = None) -> list[Sheet]:
    """All tables: the frontier, what was measured, reconstructions, the memory law, where the bytes are; as far as
    there are rows. Of one with more than `limit` rows how it begins."""
    found = rows(frame)
    main, second = parted(found)
    first = measured(main, limit=limit, beginning=True)
    return [*above(found), *([] if first is None else [first]), *below(main, second, limit, beginning=True)]


def above(found: Sequence[Row]) -> list[Sheet]:
    """The table above the main one: that of a frontier, where there is one."""
    table = frontier.sheet(frontier.largests(found))
    return [] if table is None else [table]


def parted(found: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the main table and those of reconstructions, as `partition` has them, without what only tells where
    a limit is."""
    return partition([row for row in found if frontier.worth_a_row(row)])


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
