"""The words of the gate: values with their units, what moved, what a culprit did."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import msgspec
import pytest
from synthetic_records import case

from bench.baseline import Update
from bench.check import Verdicts
from bench.comparison import Comparison, Value
from bench.explain import Culprit, Explanation
from bench.parts import Move
from bench.tolerance import Metric
from reports import checked, explained, values

CASE = case("bdia", depth=12)
MOVE = Move("side_bits", 1, 11, 32768, 262144)


@pytest.mark.parametrize(
    ("metric", "old", "new", "said"),
    [
        ("activation_bytes", 1000, 2000, "1000 → 2000 bytes (+100%)"),
        ("peak_bytes", 10**6, None, "1,000,000 → — bytes"),
        ("bits_per_activation", 1.0, 1.0625, "1.00 → 1.06 bits per activation and block (+0.062)"),
        ("bit_exact", True, False, "yes → no"),
        ("gradient_error", 0.0, 3.14e-5, "0 (exact) → 3.1e-5"),
        ("rounding_error", 0.5002, 0.75, "0.5002 → 0.75 · 2^-l"),
        ("rate_ratio", 0.74, 0.5, "0.74× → 0.50×"),
        (None, "ok", "oom", "ok → oom"),
        (None, "ok", None, "ok → —"),
    ],
)
def test_a_change_is_told_in_its_unit(metric: Metric | None, old: Value, new: Value, said: str) -> None:
    """Each metric is told in its own unit, an exact 0 as such, and what is not there as a dash."""
    assert values.change(Comparison(CASE, metric, "worse", old, new)) == said


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (MOVE, "side_bits of blocks 1-11: 32,768 → 262,144 bytes each (8.00×)"),
        (Move("block", 3, 3, 100, 150), "block 3: 100 → 150 bytes (+50.00%)"),
        (Move("head_and_loss", None, None, 0, 7), "head_and_loss: 0 → 7 bytes (new)"),
        (Move("other", None, None, 7, 0), "other: 7 → 0 bytes (gone)"),
        (Move("other", None, None, -4, 8), "other: -4 → 8 bytes (+12 B)"),
    ],
)
def test_a_move_is_told_in_times_percent_or_words(move: Move, said: str) -> None:
    """A part is told in times from twice on, in percent below, and in words or bytes where there is no ratio."""
    assert values.moved(move) == said


def comparison(metric: Metric, verdict: str = "worse", moves: tuple[Move, ...] = (), **fields: object) -> Comparison:
    return Comparison(CASE, metric, verdict, 1000, 2000, moves, **fields)


def verdicts(*comparisons: Comparison, **fields: object) -> Verdicts:
    return Verdicts("here", "b.json", "quick", comparisons, **fields)


def below_the_settings(lines: Iterable[str]) -> list[str]:
    """What is told after the line or two of what all cases share."""
    return list(itertools.dropwhile(lambda line: not re.match(r"[a-z ]+: ", line), lines))


def test_what_verdicts_of_a_case_share_is_said_once() -> None:
    """A case with several regressions is named once, with its parts and its command once; one that moved elsewhere has
    its own."""
    other = Move("optimizer_state", None, None, 1, 2)
    told = verdicts(
        comparison("activation_bytes", moves=(MOVE,)),
        comparison("peak_bytes", moves=(MOVE,)),
        comparison("side_bytes", moves=(other,)),
        comparison("gradient_error", "same"),
        reruns={CASE: "again"},
    )
    _, *lines = below_the_settings(checked.lines(told))
    assert [line.split()[0] for line in lines] == [
        "and", "side_bits", "and", "optimizer_state:", "again:", "here",
    ]  # fmt: skip
    assert lines[-2:] == ["  again: again", "here against b.json: 3 worse, 1 same"]


def test_what_all_verdicts_share_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no case that is told of differs in is said above them, in lines of the terminal's width, and a case has the
    rest; nothing of it is left out, and what is the same in the baseline has no say."""
    monkeypatch.setenv("COLUMNS", "60")
    changed = [Comparison(case("bdia", depth=depth), "peak_bytes", "worse", 1000, 2000) for depth in (6, 12)]
    law = Comparison(case("bdia", depth=None), "bits_per_activation", "worse", 1.0, 2.0)
    same = Comparison(case("standard", width=512, heads=8), "peak_bytes", "same", 1, 1)
    *settings, first, second, third, _ = checked.lines(verdicts(*changed, law, same))
    assert " ".join(settings) == (
        "gpt · width 256 · heads 8 · seq 256 · batch 8 · l 9 · vocab 256 · fp32 · initial weights · cpu · seed 0"
    )
    assert len(settings) > 1
    assert all(len(line) <= 60 and line.strip("· ") == line.removesuffix(" ·") for line in settings)
    assert first == "worse: bdia depth=6: peak_bytes 1000 → 2000 bytes (+100%)"
    assert second == "worse: bdia depth=12: peak_bytes 1000 → 2000 bytes (+100%)"
    assert third.startswith("worse: bdia over depth: bits_per_activation 1.00 → 2.00 ")
    assert list(checked.lines(verdicts(same))) == ["here against b.json: 1 same"]


def test_no_more_than_three_places_are_named_and_none_against_the_change() -> None:
    """Of what moved, the three largest in the direction of the change are named."""
    moves = tuple(Move("block", block, block, 0, 900 - block) for block in range(5))
    shrunk = Move("head_and_loss", None, None, 5000, 0)
    lines = below_the_settings(checked.lines(verdicts(comparison("peak_bytes", moves=(shrunk, *moves)))))
    assert [line.strip().partition(":")[0] for line in lines[1:-1]] == ["block 0", "block 1", "block 2"]


def test_gains_beside_regressions_name_no_update() -> None:
    """The command that keeps gains is named where nothing is worse: it would keep that as well."""
    better, worse = comparison("peak_bytes", "better"), comparison("side_bytes")
    [line] = checked.gains(verdicts(better), rated=True)
    assert line.endswith("`bdia-bench check here --baseline b.json --update --rates`")
    [line] = checked.gains(verdicts(better, worse))
    assert "--update" not in line
    assert list(checked.gains(verdicts(worse))) == []


def test_an_update_counts_what_it_did() -> None:
    """An update says how many cases, changes, silent lines and other environments there are."""
    done = Update(created=False, cases=3, failed=(), changes=(comparison("peak_bytes"),), lines=1, others=2)
    lines = below_the_settings(checked.updated("b.json", done))
    assert lines[0].startswith("worse: bdia: peak_bytes ")
    assert lines[-1] == (
        "b.json: 3 cases written, 1 worse, 1 more line changed, nothing worse or better, "
        "2 other environments left as they are"
    )


@pytest.mark.parametrize(
    ("moves", "where", "said"),
    [
        ((MOVE,), "every", "grew 8.00× in every block of bdia"),
        ((Move("side_bits", 1, 3, 8, 1),), "some", "shrank to 0.12× in some blocks of bdia"),
        ((Move("side_bits", 3, 3, 1000, 1001),), "same", "grew by 1 byte a block in block 3 of bdia"),
        (
            (Move("side_bits", 1, 3, 0, 8), Move("side_bits", 1, 3, 0, 9)), "same",
            "is new, 8 to 9 bytes a block, in blocks 1-3 of bdia",
        ),
        ((Move("side_bits", 1, 3, 8, 0),), "all but one", "is gone, 8 bytes a block, in every block but one of bdia"),
        ((Move("side_bits", None, None, 100, 110),), "whole", "grew 1.10× with bdia"),
        (
            (Move("side_bits", 1, 1, 100, 200), Move("side_bits", 1, 1, 100, 300)), "every",
            "grew 2.00× to 3.00× in every block of bdia",
        ),
    ],
)  # fmt: skip
def test_the_culprit_is_one_sentence(moves: tuple[Move, ...], where: str, said: str) -> None:
    """What became of the culprit is told in times, or in bytes where those would not show, with its blocks."""
    found = Culprit("side_bits", ("bdia",), where, moves, 2, 3)
    assert explained.culprit(found) == f"side_bits {said} (2 of 3 cases that changed)"


def test_nothing_to_explain_says_so() -> None:
    """Where nothing moved, or nothing could be compared, there is a sentence and no table."""
    nothing = Explanation((), 4, 0, 0, (), None)
    assert explained.sheet(nothing) is None
    assert list(explained.lines(nothing, "a -> b")) == ["a -> b: nothing moved, 4 the same"]
    assert list(explained.lines(Explanation((), 0, 0, 2, (), None), "a -> b")) == [
        "2 cases measured on one side alone", "a -> b: nothing to compare",
    ]  # fmt: skip


def test_a_law_that_was_no_line_is_told() -> None:
    """With its series, of many the first three and how many more there are."""
    series = [msgspec.structs.replace(CASE, depth=None, seed=seed) for seed in range(5)]
    said, last = checked.lines(verdicts(lineless=tuple(series[:1])))
    assert said == (f"on no line in depth in the baseline, so bits_per_activation is not compared: {series[0].label()}")
    assert last == "here against b.json: "
    said, _ = checked.lines(verdicts(lineless=tuple(series)), renewable=False)
    assert said.startswith("on no line in depth in b.json")
    assert said.endswith(f"{series[2].label()}; and 2 more")
