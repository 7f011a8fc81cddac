"""The gate's verdict for programs: GitHub's summary and annotations, JUnit, JSON. Names of cases are hostile."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_records import case, full

from bench import check, rerun
from bench.case import Case
from bench.check import Verdicts
from bench.comparison import Comparison
from bench.parts import Move
from reports import ci, junit, published, summary

AT = datetime(2026, 2, 3, 14, 5, 6, tzinfo=timezone(timedelta(hours=1)))
HOSTILE = 'a|b`c``d<script>&amp;*_[x](y)\n## no\r::error::100% \x00\x1b[31m\ud800￾ "q" γ.py:f'
SIDE = Move("side_bits", 1, 11, 128, 1024)
ADVICE = "keep them with `bdia-bench check r --baseline b --update`"


def worse(of: Case | None = None, **changes: Any) -> Comparison:
    values = {"case": of or case(), "metric": "activation_bytes", "verdict": "worse", "old": 1000, "new": 11000}
    return Comparison(**(values | {"moves": (SIDE,)} | changes))


def verdicts(*comparisons: Comparison, **changes: Any) -> Verdicts:
    reruns = {one.case: rerun.command("quick", one.case) for one in comparisons if one.regression}
    values = {"run": "results/r", "baseline": "memory.json", "suite": "quick", "reruns": reruns}
    return Verdicts(comparisons=comparisons, **(values | changes))


def one_of_each() -> Verdicts:
    """A comparison of every verdict and every kind of value."""
    return verdicts(
        worse(),
        worse(metric="bits_per_activation", old=1.0, new=33.25, note="no line", case=case(depth=None)),
        worse(metric="bit_exact", old=True, new=False, moves=(), block=7),
        worse(metric="gradient_error", old=0.0, new=2.5e-3, moves=(), block=3),
        worse(case(depth=24), metric=None, verdict="newly failing", old="ok", new="oom", moves=()),
        worse(case(depth=48), metric=None, verdict="missing", old="ok", new=None, moves=()),
        worse(case("standard"), verdict="better", old=2000, new=1000, moves=()),
        worse(case("checkpoint"), metric=None, verdict="newly passing", old="oom", new="ok", moves=()),
        worse(case(depth=96), metric=None, verdict="new", old=None, new="ok", moves=()),
        worse(case(depth=3), verdict="same", old=5, new=5, moves=()),
        worse(case(bits=20), metric=None, verdict="same", old="unsupported", new="unsupported", moves=()),
        mismatch=("torch 2.13.0 there, 2.14.0 here",),
        ungated=("rounding_error",),
        lineless=(case("standard", depth=None),),
    )


def many(count: int, **changes: Any) -> Verdicts:
    return verdicts(*(worse(case(depth=depth), **changes) for depth in range(1, count + 1)))


# Markdown


class Page(HTMLParser):
    """The elements of a page, and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a page: rows of cells, split as GitHub splits them, at every pipe."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return found[:-1] if not found[-1] else found


def test_the_summary_tells_everything_that_matters() -> None:
    """Headline, regressions with part and block, gains, new cases, the rest folded away, and the commands."""
    page = summary.markdown(one_of_each(), advice=ADVICE)
    assert page.startswith("## Memory gate: 6 regressions\n\n<code>results/r</code> against <code>memory.json</code>: ")
    assert "4 worse, 2 same" in page
    assert "The environments differ, which was allowed: <code>torch 2.13.0 there, 2.14.0 here</code>" in page
    assert "not compared: <code>rounding&#95;error</code>" in page
    regressions, improvements, new, same = tables(page)
    assert regressions[0] == ["verdict", "case", "metric", "old", "new", "change", "part", "block"]
    assert [row[0] for row in regressions[2:]] == [
        "worse", "worse; no line", "worse", "worse", "newly failing", "missing",
    ]  # fmt: skip
    assert regressions[2][2:] == ["activation_bytes", "1000", "11,000", "+1,000%", "side_bits", "1-11"]
    assert regressions[3][3:6] == ["1.00", "33.2", "+32.250"]
    assert [row[7] for row in regressions[4:6]] == ["7", "3"]
    assert [row[2:5] for row in regressions[6:]] == [["status", "ok", "oom"], ["status", "ok", "—"]]
    assert [row[0] for row in improvements[2:]] == ["better", "newly passing"]
    assert [row[2:5] for row in new[2:]] == [["status", "—", "ok"]]
    assert same[0] == ["case", "metric", "value"]
    assert [row[1:] for row in same[2:]] == [["activation_bytes", "5"], ["status", "unsupported"]]
    assert "<details><summary>2 unchanged</summary>" in page
    commands = page.partition("```console\n")[2].partition("```")[0].splitlines()
    assert commands == list(dict.fromkeys(one_of_each().reruns.values()))
    assert "--update" in page


def test_a_check_that_passes_says_so() -> None:
    """Without regressions the headline says passed, and there is no table of them."""
    page = summary.markdown(verdicts(worse(verdict="same", new=1000)))
    assert page.startswith("## Memory gate: passed\n")
    assert "Regressions" not in page
    assert "console" not in page
    assert "nothing to compare" in summary.markdown(verdicts())


@pytest.mark.parametrize("name", [HOSTILE, "x```y````z", "</code></details>|", "@someone :tada: https://e.org $x$"])
def test_no_name_breaks_out_of_its_cell(name: str) -> None:
    """A file's name with pipes, backticks, HTML, line ends or control characters stays in its cell, and the command
    in its block."""
    hostile = verdicts(worse(case(model=name)), worse(case(model=name), verdict="same"), run=name, baseline=name)
    page = summary.markdown(hostile, advice=name)
    assert {len(row) for table in tables(page) for row in table} == {8, 3}
    outside, block = page.partition("```")[0], page.partition("Measure it again:\n\n")[2]
    assert set(Page(page.replace(block.partition("\n\n")[0], "")).tags) <= {"code", "br", "details", "summary"}
    assert not re.search(r"[`@$*]|https?:", outside)
    fence = re.match("`+", block)
    assert fence is not None
    body = block.removeprefix(fence[0]).partition("\n" + fence[0] + "\n")[0]
    assert fence[0] not in body
    assert len(body.splitlines()) == 2
    assert all(char.isprintable() or char == "\n" for char in page)
    page.encode()


@pytest.mark.parametrize("limit", [4_000, 20_000, 100_000])
def test_the_summary_keeps_to_its_limit(limit: int) -> None:
    """What does not fit is left out from the end and counted, and the page that is left is whole."""
    found = many(300, moves=(SIDE,) * 3)
    same = tuple(worse(case(depth=depth), verdict="same") for depth in range(1000, 1300))
    page = summary.markdown(Verdicts("r", "b", "quick", (*found.comparisons, *same), found.reruns), limit_bytes=limit)
    assert len(page.encode()) <= limit
    left_out = re.search(r"Left out, since GitHub takes no larger summary: (.*)\. The log has them all\.", page)
    assert left_out is not None
    counts = {what: int(count) for count, what in re.findall(r"(\d+) of 300 (\w+)", left_out[1])}
    shown = sum(len(table[2:]) for table in tables(page))
    assert shown == 600 - counts.get("regressions", 0) - counts.get("unchanged", 0)
    assert not Page(page).open
    assert page.count("```") % 2 == 0


def test_the_default_limit_is_below_githubs() -> None:
    """A summary of 20,000 cases is below 1 MiB, after what the step has written already."""
    assert len(summary.markdown(many(20_000)).encode()) <= 2**20


def test_summaries_are_appended(tmp_path: Path) -> None:
    """A summary that is there stays, the limit is for all of it, and a full one is refused."""
    path = tmp_path / "summary.md"
    path.write_text("# Before\n")
    summary.append(path, many(2))
    assert path.read_text().startswith("# Before\n\n## Memory gate: 2 regressions")
    path.write_text("x" * 900_000)
    summary.append(path, many(20_000))
    assert path.stat().st_size <= summary.LIMIT_BYTES
    with pytest.raises(OSError, match="GitHub takes no more"):
        summary.append(path, many(1))


# Annotations


def decoded(line: str) -> tuple[str, str, str]:
    """Level, title and message of a workflow command, as GitHub's runner reads it."""
    found = re.fullmatch(r"::(\w+) title=([^:,]*)::(.*)", line)
    assert found is not None, line
    texts = []
    for text in (found[2], found[3]):
        assert not re.search(r"%(?!25|0A|0D|3A|2C)", text)
        for code, char in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(code, char)
        texts.append(text)
    return found[1], texts[0], texts[1]


def test_a_regression_is_an_error_with_all_that_is_known() -> None:
    """An annotation has the metric for a title, and case, bytes, part, block and command in its message."""
    level, title, message = decoded(ci.annotate(verdicts(worse()))[0])
    assert (level, title) == ("error", "activation_bytes worse")
    assert message.splitlines() == [
        f"worse: {case().label()}: activation_bytes 1000 → 11,000 bytes (+1,000%)",
        "  side_bits of blocks 1-11: 128 → 1024 bytes each (8.00×)",
        f"  measure it again: {rerun.command('quick', case())}",
    ]
    lost = worse(metric=None, verdict="missing", old="ok", new=None, moves=())
    assert decoded(ci.annotate(verdicts(lost))[0])[1] == "case missing"


def test_annotations_are_escaped() -> None:
    """Percent signs, line ends, colons and commas do not end a command or its title."""
    assert ci.annotation("error", "a: b, 5%\n", "c: d, 5%\r\n") == "::error title=a%3A b%2C 5%25%0A::c: d, 5%25%0D%0A"
    assert all(line.count("\n") == 0 for line in ci.annotate(verdicts(worse(case(model=HOSTILE)))))


@pytest.mark.parametrize(("count", "last"), [(9, None), (10, None), (11, "2 more"), (500, "491 more")])
def test_no_more_annotations_than_github_shows(count: int, last: str | None) -> None:
    """Of more than ten, which is all that GitHub shows, nine are printed, and the tenth counts the rest."""
    lines = [decoded(line) for line in ci.annotate(many(count))]
    assert len(lines) == min(count, 10)
    if last is not None:
        assert lines[-1][2].startswith(last)


def test_improvements_are_one_notice() -> None:
    """What got better is a notice that says how to keep it, and no error."""
    better = [worse(case(depth=depth), verdict="better", old=2, new=1) for depth in range(1, 30)]
    (line,) = ci.annotate(verdicts(*better), advice=ADVICE)
    level, _, message = decoded(line)
    assert level == "notice"
    assert message.splitlines()[-2:] == ["and 20 more", ADVICE]
    assert ci.annotate(verdicts(worse(verdict="same", new=1000))) == []


# JUnit

REQUIRED = {
    "testsuite": {
        "name", "timestamp", "hostname", "tests", "failures", "errors", "time", "package", "id",
    },
    "testcase": {"name", "classname", "time"}, "failure": {"type"}, "property": {"name", "value"},
}  # fmt: skip
"""The attributes that the schema of Ant's JUnit reports requires, the strictest of them."""


def parsed(of: Verdicts) -> ElementTree.Element:
    """The one suite of a JUnit file that the schema allows."""
    root = ElementTree.fromstring(junit.junit(of, AT))
    assert root.tag == "testsuites"
    (suite,) = root
    kinds = [child.tag for child in suite]
    assert kinds == ["properties", *["testcase"] * (len(kinds) - 3), "system-out", "system-err"]
    for element in suite.iter():
        assert REQUIRED.get(element.tag, set()) <= set(element.attrib), element.tag
    for found in suite.iter("testcase"):
        assert len(found) <= 1
        for name in ("name", "classname"):  # xs:token
            assert found.attrib[name] == " ".join(found.attrib[name].split())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    for count, kind in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped"), ("errors", "error")):
        assert int(suite.attrib[count]) == len(list(suite.iter(kind)))
    return suite


def test_junit_has_a_test_case_a_case() -> None:
    """A case fails with all its regressions, is skipped where there was nothing to compare, and passes otherwise."""
    suite = parsed(one_of_each())
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["skipped"]) == ("9", "4", "2")
    assert suite.attrib["timestamp"] == "2026-02-03T13:05:06"
    assert suite.attrib["hostname"] == "localhost"
    names = [(found.attrib["classname"], found.attrib["name"]) for found in suite.iter("testcase")]
    assert len(set(names)) == len(names)
    assert names[0] == ("quick.bdia", case().label())
    assert names[1][1] == f"{case(depth=None).label()} over depth"
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.attrib == {
        "type": "worse",
        "message": "worse: activation_bytes 1000 → 11,000 bytes (+1,000%), in side_bits of blocks 1-11 (and 2 more)",
    }
    assert failure.text is not None
    assert failure.text.count("measure it again: bdia-bench run quick --method bdia") == 1
    assert "goes wrong first in block 7" in failure.text
    skipped = [found.attrib["message"] for found in suite.iter("skipped")]
    assert skipped == ["new, with nothing to compare with: ok", "unsupported, as before"]
    properties = [(found.attrib["name"], found.attrib["value"]) for found in suite.iter("property")]
    assert properties == [
        ("run", "results/r"),
        ("baseline", "memory.json"),
        ("mismatch", "torch 2.13.0 there, 2.14.0 here"),
    ]


@settings(max_examples=60)
@given(name=st.text(st.characters(), max_size=40) | st.just(HOSTILE))
def test_every_output_takes_any_name(name: str) -> None:
    """Whatever characters a name holds, XML parses, JSON comes back as it was, and each annotation is one line."""
    hostile = verdicts(worse(case(model=name, data=name)), run=name, baseline=name, suite=name, mismatch=(name,))
    parsed(hostile)
    line = ci.line(hostile)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["run"] == name
    assert json.loads(line)["comparisons"][0]["case"]["model"] == name
    assert all("\n" not in text and "\r" not in text for text in ci.annotate(hostile))
    summary.markdown(hostile).encode()


# JSON


def decode(line: str) -> ci.Line:
    """The line, strictly: as many fields as are documented, no more, no fewer, of their types."""
    content = json.loads(line)
    assert tuple(content) == ci.Line.__struct_fields__
    for one in content["comparisons"]:
        assert tuple(one) == ci.Compared.__struct_fields__
        assert tuple(one["case"]) == Case.__struct_fields__
        assert all(tuple(move) == ci.Moved.__struct_fields__ for move in one["moves"])
    return msgspec.json.decode(line, type=ci.Line)


def test_the_line_holds_the_whole_verdict() -> None:
    """Verdict, exit code, counts and every comparison, with values that are numbers."""
    found = decode(ci.line(one_of_each()))
    assert (found.verdict, found.exit_code, found.error) == ("failed", 1, None)
    assert (found.run, found.baseline, found.suite) == ("results/r", "memory.json", "quick")
    assert found.counts == {
        "same": 2, "better": 1, "worse": 4, "missing": 1, "new": 1, "newly failing": 1, "newly passing": 1,
    }  # fmt: skip
    assert found.mismatch == ["torch 2.13.0 there, 2.14.0 here"]
    law = f"bits_per_activation of {case('standard', depth=None).label()}"
    assert found.ungated == ["rounding_error", law]
    first, law, exact, gradient, failing, *_, known = found.comparisons
    assert (first.metric, first.old, first.new, first.where) == (
        "activation_bytes", 1000, 11000, "side_bits of blocks 1-11",
    )  # fmt: skip
    assert first.moves == [
        ci.Moved(part="side_bits", first_block=1, last_block=11, old_bytes=128, new_bytes=1024, bytes=11 * 896)
    ]
    assert first.case == msgspec.structs.asdict(case())
    assert first.rerun == rerun.command("quick", case())
    assert (law.case["depth"], law.new, law.note) == (None, 33.25, "no line")
    assert (exact.old, exact.new, exact.block) == (True, False, 7)
    assert (gradient.new, failing.new, known.rerun) == (2.5e-3, "oom", None)
    assert decode(ci.line(verdicts())).verdict == "passed"


def test_a_check_without_a_verdict_has_a_line_as_well() -> None:
    """An error has all the fields, with the message and the exit code in them."""
    found = decode(ci.error_line("no baseline x", 4))
    assert (found.verdict, found.exit_code, found.error, found.comparisons) == ("error", 4, "no baseline x", [])


def test_real_verdicts_go_through_every_output(tmp_path: Path) -> None:
    """What a comparison of records finds is told by every output alike."""
    base, head = [full(case(depth=depth)) for depth in (6, 12)], [full(case(depth=6), activation_bytes=1)]
    found = check.judge("r", "b", "quick", base, head, check.tolerances(None))
    assert parsed(found).attrib["failures"] == "1"
    line = decode(ci.line(found))
    assert line.counts["missing"] == 1
    assert line.counts["better"] == 1
    assert len(ci.annotate(found)) == 2
    assert "missing" in summary.markdown(found)


# Where they go


def test_github_is_told_where_it_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Annotations and a summary are for GitHub alone, and the JSON line is the last one."""
    notes: list[str] = []
    published.summarise(many(2), {}, notes.append, advice="")
    published.publish(many(2), {}, advice="", json=False)
    assert capsys.readouterr().out == ""
    page = tmp_path / "summary.md"
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    published.summarise(many(2), environ, notes.append, advice="")
    published.publish(many(2), environ, advice="", json=True)
    *annotations, last = capsys.readouterr().out.splitlines()
    assert [decoded(line)[0] for line in annotations] == ["error", "error"]
    assert decode(last).exit_code == 1
    assert page.read_text() == summary.markdown(many(2))
    published.publish_error("no baseline", 4, environ, json=True)
    annotation, last = capsys.readouterr().out.splitlines()
    assert decoded(annotation) == ("error", "bdia-bench check", "no baseline")
    assert decode(last).exit_code == 4
    assert notes == []


def test_a_summary_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    """A folder in the place of the summary, or one that is full, is one note and changes nothing."""
    notes: list[str] = []
    published.summarise(many(1), {"GITHUB_STEP_SUMMARY": str(tmp_path)}, notes.append, advice="")
    full_one = tmp_path / "full.md"
    full_one.write_text("x" * summary.LIMIT_BYTES)
    published.summarise(many(1), {"GITHUB_STEP_SUMMARY": str(full_one)}, notes.append, advice="")
    assert len(notes) == 2
    assert notes[0] == f"no summary in GITHUB_STEP_SUMMARY: {tmp_path}: Is a directory"
    assert notes[1].endswith("GitHub takes no more")
