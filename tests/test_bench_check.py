"""The gate: which baseline a run is held against, by which tolerances, and what its verdict carries."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest
from synthetic_records import case, depth_suite, failed, full, record

from bench import axes, baseline, check, law, rates, rerun, suite
from bench.comparison import Comparison
from bench.entry import entry
from bench.errors import BaselineError, UsageError
from bench.record import Record
from bench.stored_run import StoredRun
from bench.tolerance import Tolerances

KEY = {"schema_version": 1, "device": "cpu", "torch": "2.13.0", "threads": 2, "gpu_name": None}
SUITE = 'title = "x"\n[[cases]]\nmethod = "bdia"\n'


def run(records: list[Record], key: baseline.EnvironmentKey = KEY, **fields: object) -> StoredRun:
    given = {"about": {}, "suite": "quick", "tolerance": {}, "messages": []} | fields
    return StoredRun(records=records, environment=key, **given)


def judged(path: Path, records: list[Record], key: baseline.EnvironmentKey = KEY, **asked: bool) -> check.Verdicts:
    return check.check("here", run(records, key), path, Tolerances(), **asked)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    records = depth_suite((6, 12, 24))
    baseline.update(path, records, KEY, rates.ratios(records))
    return path


def test_a_run_passes_the_baseline_it_made(path: Path) -> None:
    """A baseline written from a run and read again finds nothing to say about that run, rates included."""
    found = judged(path, depth_suite((6, 12, 24)), rated=True)
    assert found.passed
    assert {one.verdict for one in found.comparisons} == {"same"}
    assert {one.metric for one in found.comparisons} >= {"bits_per_activation", "gradient_error", "rate_ratio"}
    assert (found.regressions, found.improvements, found.reruns, found.mismatch, found.ungated) == ((), (), {}, (), ())
    assert (found.run, found.baseline, found.suite) == ("here", str(path), "quick")
    assert found.counted == f"{len(found.comparisons)} same"


@pytest.mark.parametrize(
    ("name", "value"), [("device", "cuda"), ("torch", "2.14.0"), ("threads", 4), ("gpu_name", "H100")]
)
def test_another_environment_cannot_be_compared(path: Path, name: str, value: str | int) -> None:
    """A baseline of another device, card, torch or thread count is refused, naming what differs, unless it is allowed,
    and then the verdict tells of it."""
    there = KEY | {name: value}
    with pytest.raises(BaselineError, match=f"{name} {KEY[name]} there, {value} here") as caught:
        judged(path, depth_suite(), there)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert judged(path, depth_suite(), there, any_environment=True).mismatch == (
        f"{name} {KEY[name]} there, {value} here",
    )


def test_of_several_environments_the_own_one_counts(path: Path) -> None:
    """A run is held against the section of its own environment; where there is none, the nearest is named."""
    other = KEY | {"torch": "2.14.0"}
    heavier = [msgspec.structs.replace(one, side_bytes=10**9) for one in depth_suite()]
    baseline.update(path, heavier, other)
    assert judged(path, depth_suite()).passed
    assert judged(path, heavier, other).passed
    with pytest.raises(BaselineError, match=r"no such environment, the most like it \(threads 2 there, 8 here\)"):
        judged(path, heavier, other | {"threads": 8})
    path.write_text('{"schema_version": 1, "environments": []}')
    with pytest.raises(BaselineError, match="holds no environment"):
        judged(path, depth_suite())


def test_regressions_carry_the_command_that_measures_them_again(path: Path) -> None:
    """Each case with a regression has a command, that of a memory law at all of its depths, and no other case has."""
    records = [
        msgspec.structs.replace(one, activation_bytes=one.activation_bytes + one.depth * 2**20)
        if one.method == "bdia"
        else one
        for one in depth_suite()
        if one.method != "standard"
    ]
    found = judged(path, records)
    assert not found.passed
    assert {one.case.method for one in found.regressions} == {"standard", "bdia"}
    assert set(found.reruns) == {one.case for one in found.regressions}
    series = law.series(case("bdia"))
    assert found.reruns[series].startswith("bdia-bench run quick --method bdia --depth 6,12,24 --width 256 ")
    assert " --depth 12 " in found.reruns[case("standard", depth=12)]


@pytest.mark.parametrize("name", suite.names())
def test_a_command_leaves_out_what_its_suite_settles(name: str) -> None:
    """Each command names no more axes than its suite takes to have that one case; one for each case."""
    cases = [plan.case for plan in suite.load(name).plans({}, "cpu") if plan.unsupported is None]
    lost = [Comparison(one, None, "missing", "ok", None) for one in cases]
    found = rerun.commands(name, lost, {one: entry(record(one)) for one in cases})
    whole = ("--batch", "--seed", "--width", "--vocab", "--dtype")
    assert list(found) == cases
    for one, command in found.items():
        words = shlex.split(command)
        assert words[:3] == ["bdia-bench", "run", name]
        given = {word[2:].replace("-", "_"): words[at + 1] for at, word in enumerate(words) if word[:2] == "--"}
        device = given.pop("device")
        axes_of = {axis: axes.parse(axis, text) for axis, text in given.items()}
        assert [plan.case for plan in suite.load(name).plans(axes_of, device)] == [one]
        assert not set(whole) <= set(words)


@pytest.mark.parametrize("gone", ["gone.toml", "quick"])
def test_a_command_names_all_that_cannot_be_looked_up(gone: str) -> None:
    """Where the suite is no longer there, or the case is of a method in a file, which would have to be run to be looked
    at, the command has every axis."""
    one = case("here.py:NAME" if gone == "quick" else "bdia")
    found = rerun.commands(gone, [Comparison(one, None, "missing", "ok", None)], {one: entry(record(one))})
    assert found == {one: rerun.command(gone, one)}
    assert " --vocab 256 --dtype fp32 " in found[one]


def test_only_what_was_verified_is_verified_again(path: Path) -> None:
    """The command for a case that was run with --verify has it, and that for another case has not."""
    records = [msgspec.structs.replace(one, verify=one.method == "bdia") for one in depth_suite()]
    baseline.update(path, records, KEY)
    worse = [msgspec.structs.replace(one, peak_bytes=one.peak_bytes + 1) for one in records]
    found = judged(path, worse)
    verified = {one.method for one, command in found.reruns.items() if command.endswith(" --verify")}
    assert verified == {"bdia"}


@pytest.mark.parametrize(("ours", "theirs"), [(True, False), (False, True)])
def test_a_verified_run_is_no_regression_of_one_that_is_not(path: Path, ours: bool, theirs: bool) -> None:
    """A run with --verify against a baseline without, or the other way round, is exit code 4 and says what to do; a
    baseline from before that was stored is compared."""
    of = depth_suite()
    baseline.update(path, [msgspec.structs.replace(one, verify=theirs and one.method == "bdia") for one in of], KEY)
    records = [msgspec.structs.replace(one, verify=ours and one.method == "bdia") for one in of]
    said = "measured with --verify and baseline .* without" if ours else "without --verify and baseline .* with "
    with pytest.raises(BaselineError, match=said) as caught:
        judged(path, records)
    assert caught.value.exit_code == 4
    old = (
        path.read_text().partition('"environments": [\n{')[2].removesuffix("}\n]\n}\n").replace(', "verify": true', "")
    )
    path.write_text('{"schema_version": 1, ' + old + "}")
    assert judged(path, records).passed


def test_what_an_older_baseline_lacks_is_said_and_not_compared(path: Path) -> None:
    """Metrics that the run has and the baseline knows nothing of are named, and neither pass nor fail."""
    bare = [
        msgspec.structs.replace(one, bit_exact=None, gradient_error=None, stream_elements=None, activation_parts=None)
        for one in depth_suite()
    ]
    baseline.update(path, bare, KEY)
    records = [msgspec.structs.replace(one, activation_parts={"other": one.activation_bytes}) for one in depth_suite()]
    found = judged(path, records)
    assert {one.verdict for one in found.comparisons} == {"same"}
    assert found.ungated == ("bit_exact", "gradient_error", "bits_per_activation", "where activation_bytes are")


def test_a_law_that_was_no_line_is_named(tmp_path: Path) -> None:
    """Where the baseline's points lie on no line there is no slope to hold a run to, and the series is told; the others
    are compared."""
    records = depth_suite((6, 12, 24))
    bent = [
        msgspec.structs.replace(one, activation_bytes=2 * (one.activation_bytes or 0))
        if (one.method, one.depth) == ("standard", 12)
        else one
        for one in records
    ]
    baseline.update(tmp_path / "bent.json", bent, KEY)
    found = judged(tmp_path / "bent.json", records)
    assert [(series.method, series.depth) for series in found.lineless] == [("standard", None)]
    laws = {one.case.method for one in found.comparisons if one.metric == "bits_per_activation"}
    assert laws == {one.method for one in records} - {"standard"}
    baseline.update(tmp_path / "straight.json", records, KEY)
    assert judged(tmp_path / "straight.json", bent).lineless == ()


def test_rates_need_a_baseline_that_has_them(path: Path) -> None:
    """Rates are compared only on request, and a baseline without any is no silent pass."""
    slower = [
        msgspec.structs.replace(one, step_seconds=[2 * second for second in one.step_seconds])
        if one.method == "bdia"
        else one
        for one in depth_suite()
    ]
    assert judged(path, slower).passed
    assert {one.metric for one in judged(path, slower, rated=True).regressions} == {"rate_ratio"}
    baseline.update(path, depth_suite(), KEY | {"threads": 4})
    with pytest.raises(BaselineError, match="no rate_ratio; add them with --update --rates"):
        judged(path, slower, KEY | {"threads": 4}, rated=True)


def test_a_part_of_the_baseline_is_not_all_of_it(path: Path) -> None:
    """A run of a part of the baseline's cases fails by each that is missing; one that skips a case, by that."""
    found = judged(path, depth_suite((6, 12)))
    assert [one.verdict for one in found.regressions] == ["missing"] * 5
    skipped = [
        failed(one.case(), "skipped", "a smaller case ran out of memory") if one.depth == 24 else one
        for one in depth_suite()
    ]
    assert {one.verdict for one in judged(path, skipped).regressions} == {"newly failing"}


def test_the_tolerances_are_those_of_the_suite_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite's file counts as it is now, what the run remembers where the file is gone, and the command line over
    both; a file with a mistake is an error."""
    monkeypatch.chdir(tmp_path)
    stored = run([full(case())], suite="mine.toml", tolerance={"peak_bytes": "10B"})

    def allowed(*words: str) -> bool:
        return check.tolerances(stored, words).of("peak_bytes").allows(1000, 1010)

    assert allowed()
    Path("mine.toml").write_text(SUITE)
    assert not allowed()
    Path("mine.toml").write_text(SUITE + '[tolerance]\npeak_bytes = "1%"\n')
    assert allowed()
    assert not allowed("peak_bytes=0.5%")
    Path("mine.toml").write_text(SUITE + '[tolerance]\npeak_bytes = "1x"\n')
    with pytest.raises(UsageError, match=r"^mine.toml: \[tolerance\]: peak_bytes '1x': expected a share"):
        allowed()
    Path("mine.toml").unlink()
    built_in = run([full(case())], suite="quick", tolerance={"peak_bytes": "10B"})
    assert not check.tolerances(built_in).of("peak_bytes").allows(1000, 1010)
    assert check.tolerances(None, ["10B"]).of("peak_bytes").allows(1000, 1010)


def test_fifty_checks_are_fifty_passes(path: Path) -> None:
    """The same run passes its own baseline fifty times, with the same verdicts."""
    outcomes = {repr(judged(path, depth_suite())) for _ in range(50)}
    assert len(outcomes) == 1
    assert judged(path, depth_suite()).passed
