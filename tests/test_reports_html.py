"""The report page as a document: what it says, that all of it is escaped, and that it asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
import synthetic_records as synthetic

import cli
from bench.record import Record
from bench.starts import Resumption
from bench.store import Run, Store
from reports import captions, figures, html
from reports.contents import sheets
from reports.figures.style import looks
from reports.frame import frame
from reports.html import colours, grid
from reports.html.cards import cards
from reports.html.drawings import Styles, inline
from reports.settings import Row
from reports.sheets import Cell, Column, Line, Sheet

ROOT = Path(__file__).parent.parent
HOSTILE = '</script><img src=x onerror="alert(1)">\'{{ 7 * 7 }}&amp;<!--'
RUN: dict[str, Any] = json.loads((ROOT / "docs/results/quick/run.json").read_text())
VOID = ("meta", "link", "input", "img", "br")


@dataclass
class Document(HTMLParser):
    """The elements of a page with their attributes, and its texts, those of style and script aside."""

    page: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element, before {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.sources[self.open[-1]] = self.sources.get(self.open[-1], "") + data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(records: Iterable[Record], **changes: Any) -> str:
    return html.page(frame(records), RUN | changes, "quick")


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.fixture(scope="module")
def failing() -> Document:
    return Document(page_of(synthetic.failing_suite()))


@pytest.fixture(scope="module")
def quick() -> Document:
    return Document(page_of(synthetic.quick_suite()))


def test_the_page_says_everything_in_order(failing: Document) -> None:
    """Title, question, verdict, tables, figures, failed cases, meanings, environment and command follow each other."""
    places = [
        failing.text.rindex(part)
        for part in (
            RUN["title"],
            RUN["question"],
            "At depth 48 bdia holds",
            "Activation memory at depth 48",
            "Tables Click",
            "Figures fig1",
            "Failed cases",
            captions.MEANINGS["activation_bytes"],
            "cpu_capability",
            f"Command {shlex.join(['bdia-bench', *RUN['arguments']])}",
            "quick/results.jsonl",
        )
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["failing", "quick"])
def test_the_page_carries_all_that_the_tables_say(name: str, request: pytest.FixtureRequest) -> None:
    """Titles, headings, cells, notes and legends of every sheet are on the page, and each cell's number is raw."""
    document: Document = request.getfixturevalue(name)
    values = {attributes["data-value"] for _, attributes in document.elements if "data-value" in attributes}
    for sheet in sheets(frame(getattr(synthetic, f"{name}_suite")())):
        said = [sheet.title, *sheet.notes, *sheet.legend]
        said += [column.heading + column.unit for column in sheet.columns]
        for line in sheet.lines:
            for cell in line.cells:
                said += [cell.text, cell.extra]
                assert cell.value is None or str(cell.value) in values
        whole = squeezed(document.text)
    assert [text for text in said if squeezed(text) not in whole] == []


def test_numbers_have_their_value_and_failures_none(failing: Document) -> None:
    """Every cell of a column of numbers that shows one has the number behind it; a dash or a status has none."""
    sheet = sheets(frame(synthetic.failing_suite()))[0]
    for line in sheet.lines:
        for column, cell in zip(sheet.columns, line.cells, strict=True):
            shows = column.numeric and cell.text[0] in "0123456789+-yn"
            assert (cell.value is not None) == shows, cell


def test_every_figure_has_its_numbers(quick: Document) -> None:
    """Each available figure is drawn once, tells screen readers what it is, and has a table of all that it plots."""
    found = frame(synthetic.quick_suite())
    names = figures.available(found)
    drawn = [attributes for attributes in quick.all("svg") if attributes.get("role") == "img"]
    assert [attributes["aria-labelledby"] for attributes in drawn] == [f"{n}-title {n}-description" for n in names]
    ids = {attributes["id"] for _, attributes in quick.elements if "id" in attributes}
    for name in names:
        assert {f"{name}-title", f"{name}-description"} <= ids
        for column in figures.plots(found)[name].numbers.columns:
            assert column in quick.text


def test_no_two_elements_share_an_id(quick: Document) -> None:
    """Ids are unique over all figures, and every reference leads to one."""
    ids = [attributes["id"] for _, attributes in quick.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [attributes["href"] or "" for attributes in quick.all("use") + quick.all("a")]
    references += re.findall(r"url\((#[^)]+)\)", quick.page)
    assert references
    assert {reference.removeprefix("#") for reference in references} <= set(ids)


def test_failed_cases_have_their_reasons(failing: Document) -> None:
    """Each case that did not end well is listed with its status and its reason in full."""
    listed = failing.text[failing.text.index("Failed cases") :]
    for record in synthetic.failing_suite():
        if record.status != "ok":
            assert f"{record.method} {record.depth} {record.status} {record.message}" in listed


def test_a_run_without_failures_says_so(quick: Document) -> None:
    """Where each case ended well, the page says that and shows no table of failures."""
    assert "None: each case ended well." in quick.text


def test_only_what_was_measured_is_explained() -> None:
    """A metric without a number has no explanation."""
    text = Document(page_of(synthetic.fig1_suite())).text
    assert captions.MEANINGS["max_abs_error"] in text
    assert captions.MEANINGS["rate_ratio"] not in text


def test_the_environment_is_told_in_full() -> None:
    """Every entry of the environment, nested and unknown ones too, and what later starts had otherwise."""
    later = Resumption(
        started="2026-12-01T10:00:00Z", arguments=["run", "quick", "--resume"],
        environment={"torch": "2.14.0", "packages": {"numpy": "3.0"}},
    )  # fmt: skip
    document = Document(page_of(synthetic.depth_suite(), resumed=[msgspec.to_builtins(later)]))
    told = document.text
    for name, value in RUN["environment"].items():
        if isinstance(value, str):
            assert f"{name} {value}" in told
    assert "gpu_name —" in told
    assert "dirty no" in told
    assert "packages · numpy 2.4.6" in told
    assert "memory_bytes 23.5 GiB (25,276,510,208 bytes)" in told
    assert "Gone on with, 2026-12-01 10:00:00 UTC bdia-bench run quick --resume" in told
    assert "torch 2.14.0 packages · numpy 3.0" in told


def test_nothing_hostile_gets_through() -> None:
    """Markup in names, messages, data paths, the title, the environment and the command is text and no more."""
    records = [
        *synthetic.depth_suite(),
        synthetic.full(synthetic.case("bdia", model=HOSTILE, depth=6)),
        synthetic.failed(synthetic.case("bdia", data=HOSTILE, depth=48), "error", HOSTILE),
        msgspec.structs.replace(synthetic.full(synthetic.case("bdia", depth=6)), method=HOSTILE),
    ]
    environment = RUN["environment"] | {"cpu_model": HOSTILE, HOSTILE: HOSTILE, "variables": {HOSTILE: HOSTILE}}
    document = Document(
        html.page(
            frame(records),
            RUN | {"environment": environment, "title": HOSTILE, "question": HOSTILE, "expect": f"`{HOSTILE}`",
                   "suite": HOSTILE, "started": HOSTILE, "arguments": [HOSTILE]},
            HOSTILE,
        )
    )  # fmt: skip
    assert document.text.count(HOSTILE) > 10
    assert document.all("img") == []
    assert len(document.all("script")) == len(document.all("style")) == 1
    assert [name for _, attributes in document.elements for name in attributes if name.startswith("on")] == []
    assert document.open == []


def test_a_name_with_dollars_is_no_formula() -> None:
    """Names that matplotlib could take for mathematics are drawn as they are."""
    name = r"x$\frac$y"
    records = [
        msgspec.structs.replace(record, method=name) if record.method == "bdia" else record
        for record in synthetic.depth_suite()
    ]
    document = Document(page_of(records))
    assert document.text.count(name) > 10
    assert "not drawn" not in document.text


def test_a_figure_that_cannot_be_drawn_says_why() -> None:
    """Where the names leave no room for the axes, the numbers are there all the same, with the reason."""
    records = [
        msgspec.structs.replace(record, method="long" * 30) for record in synthetic.depth_suite(methods=("bdia",))
    ]
    document = Document(page_of(records))
    assert "It is not drawn: size '3.25x2.2': too small for the labels" in document.text
    assert "Its numbers" in document.text


def test_the_policy_lets_in_nothing_but_the_page(quick: Document) -> None:
    """The page's policy has the digests of its one style and one script; no style attribute needs an exception."""
    policy = next(each["content"] for each in quick.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    for directive, source in (("style-src", quick.sources["style"]), ("script-src", quick.sources["script"])):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not [attributes for _, attributes in quick.elements if "style" in attributes]


def test_the_page_asks_the_network_for_nothing(quick: Document) -> None:
    """No address of another place is on the page, but for the name of SVG's namespace."""
    assert set(re.findall(r"\w+://[^\s\"'<]+", quick.page)) == {"http://www.w3.org/2000/svg"}
    assert not [attributes for _, attributes in quick.elements if attributes.keys() & {"src", "srcset", "action"}]
    assert "@import" not in quick.page


def test_the_same_run_gives_the_same_bytes() -> None:
    """Neither the day, nor the process, nor what was drawn before changes the page."""
    code = (
        "import json, sys, synthetic_records as synthetic\n"
        "from reports import html\nfrom reports.frame import frame\n"
        "sys.stdout.buffer.write(html.page(frame(synthetic.quick_suite()), json.load(sys.stdin), 'quick').encode())"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(RUN).encode(), capture_output=True, env=environment, check=True
    )
    assert done.stdout.decode() == page_of(synthetic.quick_suite())


def test_a_long_table_is_cut_between_groups_and_says_so() -> None:
    """Of many rows whole groups are kept as far as they fit, with the notes of those; how many are missing is said."""
    lines = tuple(
        Line((Cell(str(number // 3)), Cell(f"error {'¹²³'[number % 3] if number else '¹'}")), opens=number % 3 == 0)
        for number in range(12)
    )
    sheet = Sheet("", (Column("depth"), Column("method", numeric=False)), lines, keys=1, notes=("¹ a", "⁹ b", "both"))
    cut = grid.cut(sheet, 8)
    assert (len(cut.sheet.lines), cut.left_out, cut.sheet.notes) == (6, 6, ("¹ a", "both"))
    assert len(grid.cut(sheet, 2).sheet.lines) == 2
    assert grid.cut(sheet, 12).left_out == 0


def test_a_large_run_stays_small() -> None:
    """Of thousands of cases the page shows some, all failures first of all, and says where the others are."""
    records = [synthetic.full(synthetic.case(depth=depth, seed=seed)) for depth in range(1, 41) for seed in range(50)]
    records += [
        synthetic.failed(synthetic.case(depth=99, seed=seed), "error", f"reason {seed}!") for seed in range(600)
    ]
    document = Document(page_of(records))
    assert len(document.all("tr")) < 2500
    assert all(f"reason {seed}!" in document.text for seed in range(600))
    assert "2600 cases: 2000 ok, 600 error" in document.text
    assert re.search(r"more rows are left out here.*--format csv", document.text)


def test_rows_are_named_by_their_method() -> None:
    """The column that heads each row is the method, whatever axes, of words or numbers, come before it."""
    records = [synthetic.full(synthetic.case(model=model, depth=d)) for model in ("gpt", "vit") for d in (6, 12)]
    shown = grid.cut(sheets(frame(records))[0])
    assert [column.heading for column in shown.sheet.columns[: shown.heads + 1]] == ["model", "depth", "method"]


def test_the_cards_are_of_the_case_that_the_verdict_is_about() -> None:
    """Memory, ratio, rate and exactness of the deepest case of bdia, with a bar a method of its group."""
    memory, saved, rate, exact = cards(rows_of(synthetic.depth_suite()))
    assert (memory.label, memory.figure) == ("Activation memory at depth 24", "45.5 MiB")
    assert [(bar.method, bar.text) for bar in memory.bars][::4] == [("standard", "808.0 MiB"), ("bdia", "45.5 MiB")]
    assert max(bar.share or 0 for bar in memory.bars) == 1
    assert (saved.figure, saved.note) == ("17.8×", "less than standard")
    assert rate.figure == "0.74×"
    assert (exact.figure, exact.note, exact.good) == ("bit for bit", "gradient error 0 (exact)", True)


def test_a_card_is_left_out_where_nothing_was_measured() -> None:
    """Without its numbers a card is missing, never a zero; a rival that failed shows how it ended."""
    memory, exact = cards(rows_of(synthetic.failing_suite()))
    assert [(bar.text, bar.share) for bar in memory.bars[:2]] == [("oom", None), ("timeout", None)]
    assert exact.label == "Reconstruction"
    rebuilt = cards(rows_of(synthetic.fig1_suite()))
    assert [(card.label, card.good) for card in rebuilt] == [("bdia-naive", False), ("bdia", True)]
    assert cards(rows_of([synthetic.failed(synthetic.case(), "oom", "no")])) == ()


def rows_of(records: Iterable[Record]) -> list[Row]:
    from reports.frame import rows

    return list(rows(frame(records)))


@pytest.mark.parametrize("colour", sorted({look.color for look in looks(["a", *synthetic.METHODS]).values()}))
def test_colours_are_legible_on_either_paper(colour: str) -> None:
    """Every colour of the figures has the contrast of text on dark paper, and paper and ink change places; as the ink
    of a text it has that on light paper too, and is left alone where it has it already."""
    assert colours.contrast(colours.on_dark(colour.lower()), colours.DARK_PAPER) >= 4.5
    assert colours.contrast(colours.ink(colour.lower()), colours.LIGHT_PAPER) >= 4.5
    assert colours.ink("#0067a0") == "#0067a0"
    assert colours.on_dark(colours.LIGHT_PAPER) == colours.DARK_PAPER
    assert colours.contrast("#000000", "#ffffff") == pytest.approx(21)


def test_a_drawing_brings_no_rules_for_the_whole_page() -> None:
    """Metadata and style sheets are dropped, names get their prefix, styles become shared classes."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt">'
        "<metadata>who</metadata><defs><style>*{fill: red}</style><path id='m' d='M 0 0 \nL 1 1'/></defs>"
        "<g clip-path='url(#c)'><use xlink:href='#m' style='fill: #000000; font-family: X'/></g>"
        "<text style='fill: #000000'>a &lt; b</text></svg>"
    )
    styles = Styles()
    found = inline(svg, "f-", "f", "what", styles)
    assert not re.search(r"metadata|<style|style=|who|width|xlink|font-family", found)
    for part in ('id="f-m"', 'href="#f-m"', 'clip-path="url(#f-c)"', 'd="M 0 0 L 1 1"', "a &lt; b"):
        assert part in found
    assert styles.css() == ".d0{fill: light-dark(#000000, #ebebeb)}\n"
    assert found.count('class="d0"') == 2


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The directory of a finished run."""
    directory = tmp_path / "a run"
    with Store(directory, msgspec.convert(RUN, Run)) as store:
        for record in synthetic.depth_suite():
            store.append(record)
    return directory


def test_report_sends_the_page_to_stdout(finished: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`report --format html` prints the page in UTF-8, names the directory without the way to it, writes no file."""
    before = sorted(finished.iterdir())
    assert cli.execute(["report", str(finished), "--format", "html"]) == 0
    out, err = capfdbinary.readouterr()
    assert err == b""
    assert out.decode() == html.page(frame(synthetic.depth_suite()), RUN, "a run")
    assert b"bdia-bench report &#39;a run&#39; --format csv" in out
    assert str(finished.parent).encode() not in out
    assert sorted(finished.iterdir()) == before


def test_in_a_terminal_the_page_goes_into_a_file(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where stdout is a terminal, the page is written beside the records, and stderr says where."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.execute(["report", str(finished), "--format", "html"]) == 0
    assert capsys.readouterr() == ("", f"bdia-bench: written: {finished / 'report.html'}\n")
    assert (finished / "report.html").read_text("utf-8") == html.page(frame(synthetic.depth_suite()), RUN, "a run")


def test_a_caption_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page has all that a caption says: asking for one is an error in one line."""
    assert cli.execute(["report", str(finished), "--format", "html", "--caption"]) == 2
    assert "--caption: a page of html tells all" in capsys.readouterr().err
