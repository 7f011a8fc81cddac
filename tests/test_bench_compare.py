"""Two runs side by side: verdicts, tolerances, the command that measures a case again."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import compare
from bench.case import Case
from bench.errors import UsageError
from bench.record import Record

CASE = Case(
    method="bdia", model="gpt", depth=6, width=64, heads=2, seq=32, batch=2, bits=9, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=0, data=None,
)  # fmt: skip


def record(case: Case = CASE, **measured: object) -> Record:
    values = {"status": "ok", "activation_bytes": 1000, "peak_bytes": 2000, "side_bytes": 10} | measured
    return Record(**msgspec.structs.asdict(case), suite="quick", fingerprint="f", **values)


def verdicts(base: list[Record], head: list[Record], tolerance: str = "0") -> list[tuple[str | None, str]]:
    found = compare.compare(base, head, compare.parse_tolerance(tolerance))
    return [(comparison.metric, comparison.verdict) for comparison in found]


def test_the_same_bytes_are_the_same() -> None:
    """A run compared with itself is the same in every metric."""
    assert verdicts([record()], [record()]) == [
        ("activation_bytes", "same"), ("peak_bytes", "same"), ("side_bytes", "same"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("new", "verdict"), [(999, "better"), (1000, "same"), (1001, "worse")], ids=["less", "equal", "more"]
)
def test_one_byte_decides(new: int, verdict: str) -> None:
    """Without a tolerance, a single byte more is worse and a single byte less is better."""
    assert verdicts([record()], [record(activation_bytes=new)])[0] == ("activation_bytes", verdict)


@pytest.mark.parametrize(
    ("tolerance", "new", "verdict"),
    [
        ("0.5%", 1005, "same"),
        ("0.5%", 1006, "worse"),
        ("0.5%", 995, "same"),
        ("0.5%", 994, "better"),
        ("5B", 1005, "same"),
        ("5", 1006, "worse"),
        ("1KiB", 2024, "same"),
        ("1KiB", 2025, "worse"),
        ("0.5 KiB", 1512, "same"),
    ],
)
def test_a_tolerance_is_met_to_the_byte(tolerance: str, new: int, verdict: str) -> None:
    """A tolerance allows exactly the share or the bytes that it names, both ways."""
    assert verdicts([record()], [record(activation_bytes=new)], tolerance)[0][1] == verdict


@pytest.mark.parametrize("text", ["", "lots", "-1", "5%%", "64KB", "1 parsec", "%", "1e3"])
def test_a_tolerance_that_means_nothing_is_refused(text: str) -> None:
    """A tolerance that cannot be read is an error in one line that repeats it and shows one that can."""
    with pytest.raises(UsageError, match="expected a share such as") as caught:
        compare.parse_tolerance(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cases_of_one_run_only_are_told() -> None:
    """A case that only the old run has is missing, and one that only the new run has is new."""
    deeper = msgspec.structs.replace(CASE, depth=12)
    found = compare.compare([record()], [record(deeper)])
    assert [(c.case.depth, c.metric, c.verdict) for c in found] == [(6, None, "missing"), (12, None, "new")]
    assert [c.regression for c in found] == [True, False]


@pytest.mark.parametrize("failure", ["oom", "timeout", "error", "unsupported", "skipped"])
def test_a_case_that_no_longer_ends_well_is_newly_failing(failure: str) -> None:
    """A case that no longer ends well is one verdict on the case, and back again it is an improvement."""
    failed = record(status=failure, activation_bytes=None, peak_bytes=None, side_bytes=None)
    assert verdicts([record()], [failed]) == [(None, "newly failing")]
    assert verdicts([failed], [record()]) == [(None, "newly passing")]
    assert verdicts([failed], [failed]) == [(None, "same")]


def test_an_unsupported_case_that_runs_out_of_memory_is_newly_failing() -> None:
    """A case that was known to be beyond the method and now fails outright is a regression."""
    gone = {"activation_bytes": None, "peak_bytes": None, "side_bytes": None}
    base, head = record(status="unsupported", **gone), record(status="oom", **gone)
    assert verdicts([base], [head]) == [(None, "newly failing")]


def test_a_metric_that_is_gone_is_a_regression() -> None:
    """A metric that was measured and no longer is counts as missing; one never measured is not compared."""
    found = compare.compare([record(side_bytes=None)], [record(side_bytes=None, peak_bytes=None)])
    assert [(c.metric, c.verdict) for c in found] == [("activation_bytes", "same"), ("peak_bytes", "missing")]
    assert [c.metric for c in compare.regressions(found)] == ["peak_bytes"]


def test_the_last_record_of_a_case_counts() -> None:
    """A case measured again is compared by its last record."""
    assert verdicts([record()], [record(activation_bytes=5000), record()])[0][1] == "same"


def test_a_verdict_reads_as_one_line() -> None:
    """A verdict prints the case, the metric, and old -> new in bytes."""
    [worse] = compare.regressions(compare.compare([record()], [record(activation_bytes=1234567)]))
    assert str(worse) == f"worse: {CASE.label()}: activation_bytes 1000 bytes -> 1234567 bytes"
    [missing] = compare.compare([record()], [])
    assert str(missing).endswith(": ok -> nothing")


def test_the_command_names_every_axis_of_the_case() -> None:
    """The command that measures a case again names every axis it has, and none that it lacks."""
    command = compare.rerun_command("quick", msgspec.structs.replace(CASE, bits=None, data="a b.txt"))
    assert command.startswith("bdia-bench run quick --method bdia --model gpt --depth 6 --width 64 ")
    assert "--bits" not in command
    assert command.endswith("--train-steps 0 --device cpu --seed 0 --data 'a b.txt'")
    assert " --gamma 0.5 " in command
    assert compare.rerun_command("quick", CASE, verify=True).endswith(" --verify")


@given(old=st.integers(0, 2**45), new=st.integers(0, 2**45), share=st.integers(0, 1000))
def test_verdicts_are_antisymmetric_without_tolerance(old: int, new: int, share: int) -> None:
    """What is worse one way is better the other way, and a tolerance never turns worse into better."""
    there = verdicts([record(peak_bytes=old)], [record(peak_bytes=new)])[1][1]
    back = verdicts([record(peak_bytes=new)], [record(peak_bytes=old)])[1][1]
    assert {there, back} in ({"same"}, {"better", "worse"})
    tolerant = verdicts([record(peak_bytes=old)], [record(peak_bytes=new)], f"{share / 10}%")[1][1]
    assert tolerant in ("same", there)
