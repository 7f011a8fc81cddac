"""The report page in a real browser: a headless Chromium of the system, which also prints it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pypdf
import pytest
import synthetic_records as synthetic
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from bench.record import Record
from reports import figures, html
from reports.contents import sheets
from reports.figures import select
from reports.frame import frame
from reports.html import grid

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
RUN = json.loads((Path(__file__).parent.parent / "docs/results/quick/run.json").read_text())
PHONE = {"width": 360, "height": 740}
A4 = (595, 842)
"""In points."""
HOSTILE = "</script><img src=http://example.org/x onerror=\"console.error('run')\">" + "x" * 200
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const linear = (channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    const [r, g, b] = [...rgb(colour)].map((channel) => linear(channel / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgb(colour)[3] === 255) return colour;
    }
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.matches("script, title, desc, .repeated, .unseen")) continue;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [low, high] = [luminance(ink), luminance(paper(element))].sort((a, b) => a - b);
    found.push([walker.currentNode.data.trim(), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""
"""The texts of the page, each with the contrast of its ink to the paper below it, as WCAG 2 defines it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. Without one the tests are skipped, but under CI=true they fail: there they must not go missing."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        reason = f"needs a Chromium: none of {', '.join(CHROMIUM)} is on PATH (scripts/ci-packages installs one)"
        pytest.fail(reason) if os.environ.get("CI") in ("true", "1") else pytest.skip(reason)
    with sync_playwright() as playwright:
        # Without the sandbox, which needs a user other than root; the pages are the tests' own.
        launched = playwright.chromium.launch(executable_path=path, chromium_sandbox=False)
        yield launched
        launched.close()


@dataclass
class Opened:
    """A page, and all that it complained of or asked for."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Opener:
    """Opens report pages, each in a context of its own."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser, self._folder = browser, folder
        self.opened: list[Opened] = []

    def __call__(self, records: Iterable[Record], run: dict[str, Any] = RUN, **context: Any) -> Page:
        file = self._folder / f"{len(self.opened)}.html"
        file.write_text(html.page(frame(records), run, "quick"), encoding="utf-8")
        opened = Opened(self._browser.new_context(**context).new_page(), file.as_uri())
        self.opened.append(opened)
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(opened.url)
        return opened.page

    def close(self) -> None:
        for opened in self.opened:
            opened.page.context.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens a page of some records. No page may complain on the console or ask for anything but itself."""
    opener = Opener(browser, tmp_path)
    yield opener
    opener.close()
    for opened in opener.opened:
        assert opened.complaints == []
        assert set(opened.requests) == {opened.url}


def column(table: Locator, heading: str) -> list[str]:
    """The texts of one column, from top to bottom."""
    found: list[str] = table.evaluate(
        """(table, heading) => {
          const headings = [...table.tHead.rows[0].cells].map((cell) => cell.innerText.replace(/\\s+/g, " ").trim());
          const index = headings.indexOf(heading);
          return [...table.tBodies[0].rows].map((row) => row.cells[index].textContent);
        }""",
        heading,
    )
    return found


def sort_of(table: Locator, heading: str) -> str | None:
    return table.get_by_role("columnheader", name=heading, exact=True).get_attribute("aria-sort")


def test_a_click_sorts_by_the_number_and_a_third_restores(show: Opener) -> None:
    """Up, down, and as it was; by the numbers and not their text, with what has none at the end either way."""
    table = show(synthetic.failing_suite()).locator("#tables table").first
    sheet = sheets(frame(synthetic.failing_suite()))[0]
    index = [f"{each.heading} {each.unit}" for each in sheet.columns].index("activ. MiB")
    cells = [line.cells[index] for line in sheet.lines]
    known = [cell for cell in cells if cell.value is not None]
    rest = [cell.text for cell in cells if cell.value is None]
    up = [cell.text for cell in sorted(known, key=lambda cell: cell.value or 0)]
    down = [cell.text for cell in sorted(known, key=lambda cell: -(cell.value or 0))]
    assert sorted(up) != up
    button = table.get_by_role("button", name="activ. MiB")
    for expected, sort in ((up + rest, "ascending"), (down + rest, "descending"), ([c.text for c in cells], None)):
        button.click()
        assert column(table, "activ. MiB") == expected
        assert sort_of(table, "activ. MiB") == sort


def test_words_sort_as_words_and_one_column_at_a_time(show: Opener) -> None:
    """A column of words sorts by its letters; another heading takes over, and starts from the original order."""
    table = show(synthetic.depth_suite()).locator("#tables table").first
    original = column(table, "method")
    table.get_by_role("button", name="depth").click()
    table.get_by_role("button", name="method").click()
    assert column(table, "method") == sorted(original)
    assert column(table, "depth") == ["6", "12", "24"] * 5
    assert (sort_of(table, "depth"), sort_of(table, "method")) == (None, "ascending")


def test_headings_answer_to_the_keyboard(show: Opener) -> None:
    """Tab reaches the button of a heading, and Enter and Space sort."""
    page = show(synthetic.depth_suite())
    table = page.locator("#tables table").first
    table.get_by_role("button", name="depth").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert sort_of(table, "method") == "ascending"
    page.keyboard.press("Space")
    assert sort_of(table, "method") == "descending"


def test_repeated_axes_are_seen_once_sorted(show: Opener) -> None:
    """The depth stands once a group in the original order, and in every row of another."""
    table = show(synthetic.depth_suite()).locator("#tables table").first
    second = table.locator("tbody tr").nth(1).locator("td").first
    assert second.evaluate("cell => getComputedStyle(cell).opacity") == "0"
    table.get_by_role("button", name="rate tok/s").click()
    shown = table.locator("tbody td:first-child")
    assert set(shown.evaluate_all("cells => cells.map((cell) => getComputedStyle(cell).opacity)")) == {"1"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag(show: Opener, scheme: str) -> None:
    """Each text, those within figures and unfolded numbers too, stands out from its paper by 4.5 to 1."""
    page = show([*synthetic.failing_suite(), *synthetic.fig1_suite()], color_scheme=scheme)
    page.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 500
    assert [(text, contrast) for text, contrast in found if contrast < 4.5] == []


def test_colours_follow_the_system_or_the_switch(show: Opener) -> None:
    """Page and figures are dark where the system is, or the switch says so, which is forgotten with the page."""
    page = show(synthetic.depth_suite(), color_scheme="dark")

    def colours() -> tuple[str, str]:
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return paper, page.evaluate("getComputedStyle(document.querySelector('.paper text')).fill")

    dark = colours()
    page.get_by_text("Light", exact=True).click()
    light = colours()
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    page.emulate_media(color_scheme="light")
    page.get_by_text("Dark", exact=True).click()
    assert colours() == dark
    page.reload()
    assert colours() == light


@pytest.mark.parametrize("name", ["a run", "a hostile run"])
def test_a_phone_needs_no_sideways_scrolling(show: Opener, name: str) -> None:
    """At 360 pixels nothing is wider than the page; wide tables scroll within their own frame, their names kept."""
    records, run = synthetic.failing_suite(), RUN
    if name == "a hostile run":
        records += [synthetic.failed(synthetic.case(model=HOSTILE, data=HOSTILE), "error", HOSTILE)]
        environment = RUN["environment"] | {HOSTILE: HOSTILE}
        run = RUN | {"title": HOSTILE, "question": HOSTILE, "environment": environment, "arguments": [HOSTILE]}
    page = show(records, run, viewport=PHONE)
    page.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    frame_ = page.locator("#tables .scroll").first
    assert frame_.evaluate("frame => frame.scrollWidth > frame.clientWidth")
    frame_.evaluate("frame => { frame.scrollLeft = frame.scrollWidth; }")
    box = frame_.locator("tbody th").first.bounding_box()
    assert box is not None
    assert 0 <= box["x"] < PHONE["width"] / 4


def pages_of(page: Page) -> list[pypdf.PageObject]:
    return list(pypdf.PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True))).pages)


def squeezed(text: str) -> str:
    """Without spaces, nor the ligatures that a font puts into a PDF."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def test_print_has_every_row_on_a4(show: Opener) -> None:
    """On paper, each row of each table is there in full, below its headings, on upright A4."""
    records = synthetic.depth_suite(tuple(range(2, 42)))
    pages = pages_of(show(records))
    assert {(round(float(page.mediabox.width)), round(float(page.mediabox.height))) for page in pages} == {A4}
    texts = [page.extract_text() for page in pages]
    sheet = sheets(frame(records))[0]
    rows = [squeezed("".join(cell.text for cell in line.cells[sheet.keys :])) for line in sheet.lines]
    whole = squeezed("".join(texts))
    assert all(row in whole for row in rows)
    assert len(texts) > 4
    for text in texts[1:]:
        if any(row in squeezed(text) for row in rows):
            assert {"peak", "tok/s"} <= set(text.split())
            (first, *_) = re.findall(r"^(?:\d+ )?(?:standard|checkpoint|bdia\S*) \d", text, re.MULTILINE)
            assert first[0].isdecimal()


def test_print_unfolds_what_the_screen_folds(show: Opener) -> None:
    """On paper are the numbers of each figure, every row of them below its headings, and what was expected, though
    nobody opened them; on the screen they stay folded."""
    records = synthetic.depth_suite()
    page = show(records)
    whole = squeezed("".join(each.extract_text() for each in pages_of(page)))
    assert squeezed(RUN["expect"].replace("`", "")) in whole
    drawn = [one for one in figures.FIGURES.values() if not one.plot(select.View(frame(records))).numbers.empty]
    assert len(drawn) > 1
    for one in drawn:
        for line in grid.plotted(one.plot(select.View(frame(records))).numbers).sheet.lines:
            assert squeezed("".join(cell.text for cell in line.cells)) in whole
    assert page.locator("details[open]").count() == 0
    assert not page.locator(".drawing table").first.is_visible()


def test_print_leaves_no_heading_alone(show: Opener) -> None:
    """No page of paper ends with the heading of a section, and none shows the switch or the hints of the screen."""
    headings = ("Tables", "Figures", "Failed cases", "How each number was measured", "Environment", "This run")
    for depths in ((6,), (6, 12, 24), tuple(range(2, 12))):
        pages = pages_of(show([*synthetic.depth_suite(depths), *synthetic.failing_suite()[-5:]]))
        for page in pages:
            lines = [line.strip() for line in page.extract_text().splitlines() if line.strip()]
            content = [line for line in lines if not re.fullmatch(r"\d+ / \d+", line)]
            assert content[-1] not in headings
            assert not {"Auto", "Light", "Dark"} & set(content)
            assert "Click a heading" not in " ".join(content)


def test_print_is_light(show: Opener) -> None:
    """On paper the colours are the light ones, whatever the screen has."""
    page = show(synthetic.depth_suite(), color_scheme="dark")
    page.get_by_text("Dark", exact=True).click()
    page.emulate_media(media="print", color_scheme="dark")
    inks = page.evaluate("[document.body, document.querySelector('.paper text')].map((e) => getComputedStyle(e))"
                         ".map((style) => [style.color, style.fill])")  # fmt: skip
    assert inks[0][0] == "rgb(27, 29, 32)"
    assert inks[1][1] == "rgb(0, 0, 0)"


def test_a_large_run_is_usable(show: Opener) -> None:
    """A page of thousands of cases opens and sorts."""
    records = [synthetic.full(synthetic.case(depth=depth, seed=seed)) for depth in range(1, 41) for seed in range(50)]
    page = show(records)
    table = page.locator("#tables table").first
    table.get_by_role("button", name="depth").dblclick()
    assert sort_of(table, "depth") == "descending"
    assert page.locator(".left-out").count() >= 1
