"""Explaining a change: which parts moved, the culprit that most cases share, which cases are asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from synthetic_records import case, record

from bench import explain, parts
from bench.errors import UsageError
from bench.explain import Culprit
from bench.parts import Flat
from bench.record import Record


def held(depth: int = 4, method: str = "bdia", **changed: Any) -> Record:
    """A record of 1000 bytes of states, 10 of side bits a block but for the first, and what is `changed`."""
    flat: Flat = {("residual_states", depth - 1): 1000}
    flat |= {("side_bits", block): 10 for block in range(1, depth)}
    flat |= changed.pop("flat", {})
    packed = parts.packed(flat)
    size = parts.total(packed)
    fields = {
        "activation_bytes": size, "activation_parts": packed, "peak_bytes": size + 5000,
        "peak_parts": {"parameters": 5000} | packed, "stream_elements": 64,
    }  # fmt: skip
    return record(case(method, depth=depth), **(fields | changed))


def side(depth: int, nbytes: int) -> Flat:
    return {("side_bits", block): nbytes for block in range(1, depth)}


def culprit(base: list[Record], head: list[Record]) -> Culprit:
    found = explain.explain(base, head).culprit
    assert found is not None
    return found


def test_what_moved_is_told_and_the_rest_counted() -> None:
    """Each figure that moved has its parts, largest first; the same ones are counted, and those without a partner."""
    base = [held(4), held(8), held(16)]
    head = [held(4, flat=side(4, 80) | {("head_and_loss", None): 1}), held(8), held(32)]
    found = explain.explain(base, head)
    assert [(change.case.depth, change.metric, change.bytes) for change in found.changes] == [
        (4, "activation_bytes", 211), (4, "peak_bytes", 211),
    ]  # fmt: skip
    assert [move.where for move in found.changes[0].moves] == ["side_bits of blocks 1-3", "head_and_loss"]
    assert (found.same, found.blind, found.unmatched) == (2, 0, 2)
    assert [change.metric for change in explain.explain(base, head, explain.metrics("peak_bytes")).changes] == [
        "peak_bytes"
    ]


def test_parts_that_swap_are_told_though_the_total_is_the_same() -> None:
    """Bytes that went from one part to another moved, though the figure did not."""
    swapped = held(flat={("residual_states", 3): 990, ("head_and_loss", None): 10})
    found = explain.explain([held()], [swapped], ("activation_bytes",))
    assert [(change.bytes, len(change.moves)) for change in found.changes] == [(0, 2)]


def test_a_side_without_a_breakdown_is_blind() -> None:
    """A figure that moved but has parts on one side alone is told as such; one that did not is the same."""
    blind = held(activation_parts=None, peak_parts=None)
    found = explain.explain([held()], [msgspec.structs.replace(blind, activation_bytes=1)])
    assert [(change.metric, change.parts, change.moves) for change in found.changes] == [("activation_bytes", None, ())]
    assert (found.blind, found.same, found.culprit) == (1, 1, None)


@pytest.mark.parametrize(
    ("flats", "part", "where"),
    [
        ({4: side(4, 80), 8: side(8, 80)}, "side_bits", "every"),
        ({4: {("side_bits", 2): 80}, 8: {("side_bits", 2): 80}}, "side_bits", "same"),
        ({4: {("side_bits", 2): 80}, 8: {("side_bits", 3): 80}}, "side_bits", "some"),
        (
            {4: {("residual_states", block): 1000 for block in range(3)},
             8: {("residual_states", block): 1000 for block in range(7)}},
            "residual_states", "all but one",
        ),
        ({4: {("head_and_loss", None): 7}, 8: {("head_and_loss", None): 9}}, "head_and_loss", "whole"),
    ],
)  # fmt: skip
def test_the_culprit_is_placed(flats: dict[int, Flat], part: str, where: str) -> None:
    """The part that moved most is said to have moved in every block that holds it, in one range, in some, or nowhere in
    particular."""
    found = culprit([held(depth) for depth in flats], [held(depth, flat=flat) for depth, flat in flats.items()])
    assert (found.part, found.where, found.cases, found.changed) == (part, where, 2, 2)
    assert found.methods == ("bdia",)


def test_the_culprit_is_what_most_cases_share_in_one_direction() -> None:
    """Of several parts, the one that moved most in most cases counts, and growing is not shrinking."""
    base = [held(depth, method) for depth in (4, 8) for method in ("bdia", "checkpoint")]
    head = [
        held(4, flat=side(4, 80)),
        held(4, "checkpoint", flat={("head_and_loss", None): 10**6}),
        held(8, flat=side(8, 80)),
        held(8, "checkpoint", flat=side(8, 1)),
    ]
    found = culprit(base, head)
    assert (found.part, found.methods, found.cases, found.changed) == ("side_bits", ("bdia",), 2, 4)
    assert {(move.old, move.new) for move in found.moves} == {(10, 80)}


def test_the_law_that_changed_is_told() -> None:
    """A memory law of which neither slope nor fit changed is left out."""
    base = [held(depth, method) for depth in (4, 8, 12) for method in ("bdia", "checkpoint")]
    head = [one if one.method == "checkpoint" else held(one.depth, flat=side(one.depth, 80)) for one in base]
    [(before, after)] = explain.explain(base, head).laws
    assert (before.series.method, before.slope_bytes, after.slope_bytes) == ("bdia", 10, 80)


def test_cases_are_picked_by_axes() -> None:
    """Cases of either side are picked by the values of axes, ranges too; what no case has names those there are."""
    base, head = [held(4), held(8)], [held(4, "checkpoint"), held(16)]
    kept = explain.chosen({"depth": "4:8:x2", "method": "bdia,checkpoint"}, base, head)
    assert [[one.depth for one in side] for side in kept] == [[4, 8], [4]]
    assert explain.chosen({}, base, head) == (base, head)
    with pytest.raises(UsageError, match="--depth 5: no case has it; there are depth 4, 8, 16"):
        explain.chosen({"depth": "5"}, base, head)
    with pytest.raises(UsageError, match="--depth 0"):
        explain.chosen({"depth": "0"}, base, head)


def test_only_what_has_parts_can_be_explained() -> None:
    """A metric without parts is refused, naming those that have them."""
    assert explain.metrics(None) == explain.METRICS
    with pytest.raises(UsageError, match="did you mean 'peak_bytes'"):
        explain.metrics("peak_byte")
