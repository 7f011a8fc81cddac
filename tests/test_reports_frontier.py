"""The table, the verdict and the figures of a frontier."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest
import synthetic_records as synthetic
from synthetic_records import MIB, REACH

from bench.record import Record
from reports import contents, figures
from reports.frame import frame, rows
from reports.frontier import largests, sheet
from reports.verdict import verdict

RECORDS = synthetic.frontier_suite()


def told(records: list[Record]) -> list[list[str]]:
    found = sheet(largests(rows(frame(records))))
    assert found is not None
    return [[cell.text for cell in line.cells] for line in found.lines]


def changed(records: list[Record], method: str, **fields: Any) -> list[Record]:
    """The records with all of a method's changed alike."""
    return [msgspec.structs.replace(one, **fields) if one.method == method else one for one in records]


def test_a_row_has_the_largest_and_both_rates() -> None:
    """A row a method and setting: the largest value, over standard's, its peak, the rate there and at the equal one."""
    assert told(RECORDS) == [
        ["standard", "—", "9", "1.00×", "490.0", "12.8k", "—", "12.8k", "—", "4"],
        ["checkpoint", "1", "42", "4.67×", "508.0", "9,984", "0.78×", "9,984", "0.78×", "5"],
        ["bdia", "1", "47", "5.22×", "507.0", "9,472", "0.74×", "9,472", "0.74×", "5"],
        ["bdia", "2", "76", "8.44×", "511.0", "8,960", "0.70×", "8,960", "0.70×", "5"],
        ["bdia", "4", "105", "11.7×", "509.0", "8,192", "0.64×", "8,192", "0.64×", "5"],
    ]


def test_how_surely_is_told() -> None:
    """An answer that is open upwards, one within a bracket, none at all and one that an error stood in the way of."""
    without = [one for one in RECORDS if not (one.method == "standard" and one.status == "oom")]
    without = [one for one in without if not (one.method == "checkpoint" and one.batch == 42)]
    nothing = [one for one in without if not (one.method == "bdia" and one.micro_batches == 1) or one.batch == 1]
    nothing = [
        msgspec.structs.replace(one, status="error", message="no such thing")
        if (one.method, one.micro_batches) == ("bdia", 1) else one
        for one in nothing
    ]  # fmt: skip
    assert [row[2] for row in told(nothing)] == ["≥ 9", "9 to 42", "stopped", "76", "105"]
    shown = sheet(largests(rows(frame(nothing))))
    assert shown is not None
    assert shown.notes == ("¹ no such thing",)


def test_probes_stay_out_of_the_tables_of_cases() -> None:
    """Below the frontier the main table has what was timed, and no probe that only tells where the limit is."""
    first, main, *_ = contents.sheets(frame(RECORDS))
    assert first.name == "frontier"
    assert len(main.lines) == sum(one.step_seconds is not None for one in RECORDS) == 9
    assert "frontier" not in {one.name for one in contents.sheets(frame(synthetic.quick_suite()))}


def test_the_sentence_says_how_far_and_at_what_cost() -> None:
    """It speaks of what goes furthest, beside standard and the best rival, of both rates, and of what is removable."""
    assert verdict(frame(RECORDS)) == (
        "Within 512.0 MiB, bdia (micro-batches 4) trains batch 105 where standard trains batch 9 and checkpoint batch "
        "42, at 0.64× standard's rate and at 0.64× where both train batch 9; at most 73.9% of standard's peak is "
        "removable."
    )


def test_the_sentence_says_where_not_to_bother() -> None:
    """Where blocks hold little of standard's peak, the share is said, and that it is not worth it."""
    little = {"parameters": 470 * MIB, "block": 20 * MIB}
    said = verdict(frame(changed(RECORDS, "standard", peak_parts=little)))
    assert said.startswith("Don't bother: at most 4.1% of standard's peak is removable")
    assert "standard trains batch 9, bdia batch 105" in said


def test_the_sentence_says_where_nothing_goes_further() -> None:
    """Where standard goes as far as any, it says so."""
    reach = {key: (base, 40, rate) for key, (base, _, rate) in REACH.items()}
    said = verdict(frame(synthetic.frontier_suite(reach=reach)))
    assert said.startswith("Don't bother: within 512.0 MiB no method goes much further than standard, batch 9")


def test_the_sentence_says_where_standard_does_not_fit() -> None:
    """Where standard has no batch at all, what goes furthest is compared with that."""
    reach = REACH | {("standard", 1): (600, 40, 1.0)}
    said = verdict(frame(synthetic.frontier_suite(reach=reach)))
    assert "trains batch 105 where standard does not fit at all" in said


def test_the_sentence_names_what_standard_does_in_parts() -> None:
    """A step of standard's own in parts is a rival like any other."""
    parts = [
        msgspec.structs.replace(one, method="standard", accumulate=4) for one in RECORDS if one.method == "checkpoint"
    ]
    said = verdict(frame([*RECORDS, *parts]))
    assert "where standard trains batch 9, standard (accumulate 4) batch " in said
    assert " and checkpoint batch " in said


def test_the_sentence_says_where_nothing_fits() -> None:
    """And where no method has any, down to which value that was tried."""
    reach = {key: (600, 40, 1.0) for key in REACH if key[1] == 1}
    assert verdict(frame(synthetic.frontier_suite(reach=reach))) == "Nothing fits 512.0 MiB, not even batch 1."


def plotted(directory: Path, name: str, records: list[Record]) -> list[dict[str, str]]:
    figures.save(name, frame(records), directory, ["svg"])
    return list(csv.DictReader((directory / f"{name}.csv").read_text(encoding="utf-8").splitlines()))


def test_the_bars_are_the_largest_values(tmp_path: Path) -> None:
    """The CSV of `frontier` has each method's largest value and the rate there; so long are its bars."""
    found = plotted(tmp_path, "frontier", RECORDS)
    assert [(row["method"], row["largest"]) for row in found] == [
        ("standard", "9"), ("checkpoint", "42"), ("bdia", "47"), ("bdia", "76"), ("bdia", "105"),
    ]  # fmt: skip
    assert [float(row["rate_ratio"] or 1) for row in found] == pytest.approx([1, 0.78, 0.74, 0.70, 0.64])
    ax = figures.frontier(frame(RECORDS))
    assert [patch.get_width() for patch in ax.patches] == [9, 42, 47, 76, 105]


def test_the_limit_is_drawn_over_every_probe(tmp_path: Path) -> None:
    """The CSV of `limit` has every probe; those without bytes are crosses, and the limit is a line at its height."""
    found = plotted(tmp_path, "limit", RECORDS)
    assert len(found) == len(RECORDS)
    assert {row["limit_bytes"] for row in found} == {str(512 * MIB)}
    ax = figures.limit(frame(RECORDS))
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert sorted(x for line in crosses for x in line.get_xdata()) == [10, 43, 48, 77, 106]
    assert any(list(line.get_ydata()) == [512, 512] for line in ax.lines)


def test_only_what_is_beaten_in_both_lies_behind_the_front(tmp_path: Path) -> None:
    """A point is on the front unless another has no more memory and is no slower, and is better in one; checked against
    every other, for a run that is no frontier."""
    records = synthetic.depth_suite((12,))
    found = plotted(tmp_path, "pareto", records)
    assert len(found) == len(records)
    values = [(float(row["peak_bytes"]), -float(row["rate_ratio"] or 1), row["on_front"] == "True") for row in found]
    for (memory, cost, front), others in ((one, [other for other in values if other is not one]) for one in values):
        beaten = any(m <= memory and c <= cost and (m, c) != (memory, cost) for m, c, _ in others)
        assert front is not beaten
    assert {front for *_, front in values} == {True, False}


def test_settings_of_the_dial_are_points_of_their_own() -> None:
    """`pareto` has a point for each number of micro-batches, all at one batch, with the dial beside it."""
    ax = figures.pareto(frame(RECORDS))
    points = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert len(points) == 5
    assert {text.get_text() for text in ax.texts} == {"m 2", "m 4"}
    stairs = max((line for line in ax.lines), key=lambda line: len(line.get_xdata()))
    assert stairs.get_drawstyle() == "steps-post"
    assert all(one < other for one, other in itertools.pairwise(stairs.get_ydata()))
