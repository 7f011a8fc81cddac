"""The table of the memory law, and what becomes of a fit that is no line."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest
import synthetic_records as synthetic

from bench import law
from bench.record import Record
from reports import export, figures, units
from reports.fitted import fitted
from reports.frame import frame, rows
from reports.measured import measured
from reports.sheets import Sheet
from reports.verdict import verdict

OFF = 8 * 2**20


def bent(method: str = "checkpoint") -> list[Record]:
    """A run whose `method` is off its line at the middle depth."""
    return [
        synthetic.full(record.case(), activation_bytes=(record.activation_bytes or 0) + OFF)
        if (record.method, record.depth) == (method, 12)
        else record
        for record in synthetic.depth_suite()
    ]


def sheet_of(records: list[Record]) -> Sheet:
    sheet = fitted(rows(frame(records)))
    assert sheet is not None
    return sheet


def texts(sheet: Sheet, index: int) -> list[str]:
    """The cells of a line, with what stands on a second line of each."""
    return [f"{cell.text} ({cell.extra})" if cell.extra else cell.text for cell in sheet.lines[index].cells]


def test_the_frame_has_the_law_of_the_bench() -> None:
    """Slope, intercept, deviation and floor of each case are those that `bench.law` fits, as numbers."""
    records = bent()
    fits = {one.series.method: one for one in law.laws(records)}
    for row in rows(frame(records)):
        one = fits[row["method"]]
        assert row["bits_per_activation"] == one.bits_per_activation
        assert row["law_intercept_bytes"] == float(one.intercept_bytes)
        assert row["law_slope_bytes"] == float(one.slope_bytes)
        assert row["law_deviation_bytes"] == float(one.deviation_bytes)
        assert (row["law_linear"], row["law_floor_bits"]) == (one.linear, one.floor_bits)


def test_a_method_is_a_line() -> None:
    """Each method has a, b in bytes and in bits, its floor, b over the floor, the depths and whether it is a line."""
    sheet = sheet_of(synthetic.depth_suite())
    assert sheet.title.startswith("memory law · gpt · width 256")
    assert "depth" not in sheet.title.split("law", 1)[1]
    assert [f"{column.heading} {column.unit}".strip() for column in sheet.columns] == [
        "method", "a MiB", "b KiB/block", "b bits/act.", "floor bits/act.", "over floor", "depths", "line",
    ]  # fmt: skip
    assert [texts(sheet, index) for index in range(5)] == [
        ["standard", "40.0", "32768.0", "512", "—", "—", "6, 12, 24", "yes"],
        ["checkpoint", "44.0", "2048.0", "32.0", "32", "1.00×", "6, 12, 24", "yes"],
        ["bdia-stored", "40.0", "34560.0", "540", "—", "—", "6, 12, 24", "yes"],
        ["bdia-naive", "44.0", "0", "0.00", "0", "—", "6, 12, 24", "yes"],
        ["bdia", "44.0", "64.0", "1.00", "1", "1.00×", "6, 12, 24", "yes"],
    ]


def test_no_line_is_called_none_everywhere() -> None:
    """A fit that is no line says by how much, here; elsewhere there is no slope in its place."""
    records = bent()
    (found,) = [one for one in law.laws(records) if one.series.method == "checkpoint"]
    assert found.linear is False
    sheet = sheet_of(records)
    assert texts(sheet, 1)[-1] == f"no (off by up to {units.size(round(found.deviation_bytes))})"
    assert texts(sheet, 1)[5] == "—"
    assert texts(sheet, 0)[-1] == "yes"
    main = measured(rows(frame(records)))
    assert main is not None
    column = [f"{one.heading}{one.unit}" for one in main.columns].index("bits/act.")
    shown = {line.cells[1].text: line.cells[column].text for line in main.lines}
    assert (shown["checkpoint"], shown["bdia"]) == ("no line", "1.00")
    labels = [text.get_text() for text in figures.memory_depth(frame(records)).texts]
    assert "checkpoint  no line" in labels
    assert "bdia  1.00" in labels
    assert "no line" in export.markdown(frame(records))


def test_the_verdict_tells_the_law() -> None:
    """The sentence has bits and floor, or says that the points are on no line."""
    assert "adds 1.00 bits an activation and block (floor 1), runs" in verdict(frame(synthetic.depth_suite()))
    assert "does not grow along a line in depth, runs" in verdict(frame(bent("bdia")))
    assert "adds" not in verdict(frame(synthetic.depth_suite((6,))))
    alone = verdict(frame(synthetic.depth_suite(methods=("standard",))))
    assert alone.endswith("holds 808.0 MiB of activations, and adds 512 bits an activation and block.")


def test_two_depths_make_no_claim() -> None:
    """Two points are always on a line, so the table says that there were but two."""
    assert {texts(sheet_of(synthetic.depth_suite((6, 12))), index)[-1] for index in range(5)} == {"two depths"}
    assert fitted(rows(frame(synthetic.depth_suite((6,))))) is None
    assert fitted([]) is None


def test_many_depths_are_told_by_their_ends() -> None:
    """A long range is its ends and how many depths there are."""
    sheet = sheet_of(synthetic.depth_suite(tuple(range(2, 13)), ("bdia",)))
    assert texts(sheet, 0)[-2] == "2–12 (11)"


def test_each_series_has_a_line() -> None:
    """Models, seeds and γ are laws of their own; a failed depth is not among those fitted."""
    others = [msgspec.structs.replace(record, model="other") for record in synthetic.depth_suite((6, 12), ("bdia",))]
    seeds = [synthetic.full(synthetic.case("bdia", depth=depth, seed=1)) for depth in (6, 12, 24)]
    gammas = [synthetic.full(synthetic.case("bdia", depth=depth, gamma="0.25")) for depth in (6, 12, 24)]
    lost = synthetic.failed(synthetic.case("bdia", depth=48), "oom", "no room")
    sheet = sheet_of([*synthetic.depth_suite(methods=("bdia",)), *others, *seeds, *gammas, lost])
    headings = [column.heading for column in sheet.columns][:4]
    assert headings == ["model", "seed", "method", "γ"]
    shown = {tuple(cell.text for cell in line.cells[:4]): line.cells[-2].text for line in sheet.lines}
    assert shown == {
        ("gpt", "0", "bdia", "0.25"): "6, 12, 24",
        ("gpt", "0", "bdia", "0.5"): "6, 12, 24",
        ("gpt", "1", "bdia", "0.5"): "6, 12, 24",
        ("other", "0", "bdia", "0.5"): "6, 12",
    }


def test_the_floor_of_a_gamma_is_its_own() -> None:
    """|γ| = ¼ keeps two bits, so one bit is half its floor."""
    sheet = sheet_of([synthetic.full(synthetic.case("bdia", depth=depth, gamma="0.25")) for depth in (6, 12, 24)])
    assert texts(sheet, 0)[3:6] == ["1.00", "2", "0.50×"]


@pytest.mark.parametrize("slope", [Fraction(-5), Fraction(3)])
def test_odd_slopes_are_shown(slope: Fraction) -> None:
    """A method that shrinks with depth, or adds a few bytes, has its numbers and no crash."""
    records = [
        synthetic.full(synthetic.case("bdia-naive", depth=depth), activation_bytes=int(1000 + slope * depth))
        for depth in (6, 12, 24)
    ]
    assert texts(sheet_of(records), 0)[1:3] == ["1000", str(slope)]
