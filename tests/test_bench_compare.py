"""Two runs side by side: verdicts, the memory law, where it moved, the command that measures a case again."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import compare, law, parts, rerun, slopes
from bench.case import Case
from bench.compare import Rates
from bench.comparison import Comparison
from bench.parts import Move
from bench.record import BlockError, Record
from bench.tolerance import Tolerances

CASE = Case(
    method="bdia", model="gpt", depth=6, width=64, heads=2, seq=32, batch=2, bits=9, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=0, data=None,
)  # fmt: skip


def record(case: Case = CASE, **measured: object) -> Record:
    values = {"status": "ok", "activation_bytes": 1000, "peak_bytes": 2000, "side_bytes": 10} | measured
    return Record(**msgspec.structs.asdict(case), suite="quick", fingerprint="f", **values)


def verdicts(base: list[Record], head: list[Record], tolerance: str = "0") -> list[tuple[str | None, str]]:
    found = compare.compare(base, head, Tolerances().overlaid([tolerance]))
    return [(comparison.metric, comparison.verdict) for comparison in found]


def regressions(found: list[Comparison]) -> list[Comparison]:
    return [comparison for comparison in found if comparison.regression]


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


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("oom", "skipped", "same"),
        ("skipped", "oom", "same"),
        ("error", "unsupported", "same"),
        ("unsupported", "skipped", "newly failing"),
        ("skipped", "ok", "newly passing"),
    ],
)
def test_skipping_is_neither_better_nor_worse_than_failing(old: str, new: str, verdict: str) -> None:
    """A case that is skipped since a smaller one ran out of memory passes no more than one that failed itself, and
    nothing newly passes but what was measured."""
    gone = {"activation_bytes": None, "peak_bytes": None, "side_bytes": None}
    before, after = (record(status=status, **({} if status == "ok" else gone)) for status in (old, new))
    assert verdicts([before], [after]) == [(None, verdict)]


def test_why_a_case_fails_is_told() -> None:
    """A case that newly fails says what its record says, in one line."""
    [found] = compare.compare([record()], [record(status="oom", message="no\n  room")])
    assert found.note == "no room"


@pytest.mark.parametrize(
    ("metric", "old", "new", "verdict"),
    [
        ("bit_exact", True, False, "worse"),
        ("bit_exact", False, True, "better"),
        ("bit_exact", True, None, "missing"),
        ("bit_exact", None, True, None),
        ("gradient_error", 0.0, 0.0, "same"),
        ("gradient_error", 0.0, 5e-324, "worse"),
        ("gradient_error", 0.0, None, "missing"),
        ("gradient_error", 1e-4, 0.0, "better"),
        ("gradient_error", 1e-4, 9.9e-4, "same"),
        ("gradient_error", 1e-4, 1.1e-3, "worse"),
        ("gradient_error", 1.1e-3, 1e-4, "better"),
        ("gradient_error", None, 0.1, None),
        ("rounding_error", 0.5, 0.55, "same"),
        ("rounding_error", 0.5, 0.56, "worse"),
        ("rounding_error", 1.0, 0.5, "better"),
        ("rounding_error", None, 0.5, None),
    ],
)
def test_exactness_is_compared(metric: str, old: object, new: object, verdict: str | None) -> None:
    """An exact 0 stays 0, an error that is one stays within a factor, and what the old side lacks is not compared."""
    found = compare.compare([record(**{metric: old})], [record(**{metric: new})])
    assert [one.verdict for one in found if one.metric == metric] == ([] if verdict is None else [verdict])


def test_what_is_no_longer_exact_names_its_block() -> None:
    """A backward goes wrong first in the highest block that differs; a gradient and a rounding have theirs as well."""
    wrong = [BlockError(block, 0.1, 0.1, 0.1, mismatched) for block, mismatched in ((0, 5), (3, 2), (4, 0))]
    exact = {"bit_exact": True, "gradient_error": 0.0, "rounding_error": 0.5}
    worse = {"bit_exact": False, "gradient_error": 0.1, "rounding_error": 0.9}
    blocks = {"reconstruction": wrong, "gradient_block": 2, "rounding_block": 1}
    found = regressions(compare.compare([record(**exact)], [record(**worse, **blocks)]))
    assert [(one.what, one.block, one.where) for one in found] == [
        ("bit_exact", 3, "block 3"), ("gradient_error", 2, "block 2"), ("rounding_error", 1, "block 1"),
    ]  # fmt: skip


def test_a_case_that_newly_fails_names_its_block() -> None:
    """What a backward that was refused rebuilt wrongly, or else its gradients, says where; of a case that never was
    exact, and of one of which nothing else was measured, there is none."""
    wrong = [BlockError(block, 0.1, 0.1, 0.1, mismatched) for block, mismatched in ((0, 5), (3, 2), (4, 0))]
    right = [BlockError(block, 0.0, 0.0, 0.0, 0) for block in range(5)]

    def block(exact: bool, **measured: object) -> int | None:
        old = record(bit_exact=exact, gradient_error=0.0 if exact else 0.1)
        (one,) = compare.compare([old], [record(status="error", **measured)])
        assert one.verdict == "newly failing"
        return one.block

    assert block(True, reconstruction=wrong, gradient_block=2) == 3
    assert block(True, reconstruction=right, gradient_block=2) == 2
    assert block(True, reconstruction=right) is None
    assert block(True) is None
    assert block(False, reconstruction=wrong, gradient_block=2) is None


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [(0.7, 0.57, "same"), (0.7, 0.55, "worse"), (0.7, 0.9, "better"), (0.7, None, "missing"), (None, 0.7, None)],
)
def test_rates_are_compared_on_request(old: float | None, new: float | None, verdict: str | None) -> None:
    """A rate ratio a fifth below the old one is the same, and one further below is worse; unasked there is none."""
    sides = ({} if value is None else {CASE: value} for value in (old, new))
    found = compare.compare([record()], [record()], rates=Rates(*sides))
    assert [one.verdict for one in found if one.metric == "rate_ratio"] == ([] if verdict is None else [verdict])
    assert "rate_ratio" not in {one.metric for one in compare.compare([record()], [record()])}


HELD = {("residual_states", 5): 600, ("side_bits", 1): 8, ("side_bits", 2): 8, ("head_and_loss", None): 384}


def with_parts(held: parts.Flat, **measured: object) -> Record:
    packed = parts.packed(held)
    size = parts.total(packed)
    return record(
        activation_bytes=size, activation_parts=packed, peak_bytes=size, peak_parts=packed, **measured
    )  # fmt: skip


def test_bytes_that_moved_name_their_parts() -> None:
    """A verdict on bytes has the parts and blocks that moved, names those that account for it, and none where one of
    the two has no breakdown; side information has its own part alone."""
    leaner = HELD | {("side_bits", 1): 64, ("side_bits", 2): 64, ("head_and_loss", None): 383}
    found = compare.compare([with_parts(HELD, side_bytes=16)], [with_parts(leaner, side_bytes=128)])
    side, head = Move("side_bits", 1, 2, 8, 64), Move("head_and_loss", None, None, 384, 383)
    assert [one.moves for one in found] == [(side, head), (side, head), (side,)]
    assert [one.where for one in found] == ["side_bits of blocks 1-2"] * 3
    back = compare.compare([with_parts(leaner)], [with_parts(HELD)])[0]
    assert (back.verdict, back.where) == ("better", "side_bits of blocks 1-2")
    assert compare.compare([record()], [with_parts(leaner)])[0].moves == ()
    assert compare.compare([with_parts(HELD)], [with_parts(HELD)])[0].moves == ()


def test_a_peak_that_moves_to_another_block_does_not_hide_what_grew() -> None:
    """The working set of a block moves along with the peak, by far more bytes than what was added."""
    before = parts.flat({"residual_states": {"3-4": 2016}, "block": {"0-3": 4, "4": 54157}})
    after = parts.flat({"residual_states": {"0-4": 2016}, "block": {"0-2": 4, "3": 52141, "4": 2017}})
    worse = compare.compare([with_parts(before)], [with_parts(after)])[0]
    assert worse.verdict == "worse"
    assert worse.moves[0].part == "block"
    assert worse.where == "residual_states of blocks 0-2"


ELEMENTS = 2 * 32 * 64


def swept(each: int, depths: tuple[int, ...] = (4, 8, 12), **odd: int) -> list[Record]:
    """Records of several depths that keep `each` bytes a block; `odd` bytes on top at one depth, as `depth8=100`."""
    found = []
    for depth in depths:
        held: parts.Flat = {("block", block): each for block in range(depth)}
        held["head_and_loss", None] = 10_000 + odd.get(f"depth{depth}", 0)
        of = msgspec.structs.replace(CASE, depth=depth)
        packed = parts.packed(held)
        found.append(
            record(of, activation_bytes=parts.total(packed), activation_parts=packed, stream_elements=ELEMENTS)
        )
    return found


def law_of(base: list[Record], head: list[Record], *words: str) -> list[Comparison]:
    found = compare.compare(base, head, Tolerances().overlaid(words))
    return [one for one in found if one.metric == "bits_per_activation"]


def test_a_leak_that_totals_hide_shows_in_the_law() -> None:
    """A tolerance on totals hides a leak a block, and the slope of the memory law does not; it names the part."""
    base, head = swept(512), swept(512 + 64)
    found = compare.compare(base, head, Tolerances().overlaid(["25%"]))
    [worse] = regressions(found)
    assert (worse.metric, worse.verdict, worse.case.depth, worse.old, worse.new) == (
        "bits_per_activation", "worse", None, 1.0, 1.125,
    )  # fmt: skip
    assert worse.where == "blocks 0-11"
    assert [one.verdict for one in law_of(head, base)] == ["better"]
    assert [one.verdict for one in law_of(base, head, "bits_per_activation=0.125")] == ["same"]
    assert [one.verdict for one in law_of(base, swept(512 + 25))] == ["same"]


def test_what_stops_being_a_line_is_worse() -> None:
    """A law that is no line any more is worse and says so; one that was none is not compared."""
    [worse] = law_of(swept(512), swept(512, depth8=5000))
    assert (worse.verdict, worse.note) == ("worse", slopes.NOT_A_LINE)
    assert worse.where == "head_and_loss"
    assert law_of(swept(512, depth8=5000), swept(512)) == []


def test_the_law_is_of_the_depths_that_both_have() -> None:
    """A depth that one side lacks bends no law; where fewer than two are left there is none."""
    base, head = swept(512, depth12=4000), swept(512, depths=(4, 8))
    assert [one.verdict for one in law_of(base, head)] == ["same"]
    assert law_of(base, swept(512, depths=(8,))) == []
    assert law_of([msgspec.structs.replace(one, stream_elements=None) for one in base], base) == []


def test_a_metric_that_is_gone_is_a_regression() -> None:
    """A metric that was measured and no longer is counts as missing; one never measured is not compared."""
    found = compare.compare([record(side_bytes=None)], [record(side_bytes=None, peak_bytes=None)])
    assert [(c.metric, c.verdict) for c in found] == [("activation_bytes", "same"), ("peak_bytes", "missing")]
    assert [c.metric for c in regressions(found)] == ["peak_bytes"]


def test_the_last_record_of_a_case_counts() -> None:
    """A case measured again is compared by its last record."""
    assert verdicts([record()], [record(activation_bytes=5000), record()])[0][1] == "same"


def test_a_verdict_reads_as_one_line() -> None:
    """A verdict prints the case, the metric, and old -> new in bytes."""
    [worse] = regressions(compare.compare([record()], [record(activation_bytes=1234567)]))
    assert (worse.what, worse.where) == ("activation_bytes", "")
    assert str(worse) == f"worse: {CASE.label()}: activation_bytes 1000 bytes -> 1234567 bytes"
    [missing] = compare.compare([record()], [])
    assert str(missing).endswith(": ok -> nothing")
    assert missing.what == "status"
    lost = regressions(compare.compare([record(bit_exact=True)], [record(bit_exact=False)]))
    assert str(lost[0]).endswith(": bit_exact exact -> not exact")


def test_the_command_names_every_axis_of_the_case() -> None:
    """The command that measures a case again names every axis it has, and none that it lacks."""
    command = rerun.command("quick", msgspec.structs.replace(CASE, bits=None, data="a b.txt"))
    assert command.startswith("bdia-bench run quick --method bdia --model gpt --depth 6 --width 64 ")
    assert "--bits" not in command
    assert command.endswith("--train-steps 0 --device cpu --seed 0 --data 'a b.txt'")
    assert " --gamma 0.5 " in command
    assert rerun.command("quick", CASE, verify=True).endswith(" --verify")
    assert " --depth 4,8 " in rerun.command("quick", law.series(CASE), depths=(4, 8))
    assert " --depth 6 " in rerun.command("quick", CASE, depths=(4, 8))


@given(old=st.integers(0, 2**45), new=st.integers(0, 2**45), share=st.integers(0, 1000))
def test_verdicts_are_antisymmetric_without_tolerance(old: int, new: int, share: int) -> None:
    """What is worse one way is better the other way, and a tolerance never turns worse into better."""
    there = verdicts([record(peak_bytes=old)], [record(peak_bytes=new)])[1][1]
    back = verdicts([record(peak_bytes=new)], [record(peak_bytes=old)])[1][1]
    assert {there, back} in ({"same"}, {"better", "worse"})
    tolerant = verdicts([record(peak_bytes=old)], [record(peak_bytes=new)], f"{share / 10}%")[1][1]
    assert tolerant in ("same", there)
