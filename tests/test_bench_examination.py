"""The doctor's look at a model: what is asked, what is found, what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_records import case

from bench import examination, probe, supervise
from bench.case import Plan
from bench.doctor import Finding, all_well
from bench.errors import EXIT_FAILED_CASE, UsageError
from bench.examination import BlockFinding, Examination, ExaminationError

NAMES = tuple(f"h.{number}" for number in range(12))


def block(name: str, **changes: Any) -> BlockFinding:
    fields: dict[str, Any] = {
        "stable": True, "differing": 0, "elements": 4096, "max_abs_difference": 0.0, "reason": None,
    }  # fmt: skip
    return BlockFinding(name=name, **(fields | changes))


def examined(**changes: Any) -> Examination:
    """A model of 12 blocks with which all is well."""
    fields: dict[str, Any] = {
        "parameters": 1000, "parameter_dtype": "float32", "loss_plain": 5.25, "loss_method": 5.5, "chains": (NAMES,),
        "blocks": tuple(map(block, NAMES)), "side_bytes": 11 * 512, "rng_bytes": 5056, "max_abs": 4.5,
        "largest_bits": 20, "exact": True,
    }  # fmt: skip
    return Examination(**(fields | changes))


def found(of: Examination, **axes: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in examination.findings(case(**axes), of)}


def test_all_is_told_of_a_model_that_is_well() -> None:
    """Blocks, headroom, side bits, RNG and both losses are findings, and none of them is broken."""
    told = found(examined())
    assert all_well(told.values())
    assert told["chain"].text == "12 blocks: h.0, h.1 … h.11"
    assert told["bit-stable"].text.startswith("12 of 12 blocks")
    assert told["headroom"].text == "max|x| is 4.5: exact at l = 9, and up to l = 20"
    assert (told["side bits"].text.split()[0], told["side bits"].size_bytes) == ("1", 11 * 512)
    assert told["  a block"].size_bytes == 512
    assert told["RNG states"].size_bytes == 5056
    assert told["loss"].text == "5.25 as a plain transformer, 5.5 with bdia (+0.25)"


def test_a_smaller_gamma_costs_more_side_bits() -> None:
    """|γ| = 2^-m keeps m bits an activation, and a method that rebuilds in floating point keeps none."""
    assert found(examined(), gamma="0.125")["side bits"].text.startswith("3 an activation")
    assert "side bits" not in found(examined(exact=None), method="bdia-naive")


def test_what_cannot_be_attached_is_all_there_is_to_say() -> None:
    """Where the method cannot be attached, the reason is the last finding, and broken."""
    told = found(Examination(parameters=1, parameter_dtype="float32", loss_plain=1.0, obstacle="no blocks: give them"))
    assert list(told) == ["model", "method"]
    assert told["method"] == Finding("method", "bdia cannot be attached: no blocks: give them", "broken")


def test_unstable_blocks_are_told_by_their_reason() -> None:
    """Blocks that differ for one reason are one finding, with the worst of them measured; the stable are counted."""
    bad = {"stable": False, "reason": "it draws from a generator of its own"}
    blocks = [*map(block, NAMES[:10]), block("h.10", differing=3, max_abs_difference=0.25, **bad)]
    told = found(examined(blocks=(*blocks, block("h.11", differing=4096, max_abs_difference=None, **bad))))
    assert told["bit-stable"].text.startswith("10 of 12 blocks")
    assert told["not bit-stable"].text == "h.10, h.11: it draws from a generator of its own"
    assert (
        told["not bit-stable"].hint == "in h.11 4,096 of 4,096 elements differ, by at most an amount that is not finite"
    )
    assert not all_well(told.values())


@pytest.mark.parametrize(("largest", "said"), [(15, "l = 15 is the largest"), (None, "no l is the largest")])
def test_beyond_the_headroom_there_is_a_cure(largest: int | None, said: str) -> None:
    """At an l past the exact range the headroom is broken, and the largest l that would do is named."""
    finding = found(examined(exact=False, largest_bits=largest), bits=20)["headroom"]
    assert finding.health == "broken"
    assert said in finding.text
    assert "on_overflow" in (finding.hint or "")


def test_a_loss_that_is_not_finite_is_broken() -> None:
    """A model whose loss is no number is not well."""
    assert found(examined(loss_plain=None))["loss"].health == "broken"


@pytest.mark.parametrize(
    ("given", "data", "said"),
    [
        ({"depth": "4"}, None, "--depth 4: expected a model beside it; name one with --model"),
        ({}, "text.txt", "--data text.txt: expected a model beside it"),
        ({"model": "gpt,vit"}, None, "--model 'gpt,vit': 2 values"),
        ({"model": "gpt", "depth": "2:8:x2"}, None, "--depth '2:8:x2': 3 values"),
        ({"model": "gtp"}, None, "did you mean 'gpt'?"),
        ({"model": "gpt", "method": "bdai"}, None, "did you mean 'bdia'?"),
        ({"model": "gpt", "gamma": "0.6"}, None, "doctor: gamma 0.6: bdia inverts bit for bit"),
        ({"model": "gpt", "width": "30"}, None, "doctor: width 30 is not divisible"),
    ],
)
def test_what_cannot_be_examined_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], data: str | None, said: str
) -> None:
    """Axes without a model, several values and cases that cannot be are one line with the cure."""
    monkeypatch.setattr(probe, "probe", lambda device, threads: type("Environment", (), {"device": "cpu"}))
    with pytest.raises(UsageError) as caught:
        examination.plan(given, data, threads=2)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_child_that_dies_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the child ends, the error is its last word and the code that of a failed case."""
    worker = tmp_path / "worker.py"
    worker.write_text("raise SystemExit('no such weights')")
    run = supervise.run
    monkeypatch.setattr(supervise, "run", lambda *args, **options: run(*args, **options, worker=worker))
    with pytest.raises(ExaminationError, match=r"^gpt: no such weights$") as caught:
        examination.examine(Plan(case=case(), measure=frozenset()), threads=2)
    assert caught.value.exit_code == EXIT_FAILED_CASE
