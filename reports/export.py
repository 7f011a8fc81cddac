"""Records for other programs and pages: Markdown and LaTeX as the tables say it, CSV and JSON as it was measured.

CSV and JSON hold bytes as integers and seconds as numbers, never formatted; a null is an empty field or `null`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping

import msgspec
import pandas as pd

from bench import parts
from bench.errors import UsageError
from reports.breakdown import FIGURES
from reports.contents import sheets
from reports.frame import rows
from reports.sheets import Cell, Sheet

_LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "|": r"\textbar{}", "×": r"$\times$", "−": "$-$", "±": r"$\pm$", "≤": r"$\le$",
        "≥": r"$\ge$", "·": r"$\cdot$", "—": "---", "–": "--", "γ": r"$\gamma$", "Δ": r"$\Delta$",
        "½": r"\textonehalf{}", "µ": r"\textmu{}",
    }
)  # fmt: skip
# Only what Markdown would read as a mark-up of its own, or as the end of a cell.
_MARKDOWN_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in r"\`*_[]<|"})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_TEXTS = 10_000
"""The cells of a long table repeat few texts: so many of them are kept with what has been made of them."""
_SCIENTIFIC = re.compile(r"\b(\d(?:\.\d)?)e(-?\d+)\b")


def export(frame: pd.DataFrame, format_: str) -> str:
    """The frame as `markdown`, `csv`, `json` or `latex`.

    Raises: UsageError for any other format.
    """
    if format_ not in EXPORTS:
        raise UsageError(f"format {format_!r}: expected one of table, {', '.join(EXPORTS)}")
    return EXPORTS[format_](frame)


def csv(frame: pd.DataFrame) -> str:
    """A line a case. A field has one value: lists, such as `step_seconds`, are left to JSON, and of the parts of a
    figure each has the bytes over all blocks, as in `peak_parts.side_bits`."""
    scalars = frame[[name for name in frame.columns if frame[name].dtype != object]]
    table = pd.concat([scalars, *(_parts(frame, figure.parts) for figure in FIGURES)], axis="columns")
    # As plain objects they are written the same, in half the time.
    return table.astype(object).to_csv(index=False, lineterminator="\n")


def _parts(frame: pd.DataFrame, field: str) -> pd.DataFrame:
    """A column for each part there can be: 0 for one that a measured figure does not have, null without parts."""
    sums = [None if held is None else parts.totals(held) for held in frame[field]]
    return pd.DataFrame(
        {
            f"{field}.{name}": pd.Series([None if one is None else one.get(name, 0) for one in sums], dtype="Int64")
            for name in parts.NAMES
        }
    )


def json(frame: pd.DataFrame) -> str:
    """A list with an object a case."""
    return msgspec.json.format(msgspec.json.encode(rows(frame)), indent=2).decode() + "\n"


def markdown(frame: pd.DataFrame) -> str:
    """The tables in the dialect of GitHub."""
    return "\n".join(_markdown(sheet) for sheet in sheets(frame))


def latex(frame: pd.DataFrame, caption: str | None = None) -> str:
    """The tables for LaTeX with booktabs: each a `tabular` or, with a caption, a `table` of its own."""
    head = "% \\usepackage{booktabs}\n"
    return head + "\n".join(_latex(sheet, caption) for sheet in sheets(frame))


EXPORTS: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "markdown": markdown,
    "csv": csv,
    "json": json,
    "latex": latex,
}


@functools.lru_cache(maxsize=_TEXTS)
def escape_latex(text: str) -> str:
    """Plain text as LaTeX source: specials escaped, marks as superscripts, `2.1e-3` as a power of ten."""
    pieces = []
    end = 0
    for found in _SCIENTIFIC.finditer(text):
        pieces += [_escaped(text[end : found.start()]), rf"${found[1]}\times10^{{{found[2]}}}$"]
        end = found.end()
    return "".join([*pieces, _escaped(text[end:])])


def _escaped(text: str) -> str:
    pieces = []
    end = 0
    for found in _SUPERSCRIPT.finditer(text):
        mark = found[0].translate(_SUPERSCRIPTS)
        pieces += [text[end : found.start()].translate(_LATEX_ESCAPES), rf"\textsuperscript{{{mark}}}"]
        end = found.end()
    return "".join([*pieces, text[end:].translate(_LATEX_ESCAPES)])


def _latex(sheet: Sheet, caption: str | None) -> str:
    columns = "".join("r" if column.numeric else "l" for column in sheet.columns)
    lines = [f"% {line}" for line in (sheet.title, *sheet.legend)]
    if caption is not None:
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(_captioned(sheet, caption))}}}"]
    lines += [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    lines.append(_latex_row([column.heading for column in sheet.columns]))
    lines.append(_latex_row([column.unit for column in sheet.columns]))
    lines.append(r"\midrule")
    for number, line in enumerate(sheet.lines):
        if line.opens and number and sheet.keys:
            lines.append(r"\addlinespace")
        repeated = 0 if line.opens else sheet.keys
        lines.append(_latex_row([""] * repeated + [_inline(cell) for cell in line.cells[repeated:]]))
    lines += [r"\bottomrule", r"\end{tabular}"]
    if sheet.notes:
        notes = "\\\\\n".join(escape_latex(note) for note in sheet.notes)
        lines += ["", r"\smallskip", rf"{{\footnotesize {notes}\par}}"]
    if caption is not None:
        lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _captioned(sheet: Sheet, caption: str) -> str:
    return f"{sheet.name[:1].upper()}{sheet.name[1:]}. {caption}" if sheet.name else caption


def _latex_row(texts: list[str]) -> str:
    return " & ".join(escape_latex(text) for text in texts).rstrip() + r" \\"


def _markdown(sheet: Sheet) -> str:
    headings = [f"{column.heading} {column.unit}".strip() for column in sheet.columns]
    rules = ["---:" if column.numeric else ":---" for column in sheet.columns]
    body = [[_inline(cell) for cell in line.cells] for line in sheet.lines]
    lines = [sheet.title, "", *(_markdown_row(texts) for texts in (headings, rules, *body))]
    for block in (sheet.notes, sheet.legend):
        lines += ["", *(f"- {_markdown_escaped(line)}" for line in block)] if block else []
    return "\n".join(lines) + "\n"


def _markdown_row(texts: list[str]) -> str:
    return f"| {' | '.join(_markdown_escaped(text) for text in texts)} |"


@functools.lru_cache(maxsize=_TEXTS)
def _markdown_escaped(text: str) -> str:
    return text.translate(_MARKDOWN_ESCAPES)


def _inline(cell: Cell) -> str:
    return f"{cell.text} ({cell.extra})" if cell.extra else cell.text
