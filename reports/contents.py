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


def sheets(frame: pd.DataFrame) -> list[Sheet]:
    """All tables: what was measured, reconstructions, the memory law, where the bytes are; as far as there are rows."""
    main, second = partition(rows(frame))
    first = measured(main)
    return [*([] if first is None else [first]), *below(main, second)]


def below(main: Sequence[Row], second: Sequence[Row], limit: int | None = None) -> list[Sheet]:
    """The tables below the main one, of the rows that `partition` makes; an excerpt of one with more than `limit`."""
    found = (reconstructed(second, limit), fitted(main, limit), breakdown(main))
    return [sheet for sheet in found if sheet is not None]
