"""What a report holds, in its order."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.breakdown import breakdown
from reports.fitted import fitted
from reports.frame import rows
from reports.measured import measured
from reports.reconstructed import partition, reconstructed
from reports.settings import Row
from reports.sheets import Sheet


def sheets(frame: pd.DataFrame, limit: int | None = None) -> list[Sheet]:
    """All tables: what was measured, reconstructions, the memory law, where the bytes are; as far as there are rows.
    Of one with more than `limit` rows how it begins."""
    main, second = partition(rows(frame))
    first = measured(main, limit=limit, beginning=True)
    return [*([] if first is None else [first]), *below(main, second, limit, beginning=True)]


def below(
    main: Sequence[Row], second: Sequence[Row], limit: int | None = None, *, beginning: bool = False
) -> list[Sheet]:
    """The tables below the main one, of the rows that `partition` makes; of one with more than `limit` an excerpt, or
    its `beginning` alone."""
    found = (
        reconstructed(second, limit, beginning=beginning),
        fitted(main, limit, beginning=beginning),
        breakdown(main),
    )
    return [sheet for sheet in found if sheet is not None]
