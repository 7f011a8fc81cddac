"""The axis γ: one text a distribution, and which methods can have which."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from synthetic_records import case

from bdia.methods import get
from bench import gamma, store
from bench.case import Case


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0.5", "0.5"), (".50", "0.5"), ("5e-1", "0.5"), (0.25, "0.25"), (1, "1"), ("1.0", "1"),
        ("0.00390625", "0.00390625"), ("uniform:.50", "uniform:0.5"), ("normal:0.3", "normal:0.3"),
        ("0", "0"), ("-0.0", "0"), ("uniform:0", "0"), ("normal:0.0", "0"),
    ],
)  # fmt: skip
def test_a_distribution_has_one_text(value: object, text: str) -> None:
    """However a distribution is written, it is the same value of the axis, and that one is read as itself."""
    assert gamma.text_of(value) == text
    assert gamma.text_of(text) == text


@pytest.mark.parametrize("value", ["", "foo", "2", "-0.25", "nan", "inf", "uniform:", "gauss:0.5", True, None, [0.5]])
def test_what_is_no_distribution_has_no_text(value: object) -> None:
    """Numbers outside 0 to 1, unknown kinds and other types are no γ."""
    assert gamma.text_of(value) is None


@pytest.mark.parametrize(
    ("method", "text", "said"),
    [
        ("bdia", "0.6", "|γ| must be 2^-m, m from 0 to 8"),
        ("bdia", "uniform:0.5", "--method bdia-stored"),
        ("bdia", "0", "--gamma 0.5 or 0.25"),
        ("bdia-naive", "0", "divides by γ"),
    ],
)
def test_what_cannot_be_reversed_is_said_with_the_cure(method: str, text: str, said: str) -> None:
    """An exact inverse needs a power of two, one in floating point any γ but 0; the obstacle says what would do."""
    assert said in (gamma.obstacle(get(method), text) or "")


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("bdia", "1"), ("bdia", "0.25"), ("bdia", "0.00390625"), ("bdia-naive", "0.6"), ("bdia-naive", "uniform:0.5"),
        ("bdia-stored", "0"), ("bdia-stored", "normal:0.3"), ("standard", "0.6"),
    ],
)  # fmt: skip
def test_what_can_be_trained_has_no_obstacle(method: str, text: str) -> None:
    """Stored methods take any γ, `bdia` every power of two down to 2^-8."""
    assert gamma.obstacle(get(method), text) is None


def test_gammas_are_sorted_by_size() -> None:
    """No γ comes first, then magnitudes in ascending order, then the distributions by their width."""
    texts = ["uniform:0.5", "0.5", None, "0.25", "normal:0.3", "uniform:0.25", "0.125"]
    ranked = sorted(texts, key=gamma.rank)
    assert ranked == [None, "0.125", "0.25", "0.5", "normal:0.3", "uniform:0.25", "uniform:0.5"]


def test_a_record_from_before_there_was_a_choice_is_of_half() -> None:
    """Cases that do not say are of γ = ±½ where their method draws one, and equal to those that do."""
    without = {name: value for name, value in msgspec.to_builtins(case("bdia")).items() if name != "gamma"}
    assert msgspec.convert(without, Case) == case("bdia", gamma="0.5")
    assert msgspec.convert(without | {"method": "standard"}, Case).gamma is None
    assert case("bdia", gamma="0.25") != case("bdia")


def test_the_committed_run_still_loads() -> None:
    """The run in docs/results, older than the axis, is read whole."""
    stored = store.read(Path(__file__).parent.parent / "docs" / "results" / "quick")
    assert stored.messages == []
    assert {(one.method, one.gamma) for one in stored.records} >= {("standard", None), ("bdia", "0.5")}
