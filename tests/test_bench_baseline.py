"""The baseline file of the CI gate: its text, its environment, what an update changes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench import baseline, compare
from bench.case import Case
from bench.environment import capture
from bench.errors import BaselineError, NothingMeasuredError, UsageError
from bench.record import Record
from bench.store import Run, Store

KEY = {"schema_version": 1, "device": "cpu", "torch": "2.13.0", "threads": 2, "card": None}
CASE = Case(
    method="bdia", model="gpt", depth=6, width=64, heads=2, seq=32, batch=2, bits=9, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=0, data=None,
)  # fmt: skip


def record(depth: int = 6, **measured: object) -> Record:
    axes = msgspec.structs.asdict(CASE) | {"depth": depth}
    values = {"activation_bytes": 1000, "peak_bytes": 2000, "side_bytes": 10} | measured
    return Record(**axes, suite="quick", fingerprint="f", **values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ci" / "baseline.json"


def test_a_run_matches_the_baseline_it_made(path: Path) -> None:
    """A baseline written from a run and read again finds nothing to say about that run."""
    baseline.update(path, [record(6), record(12)], KEY)
    found = baseline.check(path, [record(6), record(12)], KEY)
    assert {comparison.verdict for comparison in found} == {"same"}


def test_a_baseline_from_before_there_was_a_choice_of_gamma_holds(path: Path) -> None:
    """An entry that does not name γ is of ±½, and is compared with what is measured now."""
    baseline.update(path, [record()], KEY)
    text = path.read_text()
    path.write_text(text.replace('"gamma": "0.5", ', ""))
    assert path.read_text() != text
    assert {comparison.verdict for comparison in baseline.check(path, [record()], KEY)} == {"same"}


def test_the_text_is_sorted_one_case_a_line(path: Path) -> None:
    """Cases measured in any order give the same text, one a line, sorted by number and not by spelling."""
    baseline.update(path, [record(12), record(6), record(24), record(100)], KEY)
    text = path.read_text()
    baseline.update(path, [record(100), record(24), record(12), record(6)], KEY)
    assert path.read_text() == text
    lines = [line for line in text.splitlines() if '"method"' in line]
    assert [msgspec.json.decode(line.rstrip(","))["depth"] for line in lines] == [6, 12, 24, 100]


def test_one_changed_case_is_one_changed_line(path: Path) -> None:
    """A case that changes touches its own line and no other."""
    baseline.update(path, [record(6), record(12)], KEY)
    before = path.read_text().splitlines()
    baseline.update(path, [record(6), record(12, peak_bytes=1999)], KEY)
    after = path.read_text().splitlines()
    assert [old == new for old, new in zip(before, after, strict=True)].count(False) == 1


def test_a_case_without_an_axis_sorts_beside_those_with_it(path: Path) -> None:
    """Records of methods without bits or models without a sequence sort beside the others."""
    axes = msgspec.structs.asdict(CASE) | {"bits": None, "seq": None, "vocab": None}
    baseline.update(path, [record(), Record(**axes, suite="quick", fingerprint="f")], KEY)
    assert [entry.seq for entry in baseline.read(path).cases] == [None, 32]


def test_no_baseline_has_a_code_of_its_own(path: Path) -> None:
    """A baseline that is not there ends in exit code 4 and says how to write one."""
    with pytest.raises(BaselineError, match="write one with --update") as caught:
        baseline.check(path, [record()], KEY)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("name", "value"), [("device", "cuda"), ("torch", "2.14.0"), ("threads", 4), ("card", "H100")])
def test_another_environment_cannot_be_compared(path: Path, name: str, value: str | int) -> None:
    """A baseline of another device, card, torch or thread count is refused, naming what differs."""
    baseline.update(path, [record()], KEY)
    with pytest.raises(BaselineError, match=f"{name} {KEY[name]} there, {value} here") as caught:
        baseline.check(path, [record()], KEY | {name: value})
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '{"schema_version": 1}',
        '{"schema_version": 1, "environment": {}, "cases": [{"depth": 1}]}',
    ],
)
def test_a_file_that_is_no_baseline_is_refused_and_kept(path: Path, text: str) -> None:
    """A file that is not a baseline is neither compared nor overwritten."""
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BaselineError, match="is not a baseline"):
        baseline.check(path, [record()], KEY)
    with pytest.raises(BaselineError, match="name another file"):
        baseline.update(path, [record()], KEY)
    assert path.read_text() == text


def test_another_schema_version_cannot_be_compared(path: Path) -> None:
    """A baseline of another schema version is refused, whatever else it holds."""
    path.parent.mkdir()
    path.write_text('{"schema_version": 99, "future": true}')
    with pytest.raises(BaselineError, match="schema version 99, expected 1"):
        baseline.check(path, [record()], KEY)


def test_an_update_tells_what_changed(path: Path) -> None:
    """An update returns what got better, worse, new and missing, and nothing that stayed the same."""
    assert baseline.update(path, [record(6), record(12), record(18)], KEY).created
    update = baseline.update(path, [record(6), record(12, peak_bytes=1), record(24)], KEY)
    assert not update.created
    assert update.cases == 3
    assert [(change.case.depth, change.metric, change.verdict) for change in update.changes] == [
        (12, "peak_bytes", "better"), (18, None, "missing"), (24, None, "new"),
    ]  # fmt: skip


def test_an_update_replaces_the_baseline_of_another_environment(path: Path) -> None:
    """An update in another environment starts over: it says what is another, and does not compare the bytes."""
    baseline.update(path, [record()], KEY)
    update = baseline.update(path, [record(peak_bytes=5)], KEY | {"torch": "2.14.0", "threads": 4})
    assert not update.created
    assert [str(change) for change in update.changes] == [
        "environment changed: threads 2 -> 4", "environment changed: torch 2.13.0 -> 2.14.0",
    ]  # fmt: skip
    assert compare.counted(update.changes) == "2 environment changed"
    assert baseline.read(path).environment["torch"] == "2.14.0"


def test_an_empty_run_is_no_baseline(path: Path) -> None:
    """A run without a record makes no baseline and passes no check."""
    with pytest.raises(NothingMeasuredError):
        baseline.update(path, [], KEY)
    assert not path.exists()
    baseline.update(path, [record()], KEY)
    with pytest.raises(NothingMeasuredError):
        baseline.check(path, [], KEY)


def test_a_baseline_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A path under a file is refused with exit code 2, and leaves nothing behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the baseline"):
        baseline.update(tmp_path / "file" / "baseline.json", [record()], KEY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_update_leaves_no_other_file(path: Path) -> None:
    """The baseline is written aside and moved into place, and nothing stays beside it."""
    baseline.update(path, [record()], KEY)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_run_of_two_environments_says_so(tmp_path: Path) -> None:
    """Loading a run that was gone on with under another torch tells of both; another commit is no reason to."""
    first = msgspec.to_builtins(capture("cpu", threads=2)) | {"torch": "2.13.0"}
    for number, change in enumerate(({}, {"commit": "abc"}, {"torch": "2.99.0"})):
        run = Run(suite="quick", started="", arguments=[], environment=first | change)
        with Store(tmp_path, run, resume=bool(number)) as opened:
            opened.append(record(number + 1))
        said = baseline.load(tmp_path).messages
        assert len(said) == (number == 2)
    assert said == [f"{tmp_path} was measured in more than one environment: torch 2.13.0 at first, 2.99.0 later"]
