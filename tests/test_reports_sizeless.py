"""Models that settle their own sizes: records whose axes are null go through every table, figure and comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_records import case as sized
from synthetic_records import full, record

from bench import baseline, compare, rerun
from bench.case import Case, Plan
from bench.estimate import work
from bench.protocol import Job
from bench.record import BlockError, Record
from reports import export, figures
from reports.compared import compared
from reports.frame import frame, rows
from reports.verdict import verdict

NONE: dict[str, Any] = dict.fromkeys(("depth", "width", "heads", "seq", "batch", "vocab"))
BYTES = {"standard": 4000, "checkpoint": 2000, "bdia": 1000}


def case(method: str, **axes: Any) -> Case:
    return sized(method, model="train.py:step", **(NONE | axes))


def measured(method: str, **axes: Any) -> Record:
    exact = [BlockError(block=0, max_abs_error=0.0, rms_error=0.0, relative_error=0.0, mismatched=0)]
    return record(
        case(method, **axes), activation_bytes=BYTES[method], peak_bytes=9000, side_bytes=0, samples=4, blocks=3,
        stream_elements=120, step_seconds=[1.0, 2.0], rounds_id="one", samples_per_second=2.0,
        reconstruction=exact if method == "bdia" else None, bit_exact=True if method == "bdia" else None,
    )  # fmt: skip


def test_the_tables_and_the_verdict_do_without_sizes() -> None:
    """One point of the grid, its ratios and rates, and no bits per activation, as there is no depth to fit."""
    found = frame([measured(method) for method in BYTES])
    assert {row["group"] for row in rows(found)} == {0}
    assert {row["bits_per_activation"] for row in rows(found)} == {None}
    assert [row["activation_ratio"] for row in rows(found)] == [1.0, 0.5, 0.25]
    assert "| bdia |" in export.export(found, "markdown")
    assert verdict(found).startswith("bdia holds 1000 B of activations where standard holds 3.9 KiB")


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        (("activation_bytes", "peak_bytes", "side_bytes", "step_seconds"), "bdia rebuilt every block bit for bit."),
        (("activation_bytes", "peak_bytes", "side_bytes", "reconstruction", "bit_exact"), "only time was measured"),
    ],
)
def test_a_part_of_the_measurements_has_its_sentence(dropped: tuple[str, ...], said: str) -> None:
    """Reconstruction alone, and time alone, are told of without a depth."""
    fields = {name: getattr(measured("bdia"), name) for name in Record.__struct_fields__} | dict.fromkeys(dropped)
    timed = {name: getattr(measured("standard"), name) for name in Record.__struct_fields__} | dict.fromkeys(dropped)
    records = [Record(**fields)] if "step_seconds" in dropped else [Record(**fields), Record(**timed)]
    assert said in verdict(frame(records))


def test_the_figures_that_need_no_size_are_drawn(tmp_path: Path) -> None:
    """Rates and memory against speed, at the one point there is; nothing against an axis that nobody gave."""
    found = frame([measured(method) for method in BYTES])
    assert set(figures.available(found)) >= {"throughput", "memory-speed"}
    assert not {"memory-depth", "memory-width", "memory-batch"} & set(figures.available(found))
    for name in figures.available(found):
        assert all(path.stat().st_size for path in figures.save(name, found, tmp_path))


def test_an_axis_that_was_given_is_swept(tmp_path: Path) -> None:
    """Depth given to a function is an axis like any other, with bits per activation; cases without it stay apart."""
    swept = [measured(method, depth=depth) for depth in (2, 4) for method in BYTES]
    found = frame([*swept, measured("bdia")])
    assert [row["bits_per_activation"] for row in rows(found) if row["method"] == "bdia"] == [None, 0.0, 0.0]
    assert figures.save("memory-depth", found, tmp_path)


def test_comparisons_and_baselines_do_without_sizes() -> None:
    """Cases with and without sizes are sorted, compared, and told how to measure again."""
    records = [full(sized("bdia")), measured("bdia"), measured("bdia", depth=2)]
    assert len(baseline.of_run(records, {}).cases) == 3
    found = compare.compare(records, records)
    assert {one.verdict for one in found} == {"same"}
    assert compared(found) is not None
    assert rerun.command("model", case("bdia", batch=2)).split()[3:] == [
        "--method", "bdia", "--model", "train.py:step", "--batch", "2", "--bits", "9", "--gamma", "0.5",
            "--micro-batches", "1", "--keep", "0", "--accumulate", "1", "--loss-chunks", "1",
        "--dtype", "fp32", "--train-steps", "0", "--device", "cpu", "--seed", "0",
    ]  # fmt: skip


def test_the_time_left_can_be_estimated() -> None:
    """A job of such cases has work, and twice the cases twice as much."""

    def job(*methods: str) -> Job:
        members = tuple(Plan(case=case(method), measure=frozenset({"memory"})) for method in methods)
        return Job(kind="measure", members=members, rounds=1, warmup=1, threads=2, events=-1)

    assert work(job("bdia", "standard")) == 2 * work(job("bdia")) > 0
