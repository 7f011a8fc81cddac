"""The page on CI, its workflow and the project's own gate do what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main
from synthetic_records import case, record

import cli
from bench import baseline, errors, rerun, suite, tolerance
from bench.check import Verdicts
from bench.comparison import Comparison
from bench.entry import entry
from bench.parts import Move
from reports import checked, ci

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
WORKFLOW = ROOT / "examples" / "memory-gate.yml"
GATE = {"width": 40, "heads": 4, "seq": 33, "batch": 3}


def blocks(language: str) -> list[str]:
    """The code blocks of the page in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def commands(text: str) -> Iterator[list[str]]:
    """The command lines of the tool in a text, as a shell would split them."""
    for line in text.splitlines():
        found = re.match(r"\s*(?:- |run: )?(bdia-bench .*)", line)
        if found:
            yield shlex.split(found[1])[1:]


def understood(words: list[str]) -> None:
    """Has the command line read `words`, without running anything."""
    program = typer.main.get_command(cli.app)
    assert isinstance(program, typer.main.TyperGroup | typer.core.TyperGroup)
    command = program.commands[words[0]]
    command.make_context(words[0], words[1:])


PAGE_COMMANDS = [line for language in ("console", "yaml") for text in blocks(language) for line in commands(text)]


def test_the_page_has_commands() -> None:
    """The page shows how to measure, check, renew and compare."""
    assert {line[0] for line in PAGE_COMMANDS} == {"run", "check"}
    assert {"--update", "--against", "--junit"} <= {word for line in PAGE_COMMANDS for word in line}


@pytest.mark.parametrize("words", PAGE_COMMANDS, ids=" ".join)
def test_the_commands_of_the_page_are_understood(words: list[str]) -> None:
    """Every command of the page has options that exist, with values that they take."""
    understood(words)


def test_the_suite_of_the_page_is_one() -> None:
    """The suite and the tolerances of the page are read, and the suite has enough depths for the memory law."""
    first, tolerances = blocks("toml")
    read = suite.read((first + tolerances).encode(), "memory", "memory.toml")
    plans = read.plans({}, "cpu")
    assert len({plan.case.depth for plan in plans}) >= 3
    assert {name for plan in plans for name in plan.measure} == {"memory", "reconstruction", "gradients"}
    given = tomllib.loads(tolerances)["tolerance"]
    assert set(given) < set(tolerance.METRICS)


def test_the_json_of_the_page_is_a_line() -> None:
    """The example has the fields of the line, no more and no fewer, and the page names each of them."""
    (example,) = blocks("json")
    content = json.loads(example)
    found = msgspec.convert(content, ci.Line, strict=True)
    assert json.loads(msgspec.json.encode(found)) == content
    section = PAGE.partition("## JSON")[2]
    for struct in (ci.Line, ci.Compared, ci.Moved):
        for name in struct.__struct_fields__:
            assert f"`{name}`" in section, name


def test_the_exit_codes_of_the_page_are_the_commands() -> None:
    """Each exit code that a check may have is in the table."""
    section = PAGE.partition("## Exit codes")[2].partition("##")[0]
    codes = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for code in cell.split(",")}
    own = {value for name, value in vars(errors).items() if name.startswith("EXIT_") and name != "EXIT_BY_SIGNAL"}
    assert codes == own - {errors.EXIT_FAILED_CASE} | {129, 143}


def test_a_failure_looks_as_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output that the page shows is what the code prints of those values, in lines of a hundred columns at most."""
    monkeypatch.setenv("COLUMNS", "100")
    side = {"part": "side_bits", "old": 495, "new": 3960}
    one, three = Move(first=1, last=1, **side), Move(first=1, last=3, **side)
    values: list[tuple[int | None, Any, float, float, tuple[Move, ...]]] = [
        (2, "side_bytes", 495, 3960, ()),
        (3, "activation_bytes", 450704, 454169, (one,)),
        (3, "side_bytes", 990, 7920, (one,)),
        (5, "activation_bytes", 451726, 462121, (three,)),
        (5, "side_bytes", 1980, 15840, (three,)),
        (None, "bits_per_activation", 1.0323232323, 8.0323232323, (three,)),
    ]
    comparisons = [
        Comparison(case(depth=depth, **GATE), metric, "worse", old, new, moves)
        for depth, metric, old, new, moves in values
    ]
    same = [Comparison(case(**GATE), "peak_bytes", "same", 1, 1)] * 10
    measured = {one: entry(record(one)) for one in (case(depth=depth, **GATE) for depth in (2, 3, 5))}
    reruns = rerun.commands("gate", comparisons, measured)
    (shown,) = blocks("")
    against = re.search(r"the working tree against (HEAD \(\w{12}\))", shown)
    assert against is not None
    found = Verdicts("the working tree", against[1], "gate", (*same, *comparisons), reruns)
    assert "\n".join(checked.lines(found)) == shown.rstrip("\n")
    assert max(map(len, shown.splitlines())) <= 100


def test_the_workflow_is_one_that_github_takes() -> None:
    """The workflow is YAML, may write nothing, and its commands are understood."""
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert set(content[True]) == {"pull_request", "push"}  # YAML 1.1 takes `on` for a truth value
    assert content["permissions"] == {"contents": "read"}
    lines = []
    for job in content["jobs"].values():
        assert job["timeout-minutes"] > 0
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/checkout@v4"))
            lines += list(commands(step.get("run", "")))
    assert [line[0] for line in lines] == ["run", "check", "check"]
    for line in lines:
        understood(line)
    assert content["jobs"]["against-base"]["steps"][0]["with"]["fetch-depth"] == 0
    assert "(../examples/memory-gate.yml)" in PAGE


def test_the_gitlab_job_is_yaml() -> None:
    """The job for GitLab is YAML and hands over the file that the check writes."""
    yaml = pytest.importorskip("yaml")
    (text,) = blocks("yaml")
    job = yaml.safe_load(text)["memory"]
    assert job["artifacts"]["reports"]["junit"] == next(commands(job["script"][-1]))[-1]


def test_the_projects_baseline_is_of_its_gate() -> None:
    """The committed baseline has each case of the suite `gate`, measured well, and no other."""
    cases = {plan.case for plan in suite.load("gate").plans({}, "cpu")}
    held = baseline.read(ROOT / "tests" / "memory-baseline.json")
    for section in held.sections:
        assert {one.case() for one in section.cases} == cases
        assert {one.status for one in section.cases} == {"ok"}
        exact = [one for one in section.cases if one.method == "bdia"]
        assert all(one.bit_exact and one.gradient_error == 0 for one in exact)
        assert len({one.depth for one in exact if one.model == "gpt"}) == 3


TOOL = """\
import json, os, shlex, sys
def main():
    if sys.argv[1] == "check":
        with open(os.environ["GITHUB_STEP_SUMMARY"], "a") as summary:
            summary.write(shlex.join(["bdia-bench", *sys.argv[1:5], "--update"]))
    with open(os.environ["LOG"], "a") as log:
        log.write(json.dumps(sys.argv[1:]) + "\\n")
    sys.exit(int(os.environ[sys.argv[1].upper()]))
"""


@pytest.mark.parametrize(
    ("run", "check", "code", "calls"), [(0, 0, 0, 2), (0, 1, 1, 2), (3, 1, 1, 2), (2, 0, 2, 1), (130, 0, 130, 1)]
)
def test_the_gate_measures_and_checks(tmp_path: Path, run: int, check: int, code: int, calls: int) -> None:
    """`scripts/gate` measures with the code of its checkout, checks even where a case failed, ends with the check's
    code or that of a run that came to nothing, and names one folder, which stays and begins anew; CI calls it."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "tmp").mkdir()
    stale = tmp_path / "results" / "memory-gate" / "stale"
    stale.mkdir(parents=True)
    script = tmp_path / "scripts" / "gate"
    script.write_text((ROOT / "scripts" / "gate").read_text())
    (tmp_path / "cli.py").write_text(TOOL)
    environ = os.environ | {
        "LOG": str(tmp_path / "log"), "RUN": str(run), "CHECK": str(check), "TMPDIR": str(tmp_path / "tmp"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(script), "--junit", "x.xml"], cwd=tempfile.gettempdir(), env=environ, check=False
    )
    assert done.returncode == code
    made, *checks = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert made[:4] == ["run", "gate", "--device", "cpu"]
    assert len(checks) == calls - 1
    for words in checks:
        assert words == ["check", made[-1], "--baseline", "tests/memory-baseline.json", "--junit", "x.xml"]
        understood(words)
        summary = (tmp_path / "summary.md").read_text()
        assert summary == f"bdia-bench check {made[-1]} --baseline tests/memory-baseline.json --update"
    # What the stand-in for a run does not make is gone; the run's folder is one of the checkout's, and out of git.
    assert made[-1] == "results/memory-gate"
    assert not stale.parent.exists()
    assert "/results/" in (ROOT / ".gitignore").read_text().splitlines()
    assert not list((tmp_path / "tmp").iterdir())
    assert os.access(ROOT / "scripts" / "gate", os.X_OK)
    assert "\nscripts/gate\n" in (ROOT / ".ci" / "run").read_text()
