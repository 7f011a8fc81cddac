"""The tables as they are printed, and the sheets behind them."""

from __future__ import annotations

import io

import msgspec
import pytest
import synthetic_records as synthetic
from rich.cells import cell_len
from rich.console import Console

from bench.compare import compare
from bench.record import BlockError, Record
from reports import tables, units
from reports.compared import compared
from reports.contents import sheets
from reports.frame import frame, rows
from reports.measured import measured
from reports.reconstructed import partition, reconstructed
from reports.sheets import Line, Sheet

SUITES: dict[str, list[Record]] = {
    "frontier": synthetic.frontier_suite(),
    "depth": synthetic.depth_suite(),
    "failing": synthetic.failing_suite(),
    "bits": synthetic.bits_suite(),
    "width": synthetic.width_suite(),
    "batch": synthetic.batch_suite(),
    "fig1": synthetic.fig1_suite(),
    "quick": synthetic.quick_suite(),
    "one": [synthetic.full(synthetic.case())],
    "only failed": [record for record in synthetic.failing_suite() if record.status != "ok"],
    "empty": [],
}


def printed(records: list[Record], width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(tables.tables(frame(records), width=width))
    return stream.getvalue()


def main_sheet(records: list[Record]) -> Sheet:
    sheet = measured(partition(rows(frame(records)))[0])
    assert sheet is not None
    return sheet


def cells(sheet: Sheet, line: Line) -> dict[str, str]:
    """The cells of a line by heading; the second of two like headings has a 2."""
    found: dict[str, str] = {}
    for column, cell in zip(sheet.columns, line.cells, strict=True):
        found[column.heading if column.heading not in found else f"{column.heading} 2"] = cell.text
    return found


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("suite", SUITES)
def test_no_line_is_broken_or_cut(suite: str, width: int) -> None:
    """At any usual width every cell is shown whole, and no line is longer than the page."""
    text = printed(SUITES[suite], width)
    assert "…" not in text
    assert max((cell_len(line) for line in text.splitlines()), default=0) <= width
    for sheet in sheets(frame(SUITES[suite])):
        for line in sheet.lines:
            for cell in line.cells:
                assert cell.text in text
                assert cell.extra in text


def test_every_case_is_a_row() -> None:
    """Failed cases are rows like the others."""
    records = SUITES["failing"]
    sheet = main_sheet(records)
    shown = [(cells(sheet, line)["depth"], cells(sheet, line)["method"]) for line in sheet.lines]
    assert sorted(shown) == sorted((str(record.depth), record.method) for record in records)


def test_a_failed_case_shows_its_status_and_no_number() -> None:
    """A status is a cell, its message a note, everything else of the row a dash."""
    sheet = main_sheet(SUITES["failing"])
    found = {(row["depth"], row["method"]): row for row in (cells(sheet, line) for line in sheet.lines)}
    timeout = found["48", "checkpoint"]
    assert timeout["peak"] == "timeout ²"
    assert {timeout[name] for name in timeout if name not in ("depth", "method", "peak")} == {"—"}
    assert found["48", "standard"]["peak"] == found["48", "bdia-stored"]["peak"] == "oom ¹"
    assert sheet.notes[0] == "¹ needed more than the 8.0 GiB there are"


def test_a_skipped_case_is_a_row_with_its_reason() -> None:
    """A case that was left out has its status where its numbers would be, and one of which only a part was left out
    has its status in place of that part."""
    whole, part = (synthetic.case("standard", depth=depth) for depth in (48, 96))
    records = [
        *synthetic.depth_suite((12, 24)),
        synthetic.failed(whole, "skipped", "larger than depth=32"),
        synthetic.full(part, status="skipped", message="throughput left out", step_seconds=None, tokens_per_second=None,
                       samples_per_second=None, rounds_id=None),
    ]  # fmt: skip
    sheet = main_sheet(records)
    rest, last = (cells(sheet, line) for line in sheet.lines[-2:])
    assert rest["peak"].startswith("skipped")
    assert last["rate"].startswith("skipped")
    assert not last["peak"].startswith("skipped")
    assert {"larger than depth=32", "throughput left out"} <= {note.partition(" ")[2] for note in sheet.notes}


def test_an_unsupported_case_shows_its_error_all_the_same() -> None:
    """Beyond the cliff the row has a status and the error that was measured."""
    sheet = main_sheet(SUITES["bits"])
    last = cells(sheet, sheet.lines[-1])
    assert (last["method"], last["l"]) == ("bdia", "20")
    assert last["peak"].startswith("unsupported")
    assert last["worst"] == units.error(3 * 2.0 ** (12 - 20))
    assert last["exact"] == "no"


def test_cells_say_what_was_measured() -> None:
    """The cells of a row are its record's numbers, formatted."""
    of = synthetic.case("bdia", depth=12)
    sheet = main_sheet(SUITES["depth"])
    row = next(
        row for row in (cells(sheet, line) for line in sheet.lines) if (row["depth"], row["method"]) == ("12", "bdia")
    )
    size, whole = synthetic.activation_bytes(of), synthetic.activation_bytes(synthetic.case("standard", depth=12))
    mib = units.ByteScale("MiB", 1)
    assert row["activ."] == mib.number(size)
    assert row["vs"] == units.ratio(size / whole)
    assert row["side"] == units.ByteScale("KiB", 1).number(12 * synthetic.elements(of) // 8)
    assert (row["bits/"], row["worst"], row["exact"], row["gradient"]) == ("1.00", "0 (exact)", "yes", "0 (exact)")
    assert cells(sheet, sheet.lines[0])["worst"] == "—"


def test_only_axes_that_vary_are_columns() -> None:
    """An axis with one value is in the title, one with several a column, heads that follow from the width neither."""
    sheet = main_sheet(SUITES["width"])
    assert [column.heading for column in sheet.columns[:2]] == ["width", "method"]
    assert "depth 12" in sheet.title
    assert "width" not in sheet.title
    assert not [column for column in main_sheet(SUITES["depth"]).columns if column.heading in ("l", "width", "seed")]


def test_gamma_is_a_column_where_it_varies() -> None:
    """Several γ of a method are told apart behind it, in order of size; one γ is in the title unless it is ±½."""
    cases = [synthetic.case("bdia", gamma=gamma) for gamma in ("0.5", "0.25", "0.125")]
    sheet = main_sheet([synthetic.full(synthetic.case("standard")), *map(synthetic.full, cases)])
    rows_ = [cells(sheet, line) for line in sheet.lines]
    assert [(row["method"], row["γ"]) for row in rows_] == [
        ("standard", "—"), ("bdia", "0.125"), ("bdia", "0.25"), ("bdia", "0.5"),
    ]  # fmt: skip
    assert "γ" not in main_sheet([synthetic.full(cases[0])]).title
    assert main_sheet([synthetic.full(cases[0], verify=True)]).title.endswith(" · verified")
    assert "γ 0.25" in main_sheet([synthetic.full(cases[1])]).title


def test_gammas_are_told_apart_in_the_table_of_reconstructions() -> None:
    """Seeds are taken together for each γ."""
    records = [
        synthetic.reconstruction_only(synthetic.case("bdia-naive", seed=seed, gamma=gamma))
        for gamma in ("0.5", "uniform:0.5")
        for seed in range(3)
    ]
    sheet = reconstructed(partition(rows(frame(records)))[1])
    assert sheet is not None
    assert [(cells(sheet, line)["γ"], cells(sheet, line)["seeds"]) for line in sheet.lines] == [
        ("0.5", "3"), ("uniform:0.5", "3"),
    ]  # fmt: skip


def test_what_a_method_does_to_the_loss_is_shown_where_it_does() -> None:
    """The loss over the plain one is a column as soon as some method has another, and none where all have the same."""
    plain = synthetic.full(synthetic.case("standard"), loss_plain=5.25, loss_method=5.25)
    other = synthetic.full(synthetic.case("bdia"), loss_plain=5.25, loss_method=5.5)
    sheet = main_sheet([plain, other])
    assert [cells(sheet, line)["loss"] for line in sheet.lines] == ["0", "+0.250"]
    assert "loss" not in cells(main_sheet([plain]), main_sheet([plain]).lines[0])


def test_an_error_that_is_not_finite_says_so() -> None:
    """A reconstruction that overflowed is neither a dash nor a number."""
    lost = BlockError(block=0, max_abs_error=None, rms_error=None, relative_error=None, mismatched=1)
    sheet = main_sheet([synthetic.full(synthetic.case("bdia-naive"), reconstruction=[lost])])
    assert cells(sheet, sheet.lines[0])["worst"] == "not finite"


def test_what_an_ok_case_has_to_say_is_a_note() -> None:
    """A message on a case that ended well is marked at its method."""
    sheet = main_sheet(
        [synthetic.full(synthetic.case("bdia-naive"), gradient_error=None, message="gradients not finite")]
    )
    assert cells(sheet, sheet.lines[0])["method"] == "bdia-naive ¹"
    assert sheet.notes == ("¹ gradients not finite",)


def test_seeds_are_summed_up_by_median_and_range() -> None:
    """The table of reconstructions has a row for all seeds of a case."""
    sheet = reconstructed(partition(rows(frame(SUITES["fig1"])))[1])
    assert sheet is not None
    assert len(sheet.lines) == 4
    first = [synthetic.naive_errors(synthetic.case("bdia-naive", seed=seed))[0] for seed in range(5)]
    naive = sheet.lines[0].cells
    assert [cell.text for cell in naive[:3]] == ["0", "bdia-naive", "5"]
    assert naive[3].text == units.error(sorted(first)[2])
    assert naive[3].extra == units.error_range(min(first), max(first))
    exact = sheet.lines[1].cells
    assert [cell.text for cell in exact[3:]] == ["0 (exact)", "0 (exact)", "—", "yes"]


def test_reconstructions_are_a_table_of_their_own() -> None:
    """Cases without memory and time are not rows of the main table, but share theirs with the like of them."""
    main, second = partition(rows(frame(SUITES["quick"])))
    assert {row["suite"] for row in main} == {"quick"}
    assert {row["depth"] for row in second} == {12}
    assert sum(row["suite"] == "quick" for row in second) == 2


def test_a_failed_seed_is_counted() -> None:
    """A seed that failed stays in sight in the table of reconstructions."""
    records = [
        *synthetic.fig1_suite(seeds=2, train_steps=(0,)),
        synthetic.failed(synthetic.case(seed=2), "timeout", "late"),
    ]
    main, second = partition(rows(frame(records)))
    assert main == []
    sheet = reconstructed(second)
    assert sheet is not None
    assert [line.cells[1].text for line in sheet.lines] == ["2", "2 (1 timeout) ¹"]
    assert sheet.notes == ("¹ bdia seed=2: timeout, late",)


def test_a_narrow_page_loses_no_column() -> None:
    """Where a table does not fit it becomes two, about as wide each, with the same headings between them."""
    wide, narrow = printed(SUITES["depth"], 140), printed(SUITES["depth"], 80)
    for sheet in sheets(frame(SUITES["depth"])):
        for column in sheet.columns:
            assert column.heading in wide
            assert column.heading in narrow
    assert [line.split()[-1] for line in wide.splitlines() if "method" in line.split()] == ["gradient", "line", "total"]
    assert [line.split()[-1] for line in narrow.splitlines() if "method" in line.split()] == [
        "bits/", "gradient", "line", "resid.", "total",
    ]  # fmt: skip


def test_a_page_as_wide_as_one_column_shows_them_all() -> None:
    """However narrow the page, every column is shown, behind the labels; a legend is printed once."""
    text = printed(SUITES["depth"], 32)
    for sheet in sheets(frame(SUITES["depth"])):
        for index, column in enumerate(sheet.columns):
            assert column.heading in text
            assert all(line.cells[index].text in text for line in sheet.lines)
    assert "…" not in text
    assert text.count("memory law:") == 1


def test_markup_in_a_message_is_text() -> None:
    """Brackets in what a case said are shown, not read as a style."""
    record = synthetic.failed(synthetic.case(), "error", "expected [bold]x[/bold]")
    assert "[bold]x[/bold]" in printed([record], 100)


def test_a_record_is_a_line_of_progress() -> None:
    """A row as it comes names the case, and what was measured or went wrong."""
    done = tables.row(synthetic.full(synthetic.case("bdia", depth=6))).plain
    assert done.startswith("bdia gpt depth=6")
    assert "44.4 MiB" in done
    assert "0 (exact)" in done
    assert tables.row(synthetic.failed(synthetic.case(), "oom", "no\nroom")).plain.endswith("oom  no room")


def test_two_runs_stand_side_by_side() -> None:
    """The comparison has a row a case with its worst verdict, and notes on what no column shows."""
    base = synthetic.depth_suite((6,))
    head = [
        msgspec.structs.replace(base[0], activation_bytes=(base[0].activation_bytes or 0) + 1),
        *base[1:3],
        synthetic.failed(base[3].case(), "oom", "no room"),
        msgspec.structs.replace(base[4], side_bytes=1),
    ]
    sheet = compared(compare(base, head))
    assert sheet is not None
    found = {line.cells[0].text: [cell.text for cell in line.cells] for line in sheet.lines}
    assert found["standard"][3] == "+<0.01%"
    assert [found[record.method][-1] for record in base] == ["worse", "same", "same", "newly failing", "better"]
    assert found["bdia-naive"][1:4] == ["ok", "oom", "—"]
    assert sheet.notes == (
        "no column shows:",
        f"  bdia: better, side_bytes {units.integer(base[4].side_bytes)} → 1",
    )
    assert compared([]) is None
    stream = io.StringIO()
    Console(file=stream, width=80).print(tables.table(sheet, width=80))
    assert "…" not in stream.getvalue()


def test_compared_cases_come_in_the_order_of_the_grid() -> None:
    """A case that only one of the runs has stands where the grid has it, with its status and how it ended."""
    first, second, third = (synthetic.full(synthetic.case(depth=depth)) for depth in (2, 3, 4))
    failing = synthetic.failed(synthetic.case(depth=3), "timeout", "late")
    for head, cells in ((second, ["—", "ok"]), (failing, ["—", "timeout"])):
        sheet = compared(compare([first, third], [first, head, third]))
        assert sheet is not None
        assert [line.cells[0].text for line in sheet.lines] == ["2", "3", "4"]
        assert [cell.text for cell in sheet.lines[1].cells[2:4]] == cells
        assert sheet.lines[1].cells[-1].text == "new"
    both = compared(compare([failing], [failing]))
    assert both is not None
    assert [cell.text for cell in both.lines[0].cells[1:3]] == ["timeout", "timeout"]
