"""`check`, `compare` and `explain` from the command line, on small runs that are made up: codes, words, bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import pytest
from synthetic_records import QUANTISED, case, depth_suite, elements, failed

import cli
from bench import parts, stacks, starts, store
from bench.record import Record
from bench.store import Run, Store

ENVIRONMENT = store.read_run(Path(__file__).parent.parent / "docs" / "results" / "quick").environment
SUITE = """\
title = "Small"
[defaults]
model = "gpt"
width = 256
heads = 8
seq = 256
batch = 8
[[cases]]
method = ["standard", "bdia"]
depth = [6, 12, 24]
"""

Answer = tuple[int, str, str]
Bench = Callable[..., Answer]


@pytest.fixture(autouse=True)
def a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    """Runs one command line in this process: its exit code, stdout and stderr."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = cli.execute([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


def write(
    directory: str, records: Iterable[Record], *, suite: str = "quick", planned: Sequence[str] = (), **differing: object
) -> str:
    """A run's directory with these records, of an environment that differs in the names given; `planned` as of a run
    that did not come to its end."""
    environment = ENVIRONMENT | differing
    run = Run(
        suite=Path(suite).stem, started="", arguments=["run", suite], environment=environment, planned=list(planned),
    )  # fmt: skip
    with Store(Path(directory), run) as opened:
        for record in records:
            opened.append(record)
    return directory


def measured(*, side: int = 1, leak: int = 0, kept: int = 0, changes: dict[str, object] | None = None) -> list[Record]:
    """Three depths of `standard` and `bdia`. Of `bdia`, each side bit takes `side` bits, each block `leak` bytes more
    than it should, and block 4 `kept` bytes; `changes` are of its record at depth 12."""
    found = []
    for record in depth_suite(methods=("standard", "bdia")):
        of, size = record.case(), elements(record.case())
        held: parts.Flat = {("residual_states", of.depth - 1): 4 * size, ("head_and_loss", None): 8 * size}
        if of.method == "bdia":
            held |= {("side_bits", block): side * size // 8 for block in range(1, of.depth)}
            held |= {("block", block): leak for block in range(of.depth)}
            held["block", 4] += kept
        else:
            held |= {("block", block): 64 * size for block in range(of.depth)}
        packed = parts.packed(held)
        total = parts.total(packed)
        whole = {"parameters": record.static_bytes} | packed
        figures = {
            "activation_bytes": total, "activation_parts": packed, "peak_bytes": total + record.static_bytes,
            "peak_parts": whole, "rounding_error": 0.5002 if of.method in QUANTISED else None,
        }  # fmt: skip
        changed = changes if changes and (of.method, of.depth) == ("bdia", 12) else {}
        found.append(msgspec.structs.replace(record, **(figures | changed)))
    return found


@pytest.fixture
def base(bench: Bench) -> str:
    """A run, and its baseline in `b.json`, which is returned."""
    assert bench("check", write("base", measured()), "--baseline", "b.json", "--update")[0] == 0
    return "b.json"


def error_of(answer: Answer, code: int) -> str:
    """The one line of an error, which is all that is printed."""
    assert answer[:2] == (code, ""), answer
    assert answer[2].startswith("bdia-bench: ")
    assert answer[2].count("\n") == 1
    return answer[2]


def test_the_same_run_passes_fifty_times_in_the_same_words(bench: Bench, base: str) -> None:
    """A run against its own baseline passes each of fifty times, with one line that never changes."""
    answers = {bench("check", "base", "--baseline", base) for _ in range(50)}
    assert answers == {(0, "base against b.json: 29 same\n", "")}


def test_another_host_and_processor_pass(bench: Bench, base: str) -> None:
    """Sixteen cores, another processor and system are no other environment, and neither is another build of torch for
    a CPU."""
    other = {"physical_cores": 16, "cpu_model": "another", "os_release": "7", "torch": "2.13.0+cu130", "commit": "f00"}
    write("elsewhere", measured(), **other)
    assert bench("check", "elsewhere", "--baseline", base) == (0, "elsewhere against b.json: 29 same\n", "")


PLANTS: dict[str, tuple[dict[str, object], str, str]] = {
    "side bits as bytes": (
        {"side": 8}, "activation_bytes", "side_bits of blocks 1-11: 65,536 → 524,288 bytes each (8.00×)",
    ),
    "a leak of 4 KiB a block": ({"leak": 4096}, "peak_bytes", "blocks 0-11: 0 → 4096 bytes each (new)"),
    "one block's graph": ({"kept": 10**6}, "activation_bytes", "block 4: 0 → 1,000,000 bytes (new)"),
    "a wrong rounding": (
        {"changes": {"rounding_error": 0.99, "rounding_block": 3}}, "rounding_error", "goes wrong first in block 3",
    ),
    "a wrong gradient": (
        {"changes": {"gradient_error": 1e-7, "gradient_block": 5}}, "gradient_error", "goes wrong first in block 5",
    ),
    "not exact any more": ({"changes": {"bit_exact": False}}, "bit_exact", "bit_exact yes → no"),
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_regression_is_named(bench: Bench, base: str, plant: str) -> None:
    """Each regression is exit code 1 and names the case, the metric, the part or block, and how to measure it again."""
    how, metric, where = PLANTS[plant]
    write("head", measured(**how))
    code, out, err = bench("check", "head", "--baseline", base)
    assert (code, err) == (1, "")
    first = next(line for line in out.splitlines() if line.startswith(("worse: bdia: ", "worse: bdia depth=12: ")))
    told = out.partition(first)[2].partition("  again: ")
    assert metric in first + told[0]
    assert where in first + told[0]
    assert told[2].startswith("bdia-bench run quick --method bdia --depth 12 ")
    assert " worse" in out.splitlines()[-1]
    assert bench("check", "head", "--baseline", base) == (code, out, err)


@pytest.mark.parametrize("output", ["left", "full"])
def test_nothing_that_becomes_of_stdout_opens_the_gate(base: str, output: str) -> None:
    """A reader that has left, as of `| head`, or a full disk: exit code 1 all the same, and the files are there."""
    write("head", measured(leak=4096))
    gone, stdout = os.pipe()
    os.close(gone)
    if output == "full":
        os.close(stdout)
        stdout = os.open("/dev/full", os.O_WRONLY)
    environ = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent), "GITHUB_STEP_SUMMARY": "summary.md"}
    words = ["check", "head", "--baseline", base, "--junit", "gate.xml"]
    done = subprocess.run(
        [sys.executable, "-c", "import cli; cli.main()", *words], stdout=stdout, stderr=subprocess.PIPE, text=True,
        env=environ, check=False,
    )  # fmt: skip
    os.close(stdout)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "worse" in Path("summary.md").read_text()
    assert "<failure" in Path("gate.xml").read_text()


def test_a_leak_that_a_tolerance_hides_is_caught_by_the_law(bench: Bench, base: str) -> None:
    """Where the totals are within their tolerance, a leak a block still moves the law, which names it."""
    write("head", measured(leak=4096))
    code, out, _ = bench("check", "head", "--baseline", base, "--tolerance", "2%")
    assert code == 1
    settings, _, worse, where, again, _ = out.splitlines()
    assert settings.startswith("gpt · width 256 · ")
    assert worse.startswith("worse: bdia over depth: ")
    assert worse.endswith("bits_per_activation 1.00 → 1.06 bits per activation and block (+0.062)")
    assert where == "  blocks 0-23: 0 → 4096 bytes each (new)"
    assert " --depth 6,12,24 " in again
    code, out, _ = bench(
        "check", "head", "--baseline", base, "--tolerance", "2%", "--tolerance", "bits_per_activation=0.1"
    )  # fmt: skip
    assert (code, out) == (0, "head against b.json: 29 same\n")


def test_what_stops_being_a_line_says_so(bench: Bench, base: str) -> None:
    """A law that bends is a regression of its own, in words."""
    grown = [
        msgspec.structs.replace(one, activation_bytes=one.activation_bytes + 2**20)
        if (one.method, one.depth) == ("bdia", 12)
        else one
        for one in measured()
    ]
    code, out, _ = bench("check", write("head", grown), "--baseline", base, "--tolerance", "10%")
    assert code == 1
    assert "  activation_bytes is no longer a straight line in depth" in out


def test_the_outcome_of_cases_is_told(bench: Bench, base: str) -> None:
    """New, missing and newly failing cases are a line each, and a failing one says why."""
    records = [one for one in measured() if (one.method, one.depth) != ("standard", 6)]
    records = [failed(one.case(), "oom", "no room") if one.depth == 24 else one for one in records]
    write("head", [*records, measured()[0], depth_suite((48,), ("bdia",))[0]][:-2] + depth_suite((48,), ("bdia",)))
    code, out, _ = bench("check", "head", "--baseline", base)
    assert code == 1
    assert "missing: standard depth=6: " in out
    assert "newly failing: bdia depth=24: " in out
    assert "\n  no room\n" in out
    assert "new: bdia depth=48: " in out
    assert bench("check", "head", "--baseline", "new.json", "--update", "--allow-incomplete")[0] == 0
    code, out, _ = bench("check", "base", "--baseline", "new.json")
    assert code == 1  # depth 48 is missing
    assert "newly passing: bdia depth=24: " in out
    assert "There are gains over the baseline as well" in out


def test_an_improvement_is_kept_by_the_command_it_names(bench: Bench, base: str) -> None:
    """Gains pass, and the command that is printed renews the baseline so that nothing more is said."""
    write("head", measured(side=8))
    bench("check", "head", "--baseline", "worse.json", "--update")
    code, out, _ = bench("check", "base", "--baseline", "worse.json")
    assert code == 0
    assert "better: bdia depth=6: " in out
    command = out.splitlines()[-1].partition("`bdia-bench ")[2].rstrip("`").split()
    assert bench(*command)[1].splitlines()[-1] == "worse.json: 6 cases written, 7 better"
    assert bench("check", "base", "--baseline", "worse.json") == (0, "base against worse.json: 29 same\n", "")
    assert Path("worse.json").read_text() == Path(base).read_text()


def test_a_baseline_of_several_machines(bench: Bench, base: str) -> None:
    """A run of another torch is exit code 4 and says in what it differs; it adds its own section, and then both runs
    pass; the first section is as it was."""
    write("newer", measured(leak=1), torch="2.14.0")
    text = error_of(bench("check", "newer", "--baseline", base), 4)
    assert "torch 2.13.0 there, 2.14.0 here" in text
    assert "--allow-environment-mismatch" in text
    code, out, _ = bench("check", "newer", "--baseline", base, "--allow-environment-mismatch")
    assert code == 1
    assert "compared all the same with another environment: torch 2.13.0 there, 2.14.0 here" in out
    before = Path(base).read_text().splitlines()[2:-2]
    out = bench("check", "newer", "--baseline", base, "--update")[1]
    assert out == "b.json: 6 cases written, 1 other environment left as it is\n"
    assert "\n".join(before) in Path(base).read_text()
    assert bench("check", "newer", "--baseline", base)[0] == 0
    assert bench("check", "base", "--baseline", base)[0] == 0


def test_an_update_says_how_many_lines_change_in_silence(bench: Bench, base: str) -> None:
    """An update that makes nothing worse or better says whether lines change all the same, as for a breakdown."""
    assert bench("check", "base", "--baseline", base, "--update")[1] == "b.json: 6 cases written\n"
    bare = [msgspec.structs.replace(one, peak_parts=None) for one in measured()]
    out = bench("check", write("head", bare), "--baseline", base, "--update")[1]
    assert out == "b.json: 6 cases written, 6 lines changed, nothing worse or better\n"
    out = bench("check", "base", "--baseline", base)[1]
    assert out.startswith("not in the baseline yet, so not compared: where peak_bytes are; --update adds it\n")


def test_an_unfinished_run_is_no_baseline(bench: Bench, base: str) -> None:
    """A run that was killed says so, and makes no baseline unless that is asked for; then each case that the baseline
    loses is named."""
    whole = measured()
    write("head", whole[:-1], planned=starts.planned(one.case() for one in whole))
    text = error_of(bench("check", "head", "--baseline", base, "--update"), 2)
    assert "head lacks 1 of the cases that it is of, such as bdia gpt depth=24 " in text
    assert "`bdia-bench run quick --out head --resume`" in text
    assert "--allow-incomplete" in text
    assert bench("check", "base", "--baseline", base)[0] == 0
    assert "head lacks 1 of the cases that it is of; go on with: bdia-bench run" in bench("report", "head")[2]
    code, out, _ = bench("check", "head", "--baseline", base, "--update", "--allow-incomplete")
    assert code == 0
    assert "\ndropped: bdia: ok → —\n" in out
    assert out.endswith("b.json: 5 cases written, 1 dropped\n")


def test_what_failed_becomes_no_baseline_in_passing(bench: Bench, base: str) -> None:
    """Cases that fail go into a baseline where that is asked for, and are named; where it has them as failing, no one
    asks again."""
    records = [failed(one.case(), "oom", "no room") if one.depth == 24 else one for one in measured()]
    write("head", records)
    for path in (base, "new.json"):
        text = error_of(bench("check", "head", "--baseline", path, "--update"), 2)
        assert "2 of the cases of head failed, such as standard gpt depth=24 " in text
        assert "`bdia-bench run quick --out head --rerun failed`" in text
    assert not Path("new.json").exists()
    out = bench("check", "head", "--baseline", "new.json", "--update", "--allow-incomplete")[1]
    assert "\nnew: bdia: — → oom\n" in out
    assert out.endswith("new.json: 6 cases written, 2 of them failed\n")
    out = bench("check", "head", "--baseline", base, "--update", "--allow-incomplete")[1]
    assert "newly failing: bdia: ok → oom\n" in out
    code, out, _ = bench("check", "head", "--baseline", base, "--update")
    assert (code, out) == (0, "b.json: 6 cases written, 2 of them failed\n")
    text = error_of(bench("check", "head", "--baseline", base, "--allow-incomplete"), 2)
    assert "--allow-incomplete is of --update alone" in text


def test_a_run_with_verify_is_told_from_one_without(bench: Bench, base: str) -> None:
    """A verified run against a baseline that is not is exit code 4, not a heap of regressions."""
    verified = [msgspec.structs.replace(one, verify=one.method == "bdia") for one in measured(leak=99)]
    text = error_of(bench("check", write("head", verified), "--baseline", base), 4)
    assert "head was measured with --verify and baseline b.json without" in text
    assert "measure without it, or renew the baseline" in text


def test_rates_are_a_request(bench: Bench, base: str) -> None:
    """Rates are neither compared nor stored unasked; asked for, a fifth slower against standard is worse."""
    slower = [
        msgspec.structs.replace(one, step_seconds=[1.5 * second for second in one.step_seconds])
        if one.method == "bdia"
        else one
        for one in measured()
    ]
    write("head", slower)
    assert bench("check", "head", "--baseline", base)[0] == 0
    assert "--update --rates" in error_of(bench("check", "head", "--baseline", base, "--rates"), 4)
    assert bench("check", "base", "--baseline", base, "--update", "--rates")[0] == 0
    assert Path(base).read_text().count('"rate_ratio"') == 3
    code, out, _ = bench("check", "head", "--baseline", base, "--rates")
    assert code == 1
    assert "rate_ratio 0.74× → 0.49×" in out
    assert bench("check", "head", "--baseline", base, "--rates", "--tolerance", "rate_ratio=40%")[0] == 0
    code, out, _ = bench("check", "base", "--baseline", base, "--rates")
    assert (code, out) == (0, "base against b.json: 32 same\n")


def test_a_tolerance_of_the_suite_counts_as_its_file_has_it_now(bench: Bench) -> None:
    """A run is judged by the tolerances of its suite's file, edited after the run or not, and by the command line's
    over them; a mistake there is one line."""
    Path("small.toml").write_text(SUITE)
    write("base", measured(), suite="small.toml")
    write("head", measured(leak=4096), suite="small.toml")
    bench("check", "base", "--baseline", "b.json", "--update")
    assert bench("check", "head", "--baseline", "b.json")[0] == 1
    table = '[tolerance]\nactivation_bytes = "2%"\npeak_bytes = "128KiB"\nbits_per_activation = 0.1\n'
    Path("small.toml").write_text(SUITE + table)
    assert bench("check", "head", "--baseline", "b.json")[0] == 0
    assert bench("compare", "base", "head")[1].splitlines()[-1] == "base -> head: 29 same"
    assert bench("check", "head", "--baseline", "b.json", "--tolerance", "0")[0] == 1
    assert bench("check", "head", "--baseline", "b.json", "--tolerance", "peak_bytes=1KiB")[0] == 1
    Path("small.toml").write_text(SUITE + "[tolerance]\npeak_byte = 1\n")
    text = error_of(bench("check", "head", "--baseline", "b.json"), 2)
    assert "small.toml: [tolerance]: unknown metric 'peak_byte': did you mean 'peak_bytes'?" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--tolerance activ=1", 2, "unknown metric 'activ'"),
        ("--tolerance gradient_error=5%", 2, "expected a factor of 1 or more such as 10x"),
        ("--tolerance peak_bytes=10x", 2, "expected a share such as 0.5%, or bytes such as 64KiB"),
        ("--tolerance bit_exact=1", 2, "there is no tolerance"),
        ("--tolerance =1", 2, "unknown metric ''"),
        ("--tolerance", 2, "requires an argument"),
    ],
)
def test_a_wrong_option_is_one_line(bench: Bench, base: str, words: str, code: int, said: str) -> None:
    """A tolerance of no metric, or of another's unit, is one line that says what would do."""
    assert said in error_of(bench("check", "base", "--baseline", base, *words.split()), code)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a baseline"),
        ("null", "is not a baseline"),
        ("{", "is not a baseline"),
        ('{"schema_version": 2}', "has schema version 2, expected 1"),
        ('{"schema_version": 1, "environments": []}', "holds no environment"),
        ('{"schema_version": 1, "environments": [{"environment": {}, "cases": []}]}', "of another environment"),
    ],
)
def test_a_file_that_is_no_baseline_is_one_line(bench: Bench, text: str, said: str) -> None:
    """What is no baseline, torn, of another version or empty is exit code 4, for every command that reads one."""
    write("base", measured())
    Path("b.json").write_text(text)
    assert said in error_of(bench("check", "base", "--baseline", "b.json"), 4)
    if "another" not in said:
        for command in ("compare", "explain"):
            assert said in error_of(bench(command, "b.json", "base"), 4)
            assert said in error_of(bench(command, "base", "b.json"), 4)


def test_what_is_not_there_is_one_line(bench: Bench, base: str) -> None:
    """A run that is not there is exit code 2, one without records 5, a baseline that is not there 4."""
    assert "nowhere: no results.jsonl there" in error_of(bench("check", "nowhere", "--baseline", base), 2)
    write("empty", [])
    assert "no record yet" in error_of(bench("check", "empty", "--baseline", base), 5)
    assert "no record yet" in error_of(bench("explain", "empty", base), 5)
    assert "write one with --update" in error_of(bench("check", "base", "--baseline", "none.json"), 4)
    Path("base/run.json").unlink()
    assert "no run.json there" in error_of(bench("check", "base", "--baseline", base), 2)


def test_a_torn_results_file_counts_as_far_as_it_goes(bench: Bench, base: str) -> None:
    """A run whose last line was cut off is compared by the others, stderr tells of it, and the lost case is missing."""
    content = Path("base/results.jsonl").read_text()
    Path("base/results.jsonl").write_text(content[:-200])
    code, out, err = bench("check", "base", "--baseline", base)
    assert code == 1
    assert "\nmissing: bdia: ok → —\n" in out
    assert "line 6 is torn" in err


@pytest.mark.parametrize("place", ["base/run.json/b.json", "."])
def test_a_baseline_that_cannot_be_written_is_one_line(bench: Bench, base: str, place: str) -> None:
    """A path that cannot be written ends in one line and leaves no file behind."""
    before = sorted(Path().iterdir())
    answer = bench("check", "base", "--baseline", place, "--update")
    assert error_of(answer, 4 if place == "." else 2)
    assert sorted(Path().iterdir()) == before


def test_compare_takes_baselines_and_shows_the_law(bench: Bench, base: str) -> None:
    """A run and a baseline are compared in any mix; what moved stands beside the verdict, and the law below."""
    write("head", measured(side=8))
    bench("check", "head", "--baseline", "head.json", "--update")
    answers = [bench("compare", old, new) for old in ("base", base) for new in ("head", "head.json")]
    tables = {answer[1].rpartition("\n\n")[0] for answer in answers}
    assert [answer[0] for answer in answers] == [0] * 4
    assert len(tables) == 1
    shown = tables.pop()
    assert "side_bits of blocks 1-11: bdia depth=12" in shown
    assert "\nmoved:\n  side_bits of blocks" in shown
    assert (
        "\nno column shows:\n  bdia over depth: worse, bits_per_activation 1.00 → 8.00 (side_bits of blocks 1-23)"
        in re.sub(" +\n(?=\\S)", " ", shown)
    )
    assert "…" not in shown
    assert answers[3][1].splitlines()[-1] == "b.json -> head.json: 22 same, 7 worse"


def test_a_baseline_of_several_environments_says_which_it_takes(bench: Bench, base: str) -> None:
    """Of several environments the one of the other side is taken, and stderr names it."""
    write("newer", measured(leak=1), torch="2.14.0")
    bench("check", "newer", "--baseline", base, "--update")
    code, out, err = bench("explain", base, "newer")
    assert code == 0
    assert "b.json holds 2 environments; taken: " in err
    assert "torch 2.14.0" in err
    assert out == "b.json -> newer: nothing moved, 12 the same\n"
    assert bench("explain", base, base)[1].endswith("nothing moved, 12 the same\n")


def test_explain_names_the_culprit(bench: Bench, base: str) -> None:
    """`explain` shows part and blocks, bytes before and after and their share, the law, and one plain sentence."""
    write("head", measured(side=8))
    code, out, err = bench("explain", base, "head")
    assert (code, err) == (0, "")
    row = next(line for line in out.splitlines() if "side_bits of blocks 1-11" in line)
    assert row.split()[-4:] == ["65,536", "524,288", "8.00×", "100.0%"]
    assert "bdia: 1.00 → 8.00 bits per activation and block; the floor is 1" in out
    assert out.splitlines()[-1] == (
        "b.json -> head: 6 moved, 6 the same. "
        "side_bits grew 8.00× in every block of bdia (3 of 3 cases that changed)"
    )  # fmt: skip


def test_explain_picks_cases_and_metric(bench: Bench, base: str) -> None:
    """Axes pick cases, --metric one figure; what no case has is one line with what there is."""
    write("head", measured(side=8))
    out = bench("explain", base, "head", "--depth", "12", "--metric", "peak_bytes")[1]
    assert "activation_bytes" not in out
    assert out.splitlines()[-1].startswith("b.json -> head: 1 moved, 1 the same. side_bits grew 8.00×")
    assert bench("explain", base, "head", "--method", "standard")[1] == "b.json -> head: nothing moved, 6 the same\n"
    assert "--depth 7: no case has it; there are depth 6, 12, 24" in error_of(
        bench("explain", base, "head", "--depth", "7"), 2
    )
    assert "did you mean 'peak_bytes'?" in error_of(bench("explain", base, "head", "--metric", "peak_byte"), 2)


def test_stacks_of_nothing_that_moved_run_nothing(bench: Bench, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing moved and no case was picked, `--stacks` measures none, and says how to."""
    monkeypatch.delattr(stacks, "trace")
    code, out, err = bench("explain", "base", "base", "--stacks")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith(
        "--stacks: nothing moved, so nothing is run again; pick a case with --method"
    )


def test_explain_says_what_it_cannot_tell(bench: Bench, base: str) -> None:
    """Where a side has no breakdown, `explain` shows the totals and says that they cannot be located."""
    bare = [msgspec.structs.replace(one, activation_parts=None, peak_parts=None) for one in measured(side=8)]
    out = bench("explain", base, write("head", bare))[1]
    assert "no breakdown on a side" in out
    assert "6 of 6 changes cannot be located" in out
    assert out.splitlines()[-1] == "b.json -> head: 6 moved, 6 the same"
    write("less", measured()[:2])
    assert "4 cases measured on one side alone" in bench("explain", base, "less")[1]


@pytest.mark.parametrize(
    ("file", "give"), [("b.json", "the folder with its results.jsonl"), ("base/run.json", "here base")]
)
@pytest.mark.parametrize("command", ["report", "check --baseline b.json"])
def test_a_file_in_place_of_a_run_says_what_to_give(
    bench: Bench, base: str, command: str, file: str, give: str
) -> None:
    """A file where a run's directory is wanted is one line that says what is."""
    name, *options = command.split()
    text = error_of(bench(name, file, *options), 2)
    assert text == f"bdia-bench: {file} is a file: expected the directory of a run, its --out; give {give}\n"


def test_a_path_into_the_results_is_a_run(bench: Bench, base: str) -> None:
    """The results file of a run stands for the run, and is not taken for a baseline."""
    code, out, _ = bench("compare", "base/results.jsonl", base)
    assert code == 0
    assert out.splitlines()[-1] == "base/results.jsonl -> b.json: 29 same"


def test_a_line_of_the_baseline_is_its_case(base: str) -> None:
    """The file reads as JSON with a case a line, each of them whole."""
    lines = [line.rstrip(",") for line in Path(base).read_text().splitlines() if '"method"' in line]
    assert [json.loads(line)["depth"] for line in lines] == [6, 12, 24] * 2
    assert case("bdia", depth=6).label().startswith("bdia gpt depth=6")
