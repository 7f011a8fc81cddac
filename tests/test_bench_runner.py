"""The runner: order, failures as rows, resuming; with children that measure nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import METHODS, case

from bench import limits, runner, store
from bench.case import MEASUREMENTS, Case, Measurement, Plan
from bench.events import JobStarted, RecordDone, RunEvent, RunStarted, Summary
from bench.outcome import MEASURED
from bench.record import Record
from bench.runner import Settings
from bench.store import Run, Store

FAKE = Path(__file__).with_name("fake_worker.py")


def plan(method: str, measure: Sequence[Measurement] = MEASUREMENTS, **axes: Any) -> Plan:
    return Plan(case=case(method, **axes), measure=frozenset(measure))


class Bench:
    """A directory, a fake worker, and what came of each run."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = directory / "out"
        self._log = directory / "log"
        self._patch = monkeypatch
        self.events: list[RunEvent] = []
        monkeypatch.setenv("FAKE_WORKER_LOG", str(self._log))

    def run(
        self, plans: Sequence[Plan], behaviours: dict[str, str] | None = None,
        on_event: Callable[[RunEvent], None] | None = None, **settings: Any,
    ) -> Summary:  # fmt: skip
        self._patch.setenv("FAKE_WORKER", json.dumps(behaviours or {}))
        self._log.write_text("")
        self.events = []
        chosen: dict[str, Any] = {"suite": "quick", "rounds": 3, "warmup": 1, "environment": "here", "worker": FAKE}
        with Store(self.out, Run(suite="quick", started="", arguments=[], environment={}), resume=True) as opened:
            return runner.run(plans, opened, Settings(**(chosen | settings)), on_event or self.events.append)

    def jobs(self) -> list[str]:
        """The children of the last run, in order: what they did, and of which methods."""
        return self._log.read_text().splitlines()

    def sent(self) -> dict[str, Any]:
        """The last job, as its child read it."""
        return dict(json.loads(self._log.with_suffix(".job").read_text()))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / store.RESULTS).read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def statuses(records: Sequence[Record]) -> dict[str, str]:
    return {record.method: record.status for record in records}


def test_a_group_is_timed_together_and_measured_one_by_one(bench: Bench) -> None:
    """Each group gets one timing child, then a fresh child for each case, group after group."""
    bench.run([plan("standard", depth=2), plan("bdia", depth=2), plan("standard", depth=4), plan("bdia", depth=4)])
    group = ["time standard bdia", "measure standard", "measure bdia"]
    assert bench.jobs() == group * 2


def test_cases_without_memory_share_a_child(bench: Bench) -> None:
    """Where no memory is measured there is no need for a fresh process a case."""
    bench.run([plan(method, ["reconstruction"]) for method in ("bdia-naive", "bdia")])
    assert bench.jobs() == ["measure bdia-naive bdia"]


def test_a_record_holds_what_all_children_said(bench: Bench) -> None:
    """Times and the rest end up in one record, with the case, the suite and the threads."""
    (record,) = bench.run([plan("bdia")]).records
    assert record.case() == case("bdia")
    assert (record.suite, record.status, record.message, record.threads) == ("quick", "ok", None, 2)
    assert record.step_seconds == [0.5, 0.25, 0.5]
    assert (record.tokens_per_second, record.activation_bytes, record.loss) == (32.0, 1000, 5.5)
    assert store.read(bench.out).records == [record]


def test_a_case_that_cannot_be_is_a_row_without_a_child(bench: Bench) -> None:
    """What its plan calls unsupported is recorded as such, and is neither timed nor measured beside its group."""
    refused = Plan(case=case("bdia", gamma="0.6"), measure=frozenset(), unsupported="no power of two")
    found = bench.run([plan("bdia-stored", gamma="0.6"), refused])
    assert bench.jobs() == ["time bdia-stored", "measure bdia-stored"]
    assert [(one.method, one.status, one.message) for one in found.records] == [
        ("bdia-stored", "ok", None), ("bdia", "unsupported", "no power of two"),
    ]  # fmt: skip
    assert found.failed == ()


def test_verification_is_recorded(bench: Bench) -> None:
    """The record of a verified case says so, and one measured without it does not stand in for it."""
    verified = Plan(case=case("bdia"), measure=frozenset(MEASUREMENTS), verify=True)
    assert [one.verify for one in bench.run([plan("bdia")]).records] == [False]
    assert [one.verify for one in bench.run([verified]).records] == [True]
    assert bench.run([verified]).reused == 1


def test_throughput_alone_needs_no_second_child(bench: Bench) -> None:
    """A case of which only the time is wanted is done once it is timed."""
    (record,) = bench.run([plan("bdia", ["throughput"])]).records
    assert bench.jobs() == ["time bdia"]
    assert (record.status, record.step_seconds, record.activation_bytes) == ("ok", [0.5, 0.25, 0.5], None)


@pytest.mark.parametrize(
    ("behaviour", "status", "message"),
    [
        ("crash", "error", "RuntimeError: it broke"),
        ("kill", "oom", "killed by signal 9, most often because memory ran out"),
        ("silent", "error", "the child process ended without an answer"),
        ("garbage", "error", "its answer is not readable"),
        ("misnamed", "error", "its answer is not readable: there is no field 'pekes'"),
        ("mistyped", "error", "its answer is not readable: Expected `int | null`, got `str`"),
        ("oom", "oom", "said oom"),
        ("unsupported", "unsupported", "said unsupported"),
        ("stubborn", "timeout", "not done after 1 s"),
    ],
)
def test_a_failure_is_a_row_and_the_run_goes_on(bench: Bench, behaviour: str, status: str, message: str) -> None:
    """However a child fails, its case has a record with status and message, and the other cases are measured."""
    plans = [plan(method, ["memory"]) for method in ("standard", "bdia", "checkpoint")]
    limit = 1.0 if behaviour == "stubborn" else None
    found = bench.run(plans, {"measure bdia": behaviour}, timeout_seconds=limit)
    assert statuses(found.records) == {"standard": "ok", "bdia": status, "checkpoint": "ok"}
    failed = found.records[1]
    assert (failed.message or "").startswith(message)
    assert failed.activation_bytes is None
    assert bool(found.failed) == (status != "unsupported")
    assert len(bench.lines()) == 3


def test_a_failure_keeps_what_was_measured(bench: Bench) -> None:
    """A record that failed half-way has the fields that were measured before."""
    (record,) = bench.run([plan("bdia", ["memory"])], {"measure bdia": "unsupported"}).records
    assert (record.status, record.loss) == ("unsupported", 2.0)


def test_what_was_measured_before_a_child_was_killed_is_kept(bench: Bench) -> None:
    """A child that is killed over one measurement leaves the earlier ones, and the record says over which it was."""
    (record,) = bench.run([plan("bdia", ["memory", "gradients"])], {"measure bdia": "kill half-way"}).records
    assert (record.status, record.activation_bytes, record.gradient_error) == ("oom", 7, None)
    assert (record.message or "").startswith("while measuring gradients: killed by signal 9")


@pytest.mark.parametrize("behaviour", ["crash", "kill", "oom", "garbage", "silent"])
def test_who_fails_in_the_rounds_is_left_out_and_the_others_begin_again(bench: Bench, behaviour: str) -> None:
    """The group is timed again without the member that failed, which has the failure for its status."""
    plans = [plan(method) for method in ("standard", "checkpoint", "bdia")]
    found = bench.run(plans, {"time checkpoint": behaviour})
    assert bench.jobs()[:2] == ["time standard checkpoint bdia", "time standard bdia"]
    assert statuses(found.records)["checkpoint"] in ("error", "oom")
    assert statuses(found.records)["bdia"] == "ok"
    failed = found.records[1]
    assert (failed.message or "").startswith("while timing: ")
    assert (failed.step_seconds, failed.activation_bytes) == (None, 1000)


def test_rounds_that_take_too_long_fail_for_all(bench: Bench) -> None:
    """No one member is to blame for a timeout of the rounds they share; what else is measured is kept."""
    found = bench.run([plan("standard"), plan("bdia")], {"time bdia": "stubborn"}, timeout_seconds=1.0)
    assert bench.jobs() == ["time standard bdia", "measure standard", "measure bdia"]
    assert [(one.status, one.step_seconds, one.activation_bytes) for one in found.records] == [
        ("timeout", None, 1000), ("timeout", None, 1000),
    ]  # fmt: skip
    assert "not done after 2 s (1 s for each of 2 cases timed together)" in (found.records[0].message or "")


def test_cases_after_the_one_that_killed_their_child_are_measured(bench: Bench) -> None:
    """Of cases that share a child, only the one it died at has failed."""
    plans = [plan(method, ["gradients"]) for method in ("checkpoint", "bdia-naive", "bdia")]
    found = bench.run(plans, {"measure bdia-naive": "kill"})
    assert statuses(found.records) == {"checkpoint": "ok", "bdia-naive": "oom", "bdia": "ok"}
    assert bench.jobs() == ["measure checkpoint bdia-naive bdia", "measure bdia"]


def test_nothing_measured_is_measured_again(bench: Bench) -> None:
    """A second run of the same cases starts no child and adds no line."""
    plans = [plan(method) for method in METHODS]
    first = bench.run(plans)
    before = bench.lines()
    again = bench.run(plans)
    assert (bench.jobs(), bench.lines()) == ([], before)
    assert (again.measured, again.reused, again.records) == (0, 5, first.records)
    assert bench.events == [RunStarted(5, first.records, 0)]


@pytest.mark.parametrize("change", [{"environment": "elsewhere"}, {"rounds": 4}, {"threads": 1}])
def test_nothing_stale_is_used(bench: Bench, change: dict[str, Any]) -> None:
    """A record of another environment or other settings is measured again, and counted as stale."""
    bench.run([plan("bdia")])
    found = bench.run([plan("bdia")], **change)
    assert (found.measured, found.reused) == (1, 0)
    assert bench.events[0] == RunStarted(1, (), 1)
    assert len(store.read(bench.out).records) == 1


def test_other_data_under_the_same_name_is_not_the_same(bench: Bench, tmp_path: Path) -> None:
    """The fingerprint goes by what is in the user's file, not by its name."""
    text = tmp_path / "text.txt"
    text.write_text("a" * 4096)
    plans = [plan("bdia", ["memory"], data=str(text))]
    bench.run(plans)
    assert bench.run(plans).reused == 1
    text.write_text("b" * 4096)
    assert bench.run(plans).reused == 0
    assert [line["data"] for line in bench.lines()] == ["text.txt", "text.txt"]


def test_a_failed_case_is_run_again_only_when_asked(bench: Bench) -> None:
    """Failures stay until `rerun` is `failed`; with `all` everything is measured again."""
    plans = [plan("standard", ["memory"]), plan("bdia", ["memory"])]
    bench.run(plans, {"measure bdia": "crash"})
    kept = bench.run(plans)
    assert (kept.reused, statuses(kept.failed)) == (2, {"bdia": "error"})
    again = bench.run(plans, rerun="failed")
    assert (again.reused, again.measured, again.failed) == (1, 1, ())
    assert bench.jobs() == ["measure bdia"]
    bench.run(plans, rerun="all")
    assert bench.jobs() == ["measure standard", "measure bdia"]


def test_what_is_unsupported_is_no_failure(bench: Bench) -> None:
    """A case beyond the exact range is not run again as failed."""
    plans = [plan("bdia", ["memory"])]
    bench.run(plans, {"measure bdia": "unsupported"})
    assert bench.run(plans, rerun="failed").reused == 1


def test_a_group_that_lacks_a_member_is_timed_again_as_a_whole(bench: Bench) -> None:
    """A new member's rounds are shared by the stored ones, whose records get the new times and nothing else new."""
    bench.run([plan("standard"), plan("bdia")])
    with (bench.out / store.RESULTS).open("r+") as file:
        text = (
            file.read()
            .replace("[0.5,0.25,0.5]", "[9.0,9.0,9.0]")
            .replace('"activation_bytes":1000', '"activation_bytes":7')
        )
        file.seek(0)
        file.write(text)
        file.truncate()
    stored = {one.method: one for one in store.read(bench.out).records}
    found = bench.run([plan("standard"), plan("checkpoint"), plan("bdia")])
    assert bench.jobs() == ["time standard checkpoint bdia", "measure checkpoint"]
    assert bench.events[0] == RunStarted(3, (stored["standard"], stored["bdia"]), 0, timed_again=2)
    assert [(one.method, one.step_seconds, one.activation_bytes) for one in found.records] == [
        ("standard", [0.5, 0.25, 0.5], 7), ("checkpoint", [0.5, 0.25, 0.5], 1000), ("bdia", [0.5, 0.25, 0.5], 7),
    ]  # fmt: skip
    assert len(bench.lines()) == 5
    assert {one.method: one for one in store.read(bench.out).records} == {one.method: one for one in found.records}


LARGE = "larger than depth=4, which ran out of memory; --no-skip measures it all the same"


def growing(*depths: int, measure: Sequence[Measurement] = MEASUREMENTS) -> list[Plan]:
    return [plan(method, measure, depth=depth) for depth in depths for method in ("standard", "bdia")]


def test_what_is_larger_than_what_ran_out_of_memory_is_skipped(bench: Bench) -> None:
    """After an OOM larger cases of the same method get a row without a child and are not timed; others are measured."""
    found = bench.run(growing(2, 4, 8, 16), {"measure standard depth=4": "kill"})
    assert [one.status for one in found.records] == ["ok", "ok", "oom", "ok", "skipped", "ok", "skipped", "ok"]
    assert [found.records[index].message for index in (4, 6)] == [LARGE, LARGE]
    assert bench.jobs()[6:] == ["time bdia", "measure bdia"] * 2
    assert [record.method for record in found.failed] == ["standard"]
    assert len(bench.lines()) == 8
    done = [event.done for event in bench.events if isinstance(event, RecordDone)]
    assert done == list(range(1, 9))


def test_what_is_skipped_stands_as_long_as_the_oom_does(bench: Bench) -> None:
    """Resuming measures nothing; once the case that ran out is measured, so are those that were left out."""
    plans = growing(2, 4, 8)
    bench.run(plans, {"measure standard depth=4": "oom"})
    before = bench.lines()
    again = bench.run(plans)
    assert (bench.jobs(), bench.lines(), again.reused) == ([], before, 6)
    bench.run(plans, {"measure standard depth=4": "oom"}, rerun="failed")
    assert bench.jobs() == ["time standard bdia", "measure standard"]
    assert [line["status"] for line in bench.lines()[6:]] == ["ok", "oom", "skipped"]  # the first with new times
    cured = bench.run(plans, rerun="failed")
    assert {record.status for record in cured.records} == {"ok"}
    assert "measure standard" in bench.jobs()[-1]
    assert len(store.read(bench.out).records) == 6


def test_larger_cases_are_tried_when_asked(bench: Bench) -> None:
    """Without skipping every case is measured, also those that an earlier start skipped, and an OOM stays one."""
    plans = growing(4, 8, measure=["memory"])
    bench.run(plans, {"measure standard depth=4": "oom"})
    found = bench.run(plans, {"measure standard depth=8": "oom"}, skip=False)
    assert bench.jobs() == ["measure standard"]
    assert [one.status for one in found.records] == ["oom", "ok", "oom", "ok"]


def test_only_what_ran_out_is_left_out(bench: Bench) -> None:
    """Where the step fitted and the gradients' reference did not, larger cases are measured without gradients."""
    plans = [plan("bdia", depth=depth) for depth in (4, 8)]
    first, second = bench.run(plans, {"measure bdia depth=4": "kill half-way"}).records
    assert (first.status, first.activation_bytes) == ("oom", 7)
    assert (second.status, second.activation_bytes, second.step_seconds) == ("skipped", 1000, [0.5, 0.25, 0.5])
    assert second.message == (
        "reconstruction, gradients left out: larger than depth=4, which ran out of memory over that; "
        "--no-skip measures it all the same"
    )
    assert set(bench.sent()["members"][0]["measure"]) == {"memory", "throughput"}
    assert bench.run(plans).reused == 2


def test_who_ran_out_in_the_rounds_is_timed_no_more(bench: Bench) -> None:
    """A member that ran out of memory in its group's rounds takes no part in those of larger groups."""
    found = bench.run(
        growing(4, 8, measure=["memory", "throughput"]),
        {"time standard depth=4": "kill", "measure standard": "with peak"},
    )
    assert bench.jobs() == [
        "time standard bdia", "time bdia", "measure standard", "measure bdia",
        "time bdia", "measure standard", "measure bdia",
    ]  # fmt: skip
    assert [(one.status, one.activation_bytes) for one in found.records[::2]] == [("oom", 7), ("skipped", 7)]
    assert (found.records[2].message or "").startswith("throughput left out: larger than depth=4, which ran out")


def test_an_oom_is_told_with_the_limit_that_held_it(bench: Bench) -> None:
    """The limit reaches the child, and the message of a case that ran out names it."""
    (record,) = bench.run(
        [plan("bdia", ["memory"])], {"measure bdia": "oom"}, memory_limit=limits.parse("4GiB")
    ).records
    assert record.message == "said oom; held to 4GiB by --memory-limit"
    assert bench.sent()["memory_limit"] == 4 * 2**30


def test_an_interrupt_keeps_what_was_stored(bench: Bench) -> None:
    """Ctrl-C after a record: the record stays, and resuming measures the rest."""
    plans = [plan("standard", ["memory"]), plan("bdia", ["memory"])]

    def interrupt(event: RunEvent) -> None:
        if isinstance(event, RecordDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(plans, on_event=interrupt)
    assert [line["method"] for line in bench.lines()] == ["standard"]
    bench.run(plans)
    assert bench.jobs() == ["measure bdia"]


def test_progress_is_told(bench: Bench) -> None:
    """Events tell of each child before it starts and of each record as it is stored, with the time left once it can be
    told."""
    bench.run([plan("standard"), plan("bdia"), plan("checkpoint")])
    kinds = [type(event) for event in bench.events]
    assert kinds == [RunStarted, JobStarted, JobStarted, RecordDone, JobStarted, RecordDone, JobStarted, RecordDone]
    done = [event for event in bench.events if isinstance(event, RecordDone)]
    assert [(event.done, event.cases) for event in done] == [(1, 3), (2, 3), (3, 3)]
    started = [event for event in bench.events if isinstance(event, JobStarted)]
    assert [event.kind for event in started] == ["time", *["measure"] * 3]
    assert done[-1].remaining_seconds == 0
    assert [event.remaining_seconds is None for event in started] == [True, True, True, False]
    assert (started[-1].remaining_seconds or 0) > 0


def test_plans_are_grouped_by_all_but_method_and_l() -> None:
    """Groups differ in an axis other than method and l, and keep the order of the plans."""
    plans = [plan("standard", depth=2), plan("bdia", depth=4), plan("bdia", depth=2), plan("bdia", depth=2, bits=6)]
    assert [[one.case.method for one in group] for group in runner.groups(plans)] == [
        ["standard", "bdia", "bdia"], ["bdia"],
    ]  # fmt: skip


def test_no_child_can_set_what_the_runner_says() -> None:
    """The fields a child may fill in are those that are measured, not the case, the status or the fingerprint."""
    own = {"status", "message", "suite", "fingerprint", "code", "schema_version", "threads", "verify"}
    own.update(("limit_bytes", "frontier_over", "frontier_step", "experiment", "recipe", "predicted"))
    own.update(Case.__struct_fields__)
    assert set(MEASURED) | own == set(Record.__struct_fields__)
    assert MEASURED.isdisjoint(own)
