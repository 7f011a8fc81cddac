"""The store: appending, reading back what is whole, and refusing a directory that will not do."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from synthetic_records import case, record

import bench
from bench import private, starts, store
from bench.case import Case
from bench.errors import UsageError
from bench.record import Record
from bench.store import Run, Store


def a_run(suite: str = "quick", started: str = "2024-05-01T10:00:00Z", arguments: tuple[str, ...] = ()) -> Run:
    return Run(suite=suite, started=started, arguments=list(arguments), environment={"torch": "2.13.0"})


def fill(directory: Path, *records: Record) -> Path:
    with Store(directory, a_run()) as opened:
        for one in records:
            opened.append(one)
    return directory / store.RESULTS


FIRST = record(case("standard"), activation_bytes=1)
SECOND = record(case("bdia"), activation_bytes=2)
SECOND_AGAIN = record(case("bdia"), activation_bytes=3)
NO_RECORDS = (
    b"not json",
    b'{"schema_version": 1, "method": 3}',
    b"\xff\xfe",
    msgspec.json.encode(FIRST).replace(b"quick", b"qu\xefck"),
    b'{"schema_version": 1, "suite": ' + b"[" * 100_000,
    b"[]",
    b"{}",
)
"""Lines of a results file that are none: among them one that is no UTF-8, and one that nests without end."""


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    """What was appended is read back, from the directory and from the file."""
    file = fill(tmp_path / "deep" / "run", FIRST, SECOND)
    assert store.read(tmp_path / "deep" / "run").records == [FIRST, SECOND]
    assert store.read(file).records == [FIRST, SECOND]
    assert store.read(file).messages == []


def test_each_record_is_a_line_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    """The file holds a whole line of flat JSON for each record before the next one comes."""
    with Store(tmp_path, a_run()) as opened:
        opened.append(FIRST)
        lines = (tmp_path / store.RESULTS).read_text().splitlines(keepends=True)
        assert len(lines) == 1
        assert lines[0].endswith("}\n")
        assert json.loads(lines[0])["method"] == "standard"


def test_the_last_line_of_a_case_wins(tmp_path: Path) -> None:
    """A later record of a case stands in for the earlier one, at its place."""
    fill(tmp_path, SECOND, FIRST, SECOND_AGAIN)
    assert store.read(tmp_path).records == [SECOND_AGAIN, FIRST]


def test_a_number_that_is_none_is_stored_as_null(tmp_path: Path) -> None:
    """NaN and infinity become null: no file of ours holds what JSON has no word for."""
    file = fill(tmp_path, record(case(), loss=float("nan"), max_abs=float("inf")))
    assert "NaN" not in file.read_text()
    assert [(one.loss, one.max_abs) for one in store.read(tmp_path).records] == [(None, None)]


def test_a_torn_last_line_is_left_out_and_said(tmp_path: Path) -> None:
    """A line that was cut off as it was written is reported, and the others are kept."""
    file = fill(tmp_path, FIRST, SECOND)
    os.truncate(file, file.stat().st_size - 20)
    found = store.read(tmp_path)
    assert found.records == [FIRST]
    assert len(found.messages) == 1
    assert "line 2 is torn" in found.messages[0]


def test_nothing_sticks_to_a_torn_line(tmp_path: Path) -> None:
    """Going on after a torn line cuts it off first, says so once, and then all lines are whole."""
    file = fill(tmp_path, FIRST, SECOND)
    os.truncate(file, file.stat().st_size - 20)
    with Store(tmp_path, a_run(), resume=True) as opened:
        assert len(opened.messages) == 1
        opened.append(SECOND_AGAIN)
        assert opened.records() == [FIRST, SECOND_AGAIN]
    assert store.read(tmp_path) == store.Stored([FIRST, SECOND_AGAIN], [])


def test_a_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    """A last line that lacks nothing but its line break is a record like the others."""
    file = fill(tmp_path, FIRST, SECOND)
    os.truncate(file, file.stat().st_size - 1)
    with Store(tmp_path, a_run(), resume=True) as opened:
        opened.append(record(case("checkpoint")))
    found = store.read(tmp_path)
    assert [one.method for one in found.records] == ["standard", "bdia", "checkpoint"]
    assert found.messages == []


@pytest.mark.parametrize("line", NO_RECORDS)
def test_a_corrupt_line_in_the_middle_is_left_out_and_said(tmp_path: Path, line: bytes) -> None:
    """A line that is no record costs that line and no other."""
    file = fill(tmp_path, FIRST)
    file.write_bytes(file.read_bytes() + line + b"\n" + msgspec.json.encode(SECOND) + b"\n")
    found = store.read(tmp_path)
    assert found.records == [FIRST, SECOND]
    assert [f"{file} line 2 is no record" in message for message in found.messages] == [True]
    assert len(found.messages[0].splitlines()) == 1


@pytest.mark.parametrize("line", NO_RECORDS)
def test_a_corrupt_last_line_is_cut_off(tmp_path: Path, line: bytes) -> None:
    """Going on after a last line that is no record, whatever bytes were left there, begins with whole lines."""
    file = fill(tmp_path, FIRST)
    file.write_bytes(file.read_bytes() + line)
    with Store(tmp_path, a_run(), resume=True) as opened:
        assert ["line 2 is torn" in message for message in opened.messages] == [True]
        opened.append(SECOND)
    assert store.read(tmp_path) == store.Stored([FIRST, SECOND], [])


def test_another_schema_is_refused(tmp_path: Path) -> None:
    """A record of another schema version is an error that names both versions, not a record misread."""
    file = fill(tmp_path, FIRST)
    file.write_bytes(file.read_bytes().replace(b'"schema_version":1', b'"schema_version":7'))
    with pytest.raises(UsageError, match=r"line 1: schema version 7, this bdia-bench reads 1; use the version"):
        store.read(tmp_path)


def test_there_is_no_run_where_nothing_was_run(tmp_path: Path) -> None:
    """A path that is not there, or has no results, is refused with what to give instead."""
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match=r"no results\.jsonl there; give the directory of a run"):
            store.read(path)


def test_a_run_without_records_yet_is_empty(tmp_path: Path) -> None:
    """A run that was stopped before its first record is a run, with no records."""
    file = fill(tmp_path)
    file.unlink()
    assert store.read(tmp_path).records == []


def test_another_run_is_not_overwritten(tmp_path: Path) -> None:
    """A directory that holds a run is refused without `--resume`, and left as it is."""
    file = fill(tmp_path, FIRST)
    before = file.read_bytes()
    with pytest.raises(UsageError, match="holds another run; go on with it by --resume, or give another --out"):
        Store(tmp_path, a_run())
    assert file.read_bytes() == before


def test_a_run_of_another_suite_is_not_gone_on_with(tmp_path: Path) -> None:
    """Resuming needs the same suite, as one directory answers one question."""
    fill(tmp_path, FIRST)
    with pytest.raises(UsageError, match="holds a run of suite quick, not depth; give another --out"):
        Store(tmp_path, a_run("depth"), resume=True)


def test_a_run_that_has_begun_is_told_of_without_a_record(tmp_path: Path) -> None:
    """Where there are checkpoints to go on with nothing starts afresh, and `run.json` tells of both starts."""
    first = a_run()
    with Store(tmp_path, first):
        pass
    with Store(tmp_path, LATER, resume=True, begun=True) as opened:
        assert opened.messages == []
        assert opened.run.started == first.started
        opened.append(FIRST)
        assert opened.run.started == first.started
        assert [one.started for one in opened.run.resumed] == [LATER.started]


def test_resuming_where_there_is_no_run_begins_one(tmp_path: Path) -> None:
    """`--resume` where nothing was measured is a run like any other, and says that it begins one."""
    for _ in range(2):  # the first leaves a `run.json` without records
        with Store(tmp_path / "new", LATER, resume=True) as opened:
            assert opened.records() == []
            assert opened.messages == [f"nothing to go on with in {tmp_path / 'new'}: starting afresh"]
    with Store(tmp_path / "other", a_run()) as opened:
        assert opened.messages == []
    with Store(tmp_path / "other", LATER, resume=True) as opened:
        opened.append(FIRST)
    assert store.read_run(tmp_path / "other") == LATER


LATER = Run(
    suite="quick", started="2025-01-01T00:00:00Z", arguments=["run", "--resume"],
    environment={"torch": "2.14.0", "commit": "abc"},
)  # fmt: skip


def test_resuming_changes_nothing_of_what_the_run_was(tmp_path: Path) -> None:
    """A later start that measures nothing leaves `run.json` as it is, byte for byte."""
    fill(tmp_path, FIRST)
    before = (tmp_path / store.RUN).read_bytes()
    with Store(tmp_path, LATER, resume=True) as opened:
        assert opened.messages == []
        assert opened.run.arguments == []
    assert (tmp_path / store.RUN).read_bytes() == before


def test_a_later_start_that_measures_is_added_to_the_first(tmp_path: Path) -> None:
    """`run.json` keeps the first start's command and environment, and lists each later one that measured, once, with
    what of its environment differs."""
    fill(tmp_path, FIRST)
    for later in (
        LATER,
        msgspec.structs.replace(LATER, started="2026-01-01T00:00:00Z", environment={"torch": "2.13.0"}),
    ):
        with Store(tmp_path, later, resume=True) as opened:
            opened.append(SECOND)
            opened.append(SECOND_AGAIN)
    found = store.read_run(tmp_path)
    assert found == opened.run
    assert found is not None
    assert msgspec.structs.replace(found, resumed=[]) == a_run()
    assert [(one.started, one.arguments, one.environment) for one in found.resumed] == [
        ("2025-01-01T00:00:00Z", ["run", "--resume"], {"torch": "2.14.0", "commit": "abc"}),
        ("2026-01-01T00:00:00Z", ["run", "--resume"], {}),
    ]


def test_a_start_of_which_nothing_is_left_is_not_told_of(tmp_path: Path) -> None:
    """Once every record was measured anew on another basis, `run.json` is of the start that did so; new times of a
    record that stands do not count as that."""
    fill(tmp_path, FIRST, SECOND)
    anew = [msgspec.structs.replace(one, fingerprint="other") for one in (FIRST, SECOND)]
    with Store(tmp_path, LATER, resume=True) as opened:
        opened.append(FIRST)
        opened.append(SECOND)
        opened.append(anew[0])
        assert store.read_run(tmp_path) == opened.run != LATER
        opened.append(anew[1])
    assert store.read_run(tmp_path) == LATER


def test_what_is_to_be_measured_stays_known_until_it_is(tmp_path: Path) -> None:
    """The cases of a start that was killed are in `run.json`; a later one that ends leaves those that it did not have,
    and adds its own as long as it runs."""

    def start(*cases: Case, resume: bool = True) -> Store:
        return Store(tmp_path, msgspec.structs.replace(a_run(), planned=starts.planned(cases)), resume=resume)

    def absent() -> list[str]:
        run = store.read_run(tmp_path)
        assert run is not None
        return starts.absent(run, store.read(tmp_path).records)

    one, two, three, four = (case(depth=depth) for depth in (1, 2, 3, 4))
    with start(one, two, three, resume=False) as opened:
        opened.append(record(one))
    assert absent() == [two.text(), three.text()]
    with start(one, four) as opened:
        assert absent() == [two.text(), three.text()]
        opened.append(record(four))
        opened.finish()
    assert absent() == [two.text(), three.text()]
    with start(two, three) as opened:
        opened.append(record(two))
        opened.append(record(three))
        opened.finish()
    run = store.read_run(tmp_path)
    assert run is not None
    assert run.planned == []


def test_no_two_cases_have_the_same_text() -> None:
    """A case is known by its text, which has every axis that it has."""
    one = case()
    changes = ({"vocab": 512}, {"data": "x.txt"}, {"gamma": "0.25"}, {"depth": None}, {"device": "cuda"})
    assert len({one.text(), *(case(**change).text() for change in changes)}) == 1 + len(changes)


def test_a_run_file_without_resumptions_is_read(tmp_path: Path) -> None:
    """A `run.json` from before there was `resumed` is one of a run that was never resumed."""
    fill(tmp_path, FIRST)
    file = tmp_path / store.RUN
    old = {name: value for name, value in json.loads(file.read_text()).items() if name != "resumed"}
    file.write_text(json.dumps(old))
    found = store.read_run(tmp_path)
    assert found is not None
    assert found.resumed == []


def test_records_of_other_code_are_told(tmp_path: Path) -> None:
    """What was measured with other code than the latest record is counted; a record that tells of no code is not."""
    old = [msgspec.structs.replace(one, code="old") for one in (FIRST, SECOND)]
    fill(tmp_path, *old, record(case("checkpoint")))
    assert store.read(tmp_path).messages == []
    with Store(tmp_path, a_run(), resume=True) as opened:
        opened.append(msgspec.structs.replace(SECOND_AGAIN, code="new"))
    (said,) = store.read(tmp_path).messages
    assert "1 of 3 cases were measured with other code than the latest" in said


def test_what_a_killed_run_left_behind_is_cleared(tmp_path: Path) -> None:
    """Half of a `run.json` that was being written goes when the run is gone on with."""
    fill(tmp_path, FIRST)
    (tmp_path / "run.json.part").write_text("{")
    with Store(tmp_path, a_run(), resume=True):
        assert sorted(file.name for file in tmp_path.iterdir()) == [store.RESULTS, store.RUN]


def test_a_run_whose_results_are_deleted_stops(tmp_path: Path) -> None:
    """Nothing is measured into a file that nobody will find."""
    with Store(tmp_path, a_run()) as opened:
        opened.append(FIRST)
        (tmp_path / store.RESULTS).unlink()
        with pytest.raises(UsageError, match="was deleted as the run went on"):
            opened.append(SECOND)


def test_a_directory_that_cannot_be_locked_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without locks is told from a run that holds one."""

    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UsageError, match="No locks available, so it cannot be locked; give a directory on another"):
        Store(tmp_path, a_run())


def test_two_runs_cannot_write_into_one_directory(tmp_path: Path) -> None:
    """A directory in use is refused, also to another process, and free again once the run is over."""
    code = (
        "import sys; from pathlib import Path; from bench.store import Run, Store\n"
        "run = Run(suite='quick', started='', arguments=[], environment={})\n"
        "try: Store(Path(sys.argv[1]), run, resume=True)\n"
        "except Exception as error: print(error)"
    )

    def elsewhere() -> str:
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with Store(tmp_path, a_run()) as opened:
        assert "another run is writing there; wait for it, or give another --out" in elsewhere()
        opened.append(FIRST)
    assert elsewhere() == ""


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file in the way of the directory is one line with the cure."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="give a directory that can be written"):
            Store(path, a_run())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A directory without the right to write is one line with the cure."""
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="Permission denied; give a directory that can be written"):
        Store(tmp_path, a_run())
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("content", [b"{", b'{"schema_version": 1, "suite": "\xff"}'])
def test_a_broken_run_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A `run.json` that is none is named, with what to do."""
    fill(tmp_path, FIRST)
    (tmp_path / store.RUN).write_bytes(content)
    with pytest.raises(UsageError, match=r"run\.json: not a run's file"):
        store.read_run(tmp_path)


def test_a_full_disk_is_one_line_and_leaves_whole_lines(tmp_path: Path) -> None:
    """What cannot be written whole is not written at all, says how to go on, and is written once there is room."""
    file = fill(tmp_path, FIRST)
    before, soft = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(tmp_path, a_run(), resume=True) as opened:
        opened.append(FIRST)
        whole = file.read_bytes()
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, soft[1]))  # room for half a line
        try:
            with pytest.raises(UsageError, match="File too large; make room, then go on with --resume"):
                opened.append(SECOND)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
            signal.signal(signal.SIGXFSZ, ignored)
        assert file.read_bytes() == whole == before * 2
        assert opened.records() == [FIRST]
        opened.append(SECOND)
    assert store.read(tmp_path) == store.Stored([FIRST, SECOND], [])


def test_a_full_disk_leaves_the_run_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `run.json` that cannot be written anew stays the old one, with nothing beside it; at the start that is one
    line."""
    fill(tmp_path, FIRST)
    before = (tmp_path / store.RUN).read_bytes()

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path, LATER, resume=True) as opened:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match="No space left on device; make room, then go on with --resume"):
            opened.append(SECOND)
    assert (tmp_path / store.RUN).read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [store.RESULTS, store.RUN]
    with pytest.raises(UsageError, match="No space left on device; give a directory that can be written"):
        Store(tmp_path / "new", a_run())


def test_no_home_and_no_user_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, data paths and messages are stored without the home directory or the way to it."""
    home = tmp_path / "home" / "someone"
    work = home / "work"
    work.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    corpus = str(home / "corpus.txt")
    arguments = ("run", str(home / "mine.toml"), "--data", corpus, f"--out={work}/out", "../other", "~/x", "--depth=4")
    with Store(Path("out"), a_run(arguments=arguments)) as opened:
        kept = opened.append(record(case(data=corpus), status="error", message=f"cannot read {corpus}, see {home}/log"))
    assert kept.data == "corpus.txt"
    assert kept.message == "cannot read corpus.txt, see ~/log"
    assert opened.records() == store.read(Path("out")).records == [kept]
    run = store.read_run(Path("out"))
    assert run is not None
    assert run.arguments == ["run", "mine.toml", "--data", "corpus.txt", "--out=out", "other", "x", "--depth=4"]
    for file in Path("out").iterdir():
        assert "someone" not in file.read_text()


def test_a_message_holds_no_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exception says of a place is told from the working directory, a package or the home on, else by its name;
    everything else that has slashes stays."""
    home, work = tmp_path / "home" / "someone", tmp_path / "my work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    for said, stored in (
        ("No such file or directory: '/mnt/My Disk/config.json'", "No such file or directory: 'config.json'"),
        (f"{work}/train.py:12, in '{work}/a b.py'", "train.py:12, in 'a b.py'"),
        (f"in {home}/x.py, {home}.", "in ~/x.py, ~."),
        ("/opt/lib/python3.11/site-packages/torch/nn/modules/linear.py:114", "torch/nn/modules/linear.py:114"),
        (f"{os.__file__} {bench.__file__}", "os.py bench/__init__.py"),
        ("g++ /tmp/torch_someone/x.cpp -I/usr/include/python -o x/y", "g++ x.cpp -Ipython -o x/y"),
        ("PATH=/mnt/a:/mnt/b; (/mnt/c) b'/mnt/x y/z' /mnt/d.", "PATH=a:b; (c) b'z' d."),
        ("'/mnt/a.txt: gone' //mnt/x/y file:///mnt/z", "'a.txt: gone' y z"),
        ("https://a.org/b/c", "https://a.org/b/c"),
        ("5 tok/s, 3 / 4 </div> '/' a/b ../c/d ~/e/f", "5 tok/s, 3 / 4 </div> '/' a/b ../c/d ~/e/f"),
    ):  # fmt: skip
        assert private.message(said) == stored


def test_what_lies_below_the_root_is_private_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started in `/` or above the home directory, where everything lies inside, a path is its name, unless it was
    typed as a relative one."""
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(Path, "cwd", lambda: Path("/"))
    assert private.message("no /mnt/x/y, no '/home/someone/z'") == "no y, no '~/z'"
    assert [private.path(text) for text in ("/mnt/x/y", "x/y", "/home/someone")] == ["y", "x/y", "~"]
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home"))
    assert [private.path(text) for text in ("someone/y", "other/y")] == ["y", "other/y"]


def test_a_home_at_the_root_spoils_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the home directory is `/`, slashes in messages stay."""
    monkeypatch.setenv("HOME", "/")
    assert private.message("a/b") == "a/b"
