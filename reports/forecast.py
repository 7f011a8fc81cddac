"""What `predict` ends with, and what `report` adds where sizes within a limit were asked for."""

from __future__ import annotations

from collections.abc import Sequence

from bench import predict
from bench.fit import Fit
from bench.record import Record
from bench.stored_run import StoredRun
from reports import page, predicted, units
from reports.frame import frame
from reports.verdict import verdict


def show(records: Sequence[Record], measured: StoredRun | None) -> None:
    """The tables and a sentence; with a measured run, its figures beside the predicted ones, and how far these are
    off."""
    found = frame(records)
    page.show(found, "table", verdict(found))
    if measured is not None:
        pairs = predict.pairs(records, measured.records)
        print()
        page.show_sheet(predicted.beside(pairs))
        print(predicted.worst(pairs))


def show_fits(fits: Sequence[Fit], limit: str | None = None) -> None:
    """How deep and how large a batch fits: a table and a sentence for each limit, which is called as it was given."""
    for size in dict.fromkeys(fit.limit_bytes for fit in fits):
        within = [fit for fit in fits if fit.limit_bytes == size]
        called = limit or units.size(size)
        print()
        page.show_sheet(predicted.fitting(within, called))
        print(predicted.sentence(within, called))
