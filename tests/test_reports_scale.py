"""Runs of many records: the work grows with their number and no faster, and a terminal is given an excerpt."""

from __future__ import annotations

import cProfile
import gc
from collections.abc import Sequence
from pathlib import Path

import large_run
import pytest
import synthetic_records as synthetic

import cli
from bench.record import BlockError
from reports.excerpt import ROWS, excerpt
from reports.frame import frame, rows
from reports.measured import measured
from reports.sheets import cell

SIZES = (1000, 2000)
COMMANDS = {
    "table": ["report", "BASE", "--rows", "100"],
    **{name: ["report", "BASE", "--format", name] for name in ("markdown", "csv", "json", "latex")},
    "caption": ["report", "BASE", "--format", "markdown", "--caption"],
    "figure": ["report", "BASE", "--figure", "memory-speed", "--figures", "FIGURES"],
    "compare": ["compare", "BASE", "BASE"],
    "compare with a leak": ["compare", "BASE", "LEAKING"],
    "update": ["check", "BASE", "--baseline", "NEW", "--update", "--allow-incomplete"],
    "check": ["check", "BASE", "--baseline", "BASELINE"],
    "check with a leak": ["check", "LEAKING", "--baseline", "BASELINE"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, str]]:
    """Runs of both sizes and of a third, with their baselines: what the words of `COMMANDS` stand for."""
    found = {}
    for count in (60, *SIZES):
        folder = tmp_path_factory.mktemp(f"of-{count}")
        words = {word: str(folder / word.lower()) for word in ("BASE", "LEAKING", "BASELINE", "NEW", "FIGURES")}
        large_run.write(Path(words["BASE"]), large_run.records(count))
        large_run.write(Path(words["LEAKING"]), large_run.records(count, leaking="bdia"))
        assert (
            cli.execute(["check", words["BASE"], "--baseline", words["BASELINE"], "--update", "--allow-incomplete"])
            == 0
        )
        found[count] = words
    return found


def calls(arguments: Sequence[str]) -> int:
    """How many functions one command calls, Python's own among them."""
    profile = cProfile.Profile()
    code = profile.runcall(cli.execute, list(arguments))
    assert code == (1 if "leaking" in arguments[1] else 0)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_twice_the_records_are_twice_the_work(command: list[str], runs: dict[int, dict[str, str]]) -> None:
    """A command that reads twice as many records calls no more than twice as many functions."""
    # The first one pays for what is imported or compiled once.
    _, fewer, more = (calls([words.get(word, word) for word in command]) for words in runs.values())
    assert more < 2.05 * fewer


def test_what_there_is_much_of_is_no_work_for_the_garbage_collector() -> None:
    """A block's error, a record and a table's cell cannot be in a cycle, and are not looked through for one."""
    error = BlockError(block=0, max_abs_error=0.0, rms_error=0.0, relative_error=0.0, mismatched=0)
    assert not any(map(gc.is_tracked, (error, synthetic.full(synthetic.case()), cell("1.00×"))))


def test_a_long_table_is_cut_in_the_terminal(
    runs: dict[int, dict[str, str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal gets some 200 rows of a long run and how many are left out, and all of them where asked to."""
    monkeypatch.setenv("COLUMNS", "200")

    def shown(*options: str) -> tuple[int, str]:
        assert cli.execute(["report", runs[1000]["BASE"], *options]) == 0
        lines = capsys.readouterr().out.partition("memory\N{NO-BREAK SPACE}law")[0].splitlines()
        methods = [line for line in lines if any(f" {method}  " in line for method in large_run.METHODS)]
        return len(methods), "".join(line for line in lines if "…" in line)

    count, said = shown()
    assert ROWS - 6 * 3 < count <= ROWS == 200
    assert said == f"… {1000 - count} of 1000 rows are left out; --rows all shows all"
    told = "… 980 of 1000 rows are left out, 10 cases that did not end well among them; --rows all shows all"
    assert shown("--rows", "20") == (20, told)
    assert shown("--rows", "all") == (1000, "")


def test_a_short_table_is_whole() -> None:
    """As many rows as there is room for are all shown, and nothing is said of others."""
    found = excerpt(range(ROWS), ROWS, point=lambda row: row, telling=lambda row: True)
    assert (list(found.shown), found.said("rows")) == (list(range(ROWS)), "")


def test_an_excerpt_is_whole_groups_and_then_what_tells() -> None:
    """An excerpt ends its beginning with a group, and goes on with rows that tell, as far as there is room."""
    found = excerpt(range(100), 20, point=lambda row: row // 4, telling=lambda row: row % 30 == 29)
    assert list(found.shown) == [*range(16), 29, 59, 89]
    assert found.said("that tell") == "81 of 100 rows are left out"
    found = excerpt(range(100), 20, point=lambda row: row // 4, telling=lambda row: row % 2 == 1)
    assert list(found.shown) == [*range(8), *range(9, 33, 2)]
    assert found.said("that tell") == "80 of 100 rows are left out, 34 that tell among them"


def test_an_excerpt_of_one_group_is_its_first_rows() -> None:
    """Where a single group is longer than the room, its first rows are shown."""
    found = excerpt(range(100), 10, point=lambda row: 0, telling=lambda row: False)
    assert list(found.shown) == list(range(10))


def test_an_excerpt_has_the_notes_of_its_rows() -> None:
    """Of failed cases that are left out there is no note, and the title speaks of all rows."""
    lost = [
        synthetic.failed(synthetic.case("standard", depth=depth), "oom", f"needed {depth} GiB") for depth in range(50)
    ]
    sheet = measured(rows(frame(lost)), limit=4)
    assert sheet is not None
    assert [line.cells[0].text for line in sheet.lines] == ["0", "1", "2", "3"]
    assert sheet.notes[-1] == "⁴ needed 3 GiB"
    assert "depth" not in sheet.title
    assert sheet.left_out == "46 of 50 rows are left out, 46 cases that did not end well among them"


@pytest.mark.parametrize(
    "options",
    [["--rows", "0"], ["--rows", "few"], ["--rows", "9", "--format", "csv"], ["--rows", "9", "--figure", "fig1"]],
)
def test_rows_that_make_no_sense_are_refused(
    options: list[str], runs: dict[int, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--rows` takes a number from 1 or `all`, and is of tables in a terminal."""
    assert cli.execute(["report", runs[60]["BASE"], *options]) == 2
    said = capsys.readouterr().err
    assert "--rows" in said
    assert len(options) > 2 or "expected a whole number, at least 1, or all" in said
