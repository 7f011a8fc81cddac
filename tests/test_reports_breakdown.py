"""Where the bytes are: the table, and what of it is exported."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
import synthetic_records as synthetic

from bench import parts
from bench.record import Record
from reports import export, units
from reports.breakdown import FIGURES, HEADINGS, breakdown, held, points
from reports.frame import frame, rows
from reports.sheets import Sheet

MIB = 2**20


def sheet_of(records: list[Record]) -> Sheet:
    sheet = breakdown(rows(frame(records)))
    assert sheet is not None
    return sheet


def cells(sheet: Sheet) -> list[dict[str, str]]:
    """Each line's cells by heading, on one line of text."""
    headings = [f"{column.heading} {column.unit}".strip() for column in sheet.columns]
    return [dict(zip(headings, (cell.text for cell in line.cells), strict=True)) for line in sheet.lines]


def test_parts_add_up_to_the_figure_to_the_byte() -> None:
    """Of every case, the parts of a figure sum to what was measured, in the order of their names."""
    for row in rows(frame(synthetic.quick_suite())):
        for figure in FIGURES:
            found = held(row, figure)
            assert (found is None) == (row[figure.total] is None)
            if found is not None:
                assert sum(found.values()) == row[figure.total]
                assert list(found) == [name for name in parts.NAMES if name in found]


@pytest.mark.parametrize("missing", [4096, -4096])
def test_what_the_parts_leave_is_other(missing: int) -> None:
    """Parts that miss the figure, by more or by less, are made up for under `other`."""
    record = synthetic.full(synthetic.case())
    figure = (record.activation_bytes or 0) + missing
    (row,) = rows(frame([msgspec.structs.replace(record, activation_bytes=figure)]))
    found = held(row, FIGURES[0])
    assert found is not None
    assert found["other"] == 512 + missing
    assert sum(found.values()) == figure


def test_a_line_holds_the_parts_in_one_unit() -> None:
    """Each method has a line a figure; the numbers are the records', and the last is the figure."""
    sheet = sheet_of(synthetic.quick_suite())
    assert sheet.title.startswith("where the bytes are, in MiB · gpt · depth 24 · ")
    found = cells(sheet)
    assert [(line["of"], line["method"]) for line in found] == [
        (figure.name, method) for figure in FIGURES for method in synthetic.METHODS
    ]
    record = synthetic.full(synthetic.case("bdia", depth=24))
    peak = found[-1]
    assert record.peak_parts is not None
    for name, size in parts.totals(record.peak_parts).items():
        heading = " ".join(filter(None, HEADINGS[name]))
        assert peak[heading] == ("<0.01" if name == "other" else f"{size / MIB:.2f}"), name
    assert peak["total"] == f"{(record.peak_bytes or 0) / MIB:.2f}"


def test_columns_are_the_parts_that_occur() -> None:
    """Parts come in their order; one that no case has is no column, one that a figure does not count is blank there."""
    sheet = sheet_of(synthetic.depth_suite((6,)))
    headings = [f"{column.heading} {column.unit}".strip() for column in sheet.columns]
    assert headings == [
        "of", "method", "params", "grads", "optim. state", "batch", "resid. states", "side bits", "blocks",
        "head, loss", "other", "total",
    ]  # fmt: skip
    activations, peak = cells(sheet)[0], cells(sheet)[5]
    assert (activations["params"], peak["params"]) == ("", "18.500")
    assert (activations["side bits"], peak["side bits"]) == ("0", "0")
    without = synthetic.depth_suite((6,), ("standard", "checkpoint"))
    assert "side" not in [column.heading for column in sheet_of(without).columns]


def test_only_the_deepest_point_is_shown() -> None:
    """Of several depths and seeds the table has the deepest and the first, and says so in its title."""
    seeds = [synthetic.full(synthetic.case(method, depth=24, seed=1)) for method in synthetic.METHODS]
    sheet = sheet_of(synthetic.depth_suite() + seeds)
    assert "depth 24" in sheet.title
    assert "seed 0" in sheet.title
    assert len(sheet.lines) == 2 * len(synthetic.METHODS)


def test_each_model_has_its_point() -> None:
    """Settings that differ in another axis than size stand one below the other, with the axis as a column."""
    smaller = synthetic.depth_suite((6, 12), ("checkpoint", "bdia"))
    others = [msgspec.structs.replace(record, model="other") for record in smaller]
    found = cells(sheet_of(synthetic.depth_suite((6, 24)) + others))
    shown = [(line["of"], line["depth"], line["model"], line["method"]) for line in found]
    assert shown[:7] == [
        *(("activ.", "24", "gpt", method) for method in synthetic.METHODS),
        ("activ.", "12", "other", "checkpoint"),
        ("activ.", "12", "other", "bdia"),
    ]


def test_a_gamma_of_its_own_is_a_row_and_an_l_is_not() -> None:
    """γ decides on the side bits, so each has a row; l decides on no byte, so one of them stands for all."""
    gammas = [synthetic.full(synthetic.case("bdia", gamma=gamma, bits=bits)) for gamma in ("0.5", "0.25")
              for bits in (6, 9, 12)]  # fmt: skip
    sheet = sheet_of(gammas)
    assert [line["γ"] for line in cells(sheet)] == ["0.25", "0.5"] * 2
    assert "l 9" in sheet.title


def test_a_failed_case_is_a_row_with_its_status() -> None:
    """Where most methods have parts, one that failed stands among them with its status for a total."""
    records = synthetic.depth_suite((12,), ("standard", "checkpoint"))
    records.append(synthetic.failed(synthetic.case("bdia"), "oom", "no room"))
    found = cells(sheet_of(records))
    lost = [line for line in found if line["method"] == "bdia"]
    assert [line["total"] for line in lost] == ["oom", "oom"]
    assert {line["blocks"] for line in lost} == {"—"}


def test_the_point_is_one_that_shows_the_methods() -> None:
    """A depth that all but one failed at is not the one to compare methods at."""
    (standard,) = points(rows(frame(synthetic.failing_suite())))[:1]
    assert {row["depth"] for row in standard} == {24}
    assert len(standard) == len(synthetic.METHODS)


def test_records_without_parts_make_no_table() -> None:
    """Older records, failed cases and an empty run have none."""
    old = [
        msgspec.structs.replace(record, activation_parts=None, peak_parts=None) for record in synthetic.depth_suite()
    ]
    failed = [record for record in synthetic.failing_suite() if record.status != "ok"]
    for records in (old, failed, []):
        assert breakdown(rows(frame(records))) is None
    half = [msgspec.structs.replace(record, peak_parts=None) for record in synthetic.depth_suite((6,))]
    assert {line["of"] for line in cells(sheet_of(half))} == {"activ."}


def test_a_part_that_rounds_to_nothing_is_not_called_zero() -> None:
    """512 bytes among megabytes are less than the last digit, and said to be."""
    assert {line["other"] for line in cells(sheet_of(synthetic.depth_suite((6,))))} == {"<0.001"}
    assert units.ByteScale("MiB", 2).number(-512) == "-<0.01"


def test_csv_has_a_column_a_part() -> None:
    """Each part of each figure is a number of bytes, 0 where the figure has none of it, empty without parts."""
    records = synthetic.failing_suite()
    found = {(row["method"], row["depth"]): row for row in csv.DictReader(io.StringIO(export.csv(frame(records))))}
    for record in records:
        row = found[record.method, str(record.depth)]
        for figure in FIGURES:
            of = getattr(record, figure.parts)
            for name in parts.NAMES:
                expected = "" if of is None else str(parts.totals(of).get(name, 0))
                assert row[f"{figure.parts}.{name}"] == expected
            if of is not None:
                sums = sum(int(row[f"{figure.parts}.{name}"]) for name in parts.NAMES)
                assert sums == getattr(record, figure.total)


def test_what_a_method_does_not_tell_is_a_dash() -> None:
    """Side bits of a case whose `side_bytes` is null are not known, and no 0; of a case without any they are 0."""
    told, untold = (synthetic.full(synthetic.case(method)) for method in ("bdia", "standard"))
    silent = msgspec.structs.replace(untold, side_bytes=None)
    for record, shown in ((untold, "0"), (silent, units.MISSING)):
        of = {line["method"]: line["side bits"] for line in cells(sheet_of([told, record])) if line["of"] == "activ."}
        assert of["standard"] == shown
        assert of["bdia"] not in ("0", units.MISSING)
