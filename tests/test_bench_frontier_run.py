"""The frontier's parent: what is probed, confirmed and timed, and what is not done twice; with children that measure
nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import case

from bench import frontier, frontier_run, store
from bench.case import Plan
from bench.errors import UsageError
from bench.frontier_events import Doing, FrontierEvent, Summary
from bench.frontier_run import Settings
from bench.frontier_search import MOST_PROBES
from bench.store import Run, Store

FAKE = Path(__file__).with_name("fake_prober.py")
LINES: dict[str, Any] = {"standard": [100, 40], "checkpoint": [100, 10], "bdia": [104, 8]}
"""Within 1000 bytes: batches of 22, 90 and 112."""


def plan(method: str, **axes: Any) -> Plan:
    return Plan(case=case(method, **axes), measure=frozenset(("memory", "throughput")))


class Bench:
    """A directory, a fake worker, and what came of each start."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = directory / "out"
        self._log = directory / "log"
        self._patch = monkeypatch
        monkeypatch.setenv("FAKE_LOG", str(self._log))

    def run(
        self, plans: list[Plan], lines: dict[str, Any] | None = None,
        on_event: Callable[[FrontierEvent], None] = lambda event: None, **settings: Any,
    ) -> Summary:  # fmt: skip
        self._patch.setenv("FAKE_MEMORY", json.dumps(LINES | (lines or {})))
        self._log.write_text("")
        chosen: dict[str, Any] = {
            "suite": "frontier of quick", "over": "batch", "step": 1, "most": 10**6, "limit": 1000,
            "limit_text": "1000 B", "rounds": 3, "warmup": 1, "environment": "here", "worker": FAKE,
        }  # fmt: skip
        run = Run(suite="frontier of quick", started="", arguments=[], environment={})
        with Store(self.out, run, resume=True) as opened:
            return frontier_run.run(plans, opened, Settings(**(chosen | settings)), on_event)

    def jobs(self, kind: str = "") -> list[str]:
        """The children of the last start, in order: what they did, and of which methods at which batch."""
        return [line for line in self._log.read_text().splitlines() if line.startswith(kind)]

    def limits(self) -> list[str]:
        """What those children were held to: bytes of the process, of the card, and of a step."""
        return self._log.with_suffix(".limits").read_text().splitlines()

    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.out / frontier_run.OUTCOMES).read_text()))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def values(summary: Summary) -> dict[str, int | None]:
    return {one.case.method: one.value for one in summary.largests}


def test_each_method_is_taken_to_its_limit(bench: Bench) -> None:
    """Each method's largest batch is measured to fit, the next one not to, and it has trained for twenty steps."""
    summary = bench.run([plan("standard"), plan("checkpoint"), plan("bdia")])
    assert values(summary) == {"standard": 22, "checkpoint": 90, "bdia": 112}
    for one in summary.largests:
        assert (one.ending, one.beyond, one.confirmed_steps) == ("found", (one.value or 0) + 1, 20)
    for method in LINES:
        assert len([job for job in bench.jobs("probe") if f" {method}@" in job]) <= MOST_PROBES // 2 + 1
    assert bench.jobs("confirm") == ["confirm standard@22", "confirm checkpoint@90", "confirm bdia@112"]
    assert summary.exit_code == 0


def test_probes_ask_for_memory_alone(bench: Bench) -> None:
    """No step is timed while the limit is looked for: rates come at the end, side by side and at each own largest."""
    bench.run([plan("standard"), plan("checkpoint"), plan("bdia")])
    assert bench.jobs("time") == [
        "time standard@22 checkpoint@22 bdia@22", "time checkpoint@90", "time bdia@112",
    ]  # fmt: skip
    assert bench.jobs()[-3:] == bench.jobs("time")


def test_rates_are_compared_at_an_equal_batch(bench: Bench) -> None:
    """At the largest batch that all have, rates are ratios of paired rounds; at each own largest, of rates."""
    lines = {"bdia": [104, 8, {"seconds": 1.25}]}
    standard, bdia = bench.run([plan("standard"), plan("bdia")], lines).largests
    assert (standard.equal_value, bdia.equal_value) == (22, 22)
    assert (standard.equal_rate_ratio, bdia.equal_rate_ratio, bdia.rate_ratio) == (None, 0.8, 0.8)
    assert standard.tokens_per_second == standard.equal_tokens_per_second == 64.0
    assert bdia.equal_samples_per_second == 0.8


def test_settings_of_a_method_are_methods_of_their_own(bench: Bench) -> None:
    """Each number of micro-batches has a largest batch; none is probed at a batch that has no so many parts, and none
    is timed beside the others at one."""
    lines = {"standard": [100, 300]}
    plans = [plan("standard"), plan("bdia"), plan("bdia", micro_batches=4)]
    summary = bench.run(plans, lines)
    assert [one.value for one in summary.largests] == [3, 112, 448]
    assert min(int(job.rpartition("@")[2]) for job in bench.jobs("probe") if "bdia/4@" in job) == 4
    assert bench.jobs("time")[0] == "time standard@3 bdia@3"


def test_another_start_measures_nothing_again(bench: Bench) -> None:
    """Where all is known, a start on the same directory begins no child, and tells the same."""
    plans = [plan("standard"), plan("checkpoint")]
    first = bench.run(plans)
    again = bench.run(plans)
    assert bench.jobs() == []
    assert again.largests == first.largests


def test_an_interrupted_search_goes_on_where_it_was(bench: Bench) -> None:
    """After Ctrl-C all probes that ended are kept, and together the two starts make no more than one would."""

    def interrupt(event: FrontierEvent) -> None:
        if event == Doing("probe", (case("checkpoint", batch=4),), 2):
            raise KeyboardInterrupt

    plans = [plan("standard"), plan("checkpoint")]
    with pytest.raises(KeyboardInterrupt):
        bench.run(plans, on_event=interrupt)
    begun = bench.jobs()
    assert begun[-1] == "probe checkpoint@1"
    assert [one["value"] for one in bench.told()["largest"]] == [22]
    assert values(bench.run(plans)) == {"standard": 22, "checkpoint": 90}
    assert not set(begun) & set(bench.jobs())


def test_what_does_not_last_is_not_the_largest(bench: Bench) -> None:
    """Where training takes more than the probed step, the search goes on below, and confirms again."""
    (one,) = bench.run([plan("standard")], {"standard": [100, 40, {"trained": 50}]}).largests
    assert (one.value, one.beyond, one.ending, one.confirmed_steps) == (21, 22, "found", 20)
    assert bench.jobs("confirm") == ["confirm standard@22", "confirm standard@21"]


def test_running_out_of_memory_is_an_answer(bench: Bench) -> None:
    """A child that runs out of memory has said that its batch does not fit, and the command has not failed."""
    summary = bench.run([plan("standard")], {"standard": [100, 40, {"oom_above": 17}]})
    assert values(summary) == {"standard": 17}
    assert (summary.largests[0].ending, summary.largests[0].message, summary.exit_code) == ("found", None, 0)


def test_an_error_in_the_way_is_told(bench: Bench) -> None:
    """Where another error than memory stands in the way, the largest below it is known, and why there is no more."""
    summary = bench.run([plan("standard")], {"standard": [100, 40, {"error_above": 9}]})
    (one,) = summary.largests
    assert (one.value, one.ending, one.message) == (9, "stopped", "RuntimeError: no such position")
    assert summary.exit_code == 3


def test_errors_are_tried_again_by_a_later_start(bench: Bench) -> None:
    """A probe that failed does not stand: what was in its way may be gone."""
    bench.run([plan("standard")], {"standard": [100, 40, {"error_above": 9}]})
    assert values(bench.run([plan("standard")])) == {"standard": 22}


def test_nothing_may_fit(bench: Bench) -> None:
    """Where not even one sample fits, the method has a row that says so, and alone it makes exit code 5."""
    summary = bench.run([plan("standard")], limit=120)
    (one,) = summary.largests
    assert (one.value, one.beyond, one.ending, summary.exit_code) == (None, 1, "none", 5)
    assert bench.jobs() == ["probe standard@1"]


def test_the_largest_allowed_is_said_to_be_at_least(bench: Bench) -> None:
    """Where all that may be tried fits, the answer is open upwards; a later start may try more."""
    assert [one.ending for one in bench.run([plan("standard")], most=10).largests] == ["at least"]
    assert values(bench.run([plan("standard")])) == {"standard": 22}


def test_settings_that_cannot_be_are_rows(bench: Bench) -> None:
    """What no batch will do for is `unsupported`, with its reason, and needs no child."""
    refused = [
        plan("bdia", micro_batches=64),
        Plan(case=case("bdia", gamma="0.3"), measure=frozenset(), unsupported="no power of two"),
    ]
    summary = bench.run(refused, most=10)
    assert bench.jobs() == []
    assert [(one.value, one.ending) for one in summary.largests] == [(None, "stopped")] * 2
    assert "64 parts" in (summary.largests[0].message or "")
    assert summary.largests[1].message == "no power of two"
    assert summary.exit_code == 5


def test_what_memory_does_not_follow_is_an_error(bench: Bench) -> None:
    """A model that takes the same memory at every batch is refused, in words, after three probes."""
    with pytest.raises(UsageError, match=r"--over batch: gpt takes the same memory at 1 and 32"):
        bench.run([plan("standard")], {"standard": [100, 0]})
    assert len(bench.jobs()) == 3


def test_a_method_that_cannot_be_timed_keeps_its_largest(bench: Bench) -> None:
    """Who runs out of memory beside the others is left out of the rounds, and says so; the others are timed."""
    standard, bdia = bench.run([plan("standard"), plan("bdia")], {"bdia": [104, 8, {"untimed": True}]}).largests
    assert (bdia.value, bdia.tokens_per_second) == (112, None)
    assert bdia.message == "while timing: out of memory"
    assert standard.tokens_per_second == 64.0
    _, again = bench.run([plan("standard"), plan("bdia")]).largests
    assert (again.message, again.tokens_per_second) == (None, 64.0)


@pytest.mark.parametrize("other", [{"limit": 900}, {"over": "depth"}, {"step": 2}])
def test_another_frontier_is_not_gone_on_with(bench: Bench, other: dict[str, Any]) -> None:
    """A directory holds one frontier: another limit, axis or step is an error that names both, and nothing is added."""
    bench.run([plan("standard")])
    held = (bench.out / store.RESULTS).read_bytes()
    with pytest.raises(UsageError, match=r"holds a frontier over batch by 1 within 1000 bytes"):
        bench.run([plan("standard")], **other)
    assert (bench.out / store.RESULTS).read_bytes() == held


def test_other_rounds_or_code_are_measured_anew(bench: Bench) -> None:
    """Nothing stale is used again: other rounds, like another environment, have all of it measured again."""
    bench.run([plan("standard")])
    begun = len(bench.jobs())
    bench.run([plan("standard")], rounds=5)
    assert len(bench.jobs()) == begun


@pytest.mark.parametrize(
    ("settings", "held", "timed"),
    [
        ({"process_limit": 5000}, "5000 None 1000", "None None 1000"),
        ({"on_card": True}, "None 1000 1000", "None 1000 1000"),
    ],
)
def test_children_are_held_to_the_limit(bench: Bench, settings: dict[str, Any], held: str, timed: str) -> None:
    """On a card every child is held to the limit itself; on a CPU, what is measured to what it is given beyond."""
    bench.run([plan("standard")], **settings)
    assert {line.partition(" ")[2] for line in bench.limits() if not line.startswith("time")} == {held}
    assert [line for line in bench.limits() if line.startswith("time")] == [f"time {timed}"]


def test_the_file_for_programs_tells_what_was_found(bench: Bench) -> None:
    """`frontier.json` has the question, and for each method what the tables say and how much is removable at most."""
    bench.run([plan("standard"), plan("bdia")])
    told = bench.told()
    assert (told["over"], told["step"], told["limit_bytes"]) == ("batch", 1, 1000)
    standard, bdia = told["largest"]
    assert (standard["value"], bdia["value"], standard["peak_bytes"]) == (22, 112, 980)
    assert standard["removable_share"] == 880 / 980
    assert standard["case"]["batch"] is None


def test_records_are_marked(bench: Bench) -> None:
    """Each probe is a record with what it was held to and looked for; the one that was confirmed says so."""
    bench.run([plan("standard")])
    records = {record.batch: record for record in store.read(bench.out).records}
    assert {(one.limit_bytes, one.frontier_over, one.frontier_step) for one in records.values()} == {(1000, "batch", 1)}
    assert [batch for batch, one in records.items() if one.confirmed_steps is not None] == [22]
    assert [batch for batch, one in records.items() if not frontier.fits(one)] == [23]
