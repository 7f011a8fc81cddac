"""Speed as ratios within a run: rounds that ran side by side, and no others."""

from __future__ import annotations

import pytest
from synthetic_records import case, record

from bench import rates


def timed(method: str, seconds: list[float] | None, rounds: str | None = "one", **axes: int) -> rates.Record:
    return record(case(method, **axes), step_seconds=seconds, rounds_id=rounds)


def test_the_ratio_is_the_median_of_rounds_side_by_side() -> None:
    """A case's ratio is the median over rounds of standard's seconds over its own; standard itself has none."""
    records = [timed("standard", [1.0, 2.0, 9.0]), timed("bdia", [2.0, 2.0, 10.0]), timed("bdia", [1.0], depth=6)]
    assert rates.ratios(records) == {case("bdia"): 0.9}


@pytest.mark.parametrize(
    "other", [timed("bdia", [1.0], "two"), timed("bdia", None), timed("bdia", []), timed("bdia", [1.0], batch=4)]
)
def test_what_did_not_run_side_by_side_has_no_ratio(other: rates.Record) -> None:
    """Steps of other rounds, of another group, or none at all are not held against standard's."""
    assert rates.ratios([timed("standard", [1.0]), other]) == {}
    assert rates.paired(other, None) == []
