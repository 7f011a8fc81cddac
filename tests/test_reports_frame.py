"""Records to a tidy frame, and what follows from them."""

from __future__ import annotations

import math

import msgspec
import pandas as pd
import pytest
import synthetic_records as synthetic

from bench.record import BlockError, Record
from reports.frame import AXES, blocks, frame, least_squares_slope, rows


def one(found: pd.DataFrame, **axes: object) -> dict[str, object]:
    """The only row with these values."""
    matching = [row for row in rows(found) if all(row[name] == value for name, value in axes.items())]
    assert len(matching) == 1
    return matching[0]


def test_every_field_of_a_record_is_a_column_with_its_value() -> None:
    """The frame holds what the records hold, number by number."""
    records = synthetic.depth_suite()
    found = {(row["method"], row["depth"]): row for row in rows(frame(records))}
    assert len(found) == len(records)
    for record in records:
        row = found[record.method, record.depth]
        for name, value in msgspec.to_builtins(record).items():
            assert row[name] == value, name


def test_nulls_stay_null() -> None:
    """What was not measured is null in the frame, and neither 0 nor NaN."""
    bare = synthetic.failed(synthetic.case("bdia-naive"), "oom", "no room")
    table = frame([bare])
    (row,) = rows(table)
    measured = set(Record.__struct_fields__) - set(AXES) - {
        "schema_version", "suite", "fingerprint", "status", "message", "threads", "verify", "predicted",
    }  # fmt: skip
    assert {name for name in measured if row[name] is not None} == set()
    derived = set(table.columns) - set(Record.__struct_fields__) - {"group"}
    assert {name for name in derived if row[name] is not None} == set()
    assert table["activation_bytes"].isna().all()
    assert str(table["activation_bytes"].dtype) == "Int64"


def test_bytes_beyond_the_integers_of_a_float_are_kept() -> None:
    """Byte counts stay integers, also in a column with nulls."""
    size = 2**53 + 1
    table = frame(
        [synthetic.full(synthetic.case(), peak_bytes=size), synthetic.failed(synthetic.case("standard"), "oom", "x")]
    )
    assert {row["peak_bytes"] for row in rows(table)} == {size, None}


def test_rates_are_compared_round_by_round() -> None:
    """The rate ratio is the median of the paired rounds, not the ratio of the medians."""
    ours, theirs = [1.0, 2.0, 10.0], [3.0, 1.0, 4.0]
    table = frame(
        [
            synthetic.full(synthetic.case("standard"), step_seconds=theirs),
            synthetic.full(synthetic.case("bdia"), step_seconds=ours),
        ]
    )
    row = one(table, method="bdia")
    # Paired: 3/1, 1/2, 4/10; the ratio of the medians would be 3/2.
    assert row["rate_ratio"] == 0.5
    assert (row["rate_ratio_low"], row["rate_ratio_high"]) == (0.4, 3.0)
    assert one(table, method="standard")["rate_ratio"] == 1.0


@pytest.mark.parametrize(
    ("theirs", "rounds_id"), [(None, "one"), ([], "one"), ([1.0, 2.0, 3.0], "another"), ([1.0, 2.0, 3.0], None)]
)
def test_rounds_that_cannot_be_paired_give_no_ratio(theirs: list[float] | None, rounds_id: str | None) -> None:
    """Without the same rounds of standard in the group there is no rate ratio, however many of others there are."""
    table = frame(
        [
            synthetic.full(synthetic.case("standard"), step_seconds=theirs, rounds_id=rounds_id),
            synthetic.full(synthetic.case("bdia"), step_seconds=[1.0, 2.0, 3.0]),
        ]
    )
    assert one(table, method="bdia")["rate_ratio"] is None


def test_activations_are_compared_within_a_group() -> None:
    """The activation ratio is against standard at the same point, and null where standard has no number there."""
    table = frame(synthetic.failing_suite())
    for depth in (6, 12, 24):
        standard = synthetic.activation_bytes(synthetic.case("standard", depth=depth))
        bdia = synthetic.activation_bytes(synthetic.case("bdia", depth=depth))
        assert one(table, method="bdia", depth=depth)["activation_ratio"] == bdia / standard
    assert one(table, method="bdia", depth=48)["activation_ratio"] is None


def test_every_l_is_compared_with_the_one_standard() -> None:
    """Cases that differ in l share the standard of their group."""
    table = frame(synthetic.bits_suite())
    assert table["group"].nunique() == 1
    ratios = {row["activation_ratio"] for row in rows(table) if row["method"] == "bdia" and row["status"] == "ok"}
    assert len(ratios) == 1


def test_bits_per_activation_is_the_slope_over_depth() -> None:
    """The slope is that of the generator: 512, 32, 540, 0 and 1 bits an element and block."""
    table = frame(synthetic.depth_suite())
    expected = {"standard": 512, "checkpoint": 32, "bdia-stored": 540, "bdia-naive": 0, "bdia": 1}
    for row in rows(table):
        assert row["bits_per_activation"] == pytest.approx(expected[row["method"]], abs=1e-9)


def test_bits_per_activation_needs_two_depths_of_one_kind() -> None:
    """Cases that differ in more than depth are not fitted together."""
    single = [synthetic.full(synthetic.case(depth=6)), synthetic.full(synthetic.case(depth=12, seed=1))]
    assert {row["bits_per_activation"] for row in rows(frame(single))} == {None}
    assert {row["bits_per_activation"] for row in rows(frame(synthetic.width_suite()))} == {None}


def test_a_failed_case_has_no_fitted_slope() -> None:
    """The slope stands only on rows whose memory was measured."""
    table = frame(synthetic.failing_suite())
    assert one(table, method="standard", depth=48)["bits_per_activation"] is None
    assert one(table, method="standard", depth=24)["bits_per_activation"] == pytest.approx(512)


def test_errors_are_summed_up_over_blocks() -> None:
    """First, worst and mismatched come from the blocks, whatever their order."""
    entries = [
        BlockError(block=2, max_abs_error=0.0, rms_error=0.0, relative_error=0.0, mismatched=0),
        BlockError(block=0, max_abs_error=0.04, rms_error=0.01, relative_error=0.01, mismatched=7),
        BlockError(block=1, max_abs_error=0.01, rms_error=0.01, relative_error=0.01, mismatched=5),
    ]
    (row,) = rows(frame([synthetic.record(synthetic.case("bdia-naive"), reconstruction=entries)]))
    assert (row["first_max_abs_error"], row["worst_max_abs_error"], row["mismatched"]) == (0.04, 0.04, 12)
    assert row["error_doublings"] == pytest.approx(2.0)
    assert row["reconstruction_finite"] is True


def test_an_error_that_is_not_finite_is_not_left_out_of_the_worst() -> None:
    """Where a block's error is not finite the worst is null, and `reconstruction_finite` says why."""
    entries = [
        BlockError(block=0, max_abs_error=None, rms_error=None, relative_error=None, mismatched=9),
        BlockError(block=1, max_abs_error=1.0, rms_error=1.0, relative_error=1.0, mismatched=9),
    ]
    (row,) = rows(frame([synthetic.record(synthetic.case("bdia-naive"), reconstruction=entries)]))
    assert row["worst_max_abs_error"] is None
    assert row["reconstruction_finite"] is False


def test_exact_reconstruction_is_zero_and_not_null() -> None:
    """A measured 0 stays 0."""
    row = one(frame(synthetic.depth_suite((6,))), method="bdia")
    assert row["worst_max_abs_error"] == 0
    assert row["error_doublings"] is None
    assert one(frame(synthetic.depth_suite((6,))), method="standard")["worst_max_abs_error"] is None


def test_blocks_has_a_row_a_case_and_block() -> None:
    """The long frame holds each block's errors as recorded."""
    records = synthetic.fig1_suite(seeds=2)
    table = blocks(frame(records))
    assert len(table) == sum(len(record.reconstruction or []) for record in records)
    of = synthetic.case("bdia-naive", seed=1, train_steps=50)
    drawn = table[(table["method"] == "bdia-naive") & (table["seed"] == 1) & (table["train_steps"] == 50)]
    assert drawn["max_abs_error"].tolist() == synthetic.naive_errors(of)
    assert drawn["block"].tolist() == list(range(12))


def test_rows_follow_the_grid_and_the_methods_table() -> None:
    """However the records came in, rows are in order of the axes, then of the methods table, then of l."""
    records = synthetic.depth_suite()
    shuffled = records[::-1]
    found = [(row["depth"], row["method"]) for row in rows(frame(shuffled))]
    assert found == [(depth, method) for depth in (6, 12, 24) for method in synthetic.METHODS]
    assert rows(frame(shuffled)) == rows(frame(records))


def test_an_empty_run_has_an_empty_frame_with_all_columns() -> None:
    """No records make no rows and all the columns."""
    assert list(frame([]).columns) == list(frame(synthetic.depth_suite((6,))).columns)
    assert rows(frame([])) == []
    assert len(blocks(frame([]))) == 0


def test_a_slope_needs_two_places() -> None:
    """Least squares gives None where x does not vary, and the slope where it does."""
    assert least_squares_slope([(1, 2), (1, 5)]) is None
    assert least_squares_slope([]) is None
    slope = least_squares_slope([(0, 1.0), (1, 2.0), (2, 6.0)])
    assert slope is not None
    assert math.isclose(slope, 2.5)
