"""Puts the page together: what the run says, into the template, under a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from bench.errors import BenchError
from reports import captions, figures, units
from reports.arms import arms
from reports.contents import sheets
from reports.figures.style import arm_looks, looks
from reports.frame import rows_kept
from reports.html import facts, grid, trained_cards
from reports.html.cards import cards
from reports.html.drawings import Styles, inline
from reports.html.grid import Grid
from reports.settings import Row
from reports.sheets import Sheet, unbroken
from reports.verdict import verdict

_LOADER: Final = jinja2.PackageLoader("reports.html", "templates")

_WIDE: Final = 2.0


@dataclass(frozen=True)
class _Figure:
    name: str
    caption: str
    drawing: Markup | None
    """None where it could not be drawn; the caption says why."""
    numbers: Grid
    wide: bool = False
    """Whether it is of several panels, and takes the whole width of the page."""


def page(frame: pd.DataFrame, run: Mapping[str, Any], directory: str) -> str:
    """The run as one HTML document. `run` is the content of its `run.json`, `directory` what its records are in, as
    the page is to call it. The same run gives the same bytes."""
    with rows_kept(frame) as found:
        return _page(frame, found, run, directory)


def _page(frame: pd.DataFrame, found: Sequence[Row], run: Mapping[str, Any], directory: str) -> str:
    styles = Styles()
    drawn = _figures(frame, styles)
    trained = arms(found)
    drawn_as = arm_looks([(arm.name, arm.method) for arm in trained]) if trained else looks(_methods(found))
    bars = {name: styles.name(f"fill: {look.color.lower()}") for name, look in drawn_as.items()}
    environment = jinja2.Environment(
        loader=_LOADER, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"code": _code, "term": _term, "whole": _whole, "setting": _setting}
    style = _source("page.css") + styles.css()
    script = _source("page.js")
    return environment.get_template("page.html.jinja").render(
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        run=run,
        title=run["title"] or run["suite"],
        started=facts.moment(run["started"]),
        hardware=", ".join(captions.hardware(run["environment"])),
        software=", ".join(captions.software(run["environment"])),
        counts=_counts(found),
        verdict=verdict(frame),
        cards=trained_cards.cards(trained) if trained else cards(found),
        bars=bars,
        tables=[grid.cut(sheet) for sheet in sheets(frame, grid.TABLE_ROWS)],
        figures=drawn,
        failed=grid.failed(found),
        again="--resume" if trained else "--rerun failed",
        meanings=_meanings(found),
        environment=facts.environment(run["environment"]),
        starts=facts.starts(run),
        command=facts.command(run["arguments"]),
        directory=shlex.quote(directory),
        integer=units.integer,
        records=len(found),
    )


def _figures(frame: pd.DataFrame, styles: Styles) -> list[_Figure]:
    drawn = []
    for name, plot in figures.plots(frame).items():
        shows, _ = captions.FIGURES[name]
        caption = f"{shows} Drawn: {plot.setting}." if plot.setting else shows
        numbers = grid.plotted(plot.numbers)
        try:
            svg = figures.svg(name, plot)
        except BenchError as error:
            drawn.append(_Figure(name, f"{caption} It is not drawn: {error}", None, numbers))
            continue
        element = inline(svg, f"{name}-", name, f"{caption} Its numbers are in a table below.", styles)
        width, height = figures.FIGURES[name].size(plot)
        drawn.append(_Figure(name, caption, Markup(element), numbers, wide=width > _WIDE * height))
    return drawn


def _meanings(found: Sequence[Row]) -> list[tuple[str, str]]:
    """The metrics that were measured, and how; one that is no column of the frame is told in any case."""
    return [
        (field, meaning)
        for field, meaning in captions.MEANINGS.items()
        if any(row.get(field, True) is not None for row in found)
    ]


def _counts(found: Sequence[Row]) -> str:
    """How many cases there are, and how they ended: `25 cases: 23 ok, 2 oom`."""
    ends: dict[str, int] = {}
    for row in found:
        ends[row["status"]] = ends.get(row["status"], 0) + 1
    told = ", ".join(f"{units.integer(ends[status])} {status}" for status in sorted(ends, key=lambda end: end != "ok"))
    return f"{units.cases(len(found))}: {told}"


def _methods(found: Sequence[Row]) -> set[str]:
    return {row["method"] for row in found}


def _source(name: str) -> str:
    source, _, _ = _LOADER.get_source(jinja2.Environment(), name)
    return source


def _policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy: its own style and script by their digests, and nothing from anywhere."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _code(text: str) -> Markup:
    """Plain text whose `words in backticks` are code."""
    pieces = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )


def _term(text: str) -> Markup:
    """A line of a legend, `term: meaning`, with its term marked."""
    term, colon, meaning = text.partition(": ")
    return Markup("<dfn>{}</dfn>{}{}").format(term, colon, meaning) if colon else escape(text)


def _setting(sheet: Sheet) -> Markup:
    """The title of a sheet, whose lines break after a dot and nowhere else; the name it begins with is marked."""
    name = sheet.name if sheet.title.startswith(sheet.name) else ""
    lines = (unbroken(text).replace(" · ", "\N{NO-BREAK SPACE}· ") for text in (name, sheet.title[len(name) :]))
    return Markup("<b>{}</b>{}").format(*lines) if name else escape("".join(lines))


def _whole(text: str) -> str:
    """Text whose sizes are not torn from their units at the end of a line."""
    return re.sub(r"(?<=\d) (?=(?:[KMGT]i)?B\b)", "\N{NO-BREAK SPACE}", text)
