"""The baseline file of the CI gate: its text, its environments, what an update changes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bench import baseline, parts, stored_run
from bench.case import Case
from bench.entry import Entry
from bench.environment import capture
from bench.errors import BaselineError, NothingMeasuredError, UsageError
from bench.record import Record
from bench.store import Run, Store

KEY = {"schema_version": 1, "device": "cpu", "torch": "2.13.0", "threads": 2, "gpu_name": None}
OTHER = KEY | {"torch": "2.14.0"}
CARD = KEY | {"device": "cuda", "gpu_name": "H100"}
CASE = Case(
    method="bdia", model="gpt", depth=6, width=64, heads=2, seq=32, batch=2, bits=9, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=0, data=None,
)  # fmt: skip
PARTS = parts.packed({("residual_states", 5): 900, ("side_bits", 1): 50, ("side_bits", 2): 50})


def record(depth: int = 6, **measured: object) -> Record:
    axes = msgspec.structs.asdict(CASE) | {"depth": depth}
    values = {"activation_bytes": 1000, "peak_bytes": 2000, "side_bytes": 10} | measured
    return Record(**axes, suite="quick", fingerprint="f", **values)


def older(path: Path, records: list[Record], key: baseline.EnvironmentKey = KEY) -> str:
    """Writes a file as earlier versions did: one environment, three metrics, nulls spelled out."""
    path.parent.mkdir(exist_ok=True)
    cases = []
    for one in records:
        axes = msgspec.structs.asdict(one.case())
        sizes = {name: getattr(one, name) for name in ("activation_bytes", "peak_bytes", "side_bytes")}
        cases.append(json.dumps(axes | {"status": one.status} | sizes))
    environment = json.dumps(dict(key), sort_keys=True)
    text = '{\n"schema_version": 1,\n"environment": %s,\n"cases": [\n%s\n]\n}\n' % (environment, ",\n".join(cases))  # noqa: UP031
    path.write_text(text)
    return text


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if '"method"' in line]


def only(path: Path) -> baseline.Section:
    [section] = baseline.read(path).sections
    return section


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ci" / "baseline.json"


def test_an_entry_says_what_its_record_does(path: Path) -> None:
    """A line holds what is compared of a record, and what the memory law and the breakdown need."""
    whole = record(
        verify=True, bit_exact=True, gradient_error=0.0, rounding_error=0.5, blocks=6, stream_elements=4096,
        stream_dtype="float32", activation_parts=PARTS, peak_parts=PARTS,
    )  # fmt: skip
    baseline.update(path, [whole], KEY)
    [entry] = only(path).cases
    assert entry.case() == whole.case()
    for name in Entry.__struct_fields__:
        if name != "rate_ratio":
            assert getattr(entry, name) == getattr(whole, name), name


def test_what_is_null_is_left_out(path: Path) -> None:
    """A line has nothing but what was measured, and what was not comes back as None."""
    axes = msgspec.structs.asdict(CASE) | {"method": "standard", "bits": None, "gamma": None, "seq": None}
    axes |= {"micro_batches": None, "keep": None}
    baseline.update(path, [Record(**axes, suite="quick", fingerprint="f", status="oom")], KEY)
    assert lines(path) == [
        '{"method": "standard", "model": "gpt", "depth": 6, "width": 64, "heads": 2, "batch": 2, "vocab": 256, '
        '"dtype": "fp32", "train_steps": 0, "device": "cpu", "seed": 0, "status": "oom"}'
    ]
    [entry] = only(path).cases
    assert (entry.seq, entry.bits, entry.activation_bytes, entry.bit_exact, entry.verify) == (None,) * 4 + (False,)


def test_a_baseline_from_before_there_was_a_choice_of_gamma_holds(path: Path) -> None:
    """An entry that does not name γ is of ±½."""
    baseline.update(path, [record()], KEY)
    text = path.read_text()
    path.write_text(text.replace('"gamma": "0.5", ', ""))
    assert path.read_text() != text
    assert [entry.case() for entry in only(path).cases] == [record().case()]


def test_the_text_is_sorted_one_case_a_line(path: Path) -> None:
    """Cases measured in any order give the same text, one a line, sorted by number and not by spelling."""
    baseline.update(path, [record(12), record(6), record(24), record(100)], KEY)
    text = path.read_text()
    baseline.update(path, [record(100), record(24), record(12), record(6)], KEY)
    assert path.read_text() == text
    assert [msgspec.json.decode(line.rstrip(","))["depth"] for line in lines(path)] == [6, 12, 24, 100]


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
    assert [entry.seq for entry in only(path).cases] == [None, 32]


def test_several_environments_stand_side_by_side(path: Path) -> None:
    """An update adds its own environment where there is none such and replaces it where there is, and leaves the
    others byte for byte, however they are written."""
    baseline.update(path, [record(), record(12)], CARD)
    added = baseline.update(path, [record(peak_bytes=5)], KEY)
    assert (added.created, added.others) == (True, 1)
    own_hand = path.read_text().replace('{"method": "bdia"', '{ "method" :\t"bdia"')
    path.write_text(own_hand)
    kept = [section.text for section in baseline.read(path).sections]
    update = baseline.update(path, [record(peak_bytes=4)], OTHER)
    assert (update.created, update.cases, update.others) == (True, 1, 2)
    assert all(text in own_hand and text in path.read_text() for text in kept)
    replaced = baseline.update(path, [record(peak_bytes=3)], OTHER)
    assert (replaced.created, replaced.others) == (False, 2)
    assert [change.verdict for change in replaced.changes] == ["better"]
    held = baseline.read(path)
    assert [held.nearest(key).cases[0].peak_bytes for key in (KEY, OTHER, CARD)] == [5, 3, 2000]
    assert path.read_text().count('{ "method" :\t"bdia"') == 3


def test_environments_come_in_one_order(path: Path, tmp_path: Path) -> None:
    """In whatever order environments were added, the file is the same."""
    for key in (KEY, OTHER, CARD):
        baseline.update(path, [record()], key)
    for key in (CARD, OTHER, KEY):
        baseline.update(tmp_path / "other.json", [record()], key)
    assert (tmp_path / "other.json").read_text() == path.read_text()


def test_the_nearest_environment_has_the_same_device(path: Path) -> None:
    """Of several, the nearest is of the same device and card, and only then of the same torch and threads."""
    for key in (CARD, OTHER | {"threads": 8}):
        baseline.update(path, [record()], key)
    held = baseline.read(path)
    assert held.of(KEY) is None
    assert held.nearest(KEY).environment == OTHER | {"threads": 8}
    assert held.nearest(CARD | {"torch": "2.14.0", "threads": 8}).environment == CARD
    assert held.of(CARD) is held.nearest(CARD)


def test_an_older_file_is_read_and_renewed(path: Path) -> None:
    """A file of one environment, as earlier versions wrote it, is read; an update makes it one of several, and keeps
    the lines of an environment that is not its own as they were."""
    text = older(path, [record(6), record(12)])
    section = only(path)
    assert (section.environment, section.tells_verification) == (KEY, False)
    assert [(entry.depth, entry.peak_bytes, entry.bit_exact) for entry in section.cases] == [
        (6, 2000, None), (12, 2000, None),
    ]  # fmt: skip
    assert baseline.update(path, [record(bit_exact=True)], OTHER).others == 1
    assert all(line in path.read_text() for line in text.splitlines() if '"method"' in line)
    older(path, [record()])
    done = baseline.update(path, [record(bit_exact=True)], KEY)
    assert (done.created, done.changes, done.lines) == (False, (), 1)
    assert only(path).cases[0].bit_exact is True


def test_no_baseline_has_a_code_of_its_own(path: Path) -> None:
    """A baseline that is not there ends in exit code 4 and says how to write one."""
    with pytest.raises(BaselineError, match="write one with --update") as caught:
        baseline.read(path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "<<<<<<< HEAD\n{}",
        '{"schema_version": 1}',
        '{"schema_version": 1, "environment": {}, "cases": [{"depth": 1}]}',
        '{"schema_version": 1, "environments": [{"environment": {}, "cases": [{"depth": 1}]}]}',
        '{"schema_version": 1, "environments": [], "cases": []}',
        '{"schema_version": 1, "environments": [{"environment": {}, "cases": []}',
        '{"schema_version": 1, "environments": [{"environment": {"device": "\udcff"}, "cases": []}]}',
    ],
)
def test_a_file_that_is_no_baseline_is_refused_and_kept(path: Path, text: str) -> None:
    """A file that is not a baseline, or is torn, is neither read nor overwritten."""
    path.parent.mkdir()
    raw = text.encode(errors="surrogateescape")
    path.write_bytes(raw)
    for use in (lambda: baseline.read(path), lambda: baseline.update(path, [record()], KEY)):
        with pytest.raises(BaselineError, match=r"is not a baseline .*name another file") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == raw


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("activation_bytes", -1, r"Expected `int` >= 0 - at `\$.cases\[0\].activation_bytes`"),
        ("peak_bytes", -5, "peak_bytes"),
        ("side_bytes", -5, "side_bytes"),
        ("gradient_error", -0.1, "Expected `float` >= 0"),
        ("activation_parts", {"block": {"0-3": -4}}, "block of -4 bytes: expected 0 or more"),
        ("peak_parts", {"parameters": -4}, "parameters of -4 bytes"),
    ],
)
def test_less_than_nothing_is_refused_as_it_is_read(path: Path, name: str, value: object, said: str) -> None:
    """Bytes and errors below 0, as a slip of an editor leaves them, make no baseline."""
    baseline.update(path, [record()], KEY)
    [line] = lines(path)
    path.write_text(path.read_text().replace(line, json.dumps(json.loads(line) | {name: value})))
    with pytest.raises(BaselineError, match=said):
        baseline.read(path)


def test_what_is_left_of_a_figure_may_be_less_than_nothing(path: Path) -> None:
    """The part `other` is a difference."""
    baseline.update(path, [record(peak_parts={"parameters": 1000, "other": -8})], KEY)
    assert only(path).cases[0].peak_parts == {"parameters": 1000, "other": -8}


def test_a_merge_that_kept_both_sides_is_refused(path: Path) -> None:
    """An environment or a case that the file holds twice is named, since only one of the two would count."""
    baseline.update(path, [record()], KEY)
    text = path.read_text()
    [line] = lines(path)
    path.write_text(text.replace(line, f"{line},\n{line}"))
    with pytest.raises(BaselineError, match=r"holds bdia gpt depth=6 .* twice: remove one"):
        baseline.read(path)
    section = only_text(text)
    path.write_text(text.replace(section, f"{section},\n{section}"))
    with pytest.raises(BaselineError, match=r"holds the environment .* twice: remove one"):
        baseline.read(path)


def only_text(text: str) -> str:
    return text.partition('"environments": [\n')[2].removesuffix("\n]\n}\n")


def test_another_schema_version_cannot_be_compared(path: Path) -> None:
    """A baseline of another schema version is refused, whatever else it holds."""
    path.parent.mkdir()
    path.write_text('{"schema_version": 99, "future": true}')
    with pytest.raises(BaselineError, match="schema version 99, expected 1"):
        baseline.read(path)


def test_an_update_tells_what_changed(path: Path) -> None:
    """An update returns what got better, worse, new and missing, and nothing that stayed the same."""
    assert baseline.update(path, [record(6), record(12), record(18)], KEY).created
    update = baseline.update(path, [record(6), record(12, peak_bytes=1), record(24)], KEY)
    assert not update.created
    assert update.cases == 3
    assert [(change.case.depth, change.metric, change.verdict) for change in update.changes] == [
        (12, "peak_bytes", "better"), (18, None, "missing"), (24, None, "new"),
    ]  # fmt: skip


def test_an_update_keeps_noise_and_lets_errors_go(path: Path) -> None:
    """Errors that differ as processors do leave their lines as they are; one that grew, or became exact, is written."""
    baseline.update(path, [record(gradient_error=1e-4, rounding_error=0.5001)], KEY)
    text = path.read_text()
    done = baseline.update(path, [record(gradient_error=2e-4, rounding_error=0.5002)], KEY)
    assert (done.changes, done.lines, path.read_text()) == ((), 0, text)
    done = baseline.update(path, [record(gradient_error=0.5, rounding_error=0.5002)], KEY)
    assert [change.metric for change in done.changes] == ["gradient_error"]
    assert [(one.gradient_error, one.rounding_error) for one in only(path).cases] == [(0.5, 0.5001)]


def test_rates_are_renewed_on_request_alone(path: Path) -> None:
    """A baseline has rate ratios once they are asked for, and keeps them through updates that do not ask."""
    baseline.update(path, [record()], KEY)
    assert "rate_ratio" not in path.read_text()
    baseline.update(path, [record()], KEY, {record().case(): 0.6512345})
    assert '"rate_ratio": 0.6512' in path.read_text()
    baseline.update(path, [record(peak_bytes=1)], KEY)
    assert only(path).rates() == {record().case(): 0.6512}
    done = baseline.update(path, [record(peak_bytes=1)], KEY, {record().case(): 0.3})
    assert [(change.metric, change.verdict) for change in done.changes] == [("rate_ratio", "worse")]


def test_an_empty_run_is_no_baseline(path: Path) -> None:
    """A run without a record makes no baseline."""
    with pytest.raises(NothingMeasuredError):
        baseline.update(path, [], KEY)
    assert not path.exists()


def test_a_baseline_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """A path under a file, or one that is a folder, is refused with exit code 2, and leaves nothing behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the baseline"):
        baseline.update(tmp_path / "file" / "baseline.json", [record()], KEY)
    with pytest.raises(BaselineError, match="Is a directory"):
        baseline.update(tmp_path, [record()], KEY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_update_leaves_no_other_file(path: Path) -> None:
    """The baseline is written aside and moved into place, and nothing stays beside it; a link stays one."""
    baseline.update(path, [record()], KEY)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    link = path.parent / "link.json"
    link.symlink_to(path)
    baseline.update(link, [record(peak_bytes=1)], KEY)
    assert link.is_symlink()
    assert only(path).cases[0].peak_bytes == 1


def test_a_run_of_two_environments_says_so(tmp_path: Path) -> None:
    """Loading a run that was gone on with under another torch tells of both; another commit is no reason to."""
    first = msgspec.to_builtins(capture("cpu", threads=2)) | {"torch": "2.13.0"}
    for number, change in enumerate(({}, {"commit": "abc"}, {"torch": "2.99.0"})):
        run = Run(suite="quick", started="", arguments=[], environment=first | change)
        with Store(tmp_path, run, resume=bool(number)) as opened:
            opened.append(record(number + 1))
        said = stored_run.load(tmp_path).messages
        assert len(said) == (number == 2)
    assert said == [f"{tmp_path} was measured in more than one environment: torch 2.13.0 at first, 2.99.0 later"]
