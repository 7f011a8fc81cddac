"""Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import re

import msgspec
import pytest
import synthetic_records as synthetic

from bench.errors import UsageError
from reports import export
from reports.frame import frame

FAILING = synthetic.failing_suite()
NAMES = ("memory law", "where the bytes are")
"""Of the tables below the main one."""


def test_csv_holds_raw_numbers() -> None:
    """Bytes are integers and seconds numbers; a null is an empty field."""
    found = list(csv.DictReader(io.StringIO(export.csv(frame(FAILING)))))
    assert len(found) == len(FAILING)
    of = {(row["method"], int(row["depth"])): row for row in found}
    for record in FAILING:
        row = of[record.method, record.depth]
        for name in ("activation_bytes", "peak_bytes", "side_bytes", "gradient_error", "bits", "message"):
            value = getattr(record, name)
            assert row[name] == ("" if value is None else str(value)), name
    assert of["bdia", 24]["step_seconds_median"] == str(sorted(synthetic.step_seconds(synthetic.case(depth=24)))[3])


def test_json_holds_every_field() -> None:
    """Each record comes back from JSON as it was, lists and nulls included."""
    found = json.loads(export.json(frame(FAILING)))
    of = {(row["method"], row["depth"]): row for row in found}
    for record in FAILING:
        row = of[record.method, record.depth]
        assert {name: row[name] for name in record.__struct_fields__} == msgspec.to_builtins(record)


def test_markdown_is_the_table() -> None:
    """Every row of a table is a row of Markdown with as many cells as there are headings; each has its title above."""
    text = export.markdown(frame(FAILING))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for lines in tables:
        cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
        assert {len(row) for row in cells} == {len(cells[0])}
    main, law, bytes_ = tables
    assert len(main) == 2 + len(FAILING)
    assert any("oom ¹" in line for line in main)
    assert any("0 (exact)" in line for line in main)
    assert len(law) == 2 + len(synthetic.METHODS)
    assert len(bytes_) == 2 + 2 * len(synthetic.METHODS)
    assert [name for name in NAMES if f"\n{name}" in text] == list(NAMES)


def test_markdown_escapes_what_a_case_said() -> None:
    """A bar in a message does not end a cell, and a star starts no emphasis."""
    said = synthetic.failed(synthetic.case(), "error", "a|b *c* <d> e_f")
    assert r"a\|b \*c\* \<d> e\_f" in export.markdown(frame([said]))


def test_latex_is_a_booktabs_table() -> None:
    """Rules, rows and columns are those of the table, and braces are balanced."""
    text = export.latex(frame(FAILING))
    for part in (r"\begin{tabular}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert text.count(part) == 1 + len(NAMES)
    counts = (len(FAILING), len(synthetic.METHODS), 2 * len(synthetic.METHODS))
    for table, count in zip(text.split(r"\begin{tabular}")[1:], counts, strict=True):
        body = table.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
        body_rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(body_rows) == count
        columns = re.match(r"\{@\{\}([lr]+)@\{\}\}", table)
        assert columns is not None
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in body_rows} == {len(columns[1])}
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[{}]", "", code)
    assert bare.count("{") == bare.count("}")


def test_latex_escapes_what_it_must() -> None:
    """Every special character of LaTeX comes out as text, and nothing but ASCII is left."""
    special = r"50% of_a {b} & #1 $x$ ~ ^ \end <|> × — – −1 γ±½ ¹² 2.1e-3"
    text = export.escape_latex(special)
    assert text == (
        r"50\% of\_a \{b\} \& \#1 \$x\$ \textasciitilde{} \textasciicircum{} \textbackslash{}end \textless{}\textbar{}"
        r"\textgreater{} $\times$ --- -- $-$1 $\gamma$$\pm$\textonehalf{} \textsuperscript{12} $2.1\times10^{-3}$"
    )
    assert text.isascii()
    escaped = export.latex(frame(FAILING))
    assert r"50\% of [blocks] \& more\_than that\_failed" in escaped


def test_latex_code_is_ascii() -> None:
    """What LaTeX compiles, comments aside, needs no particular input encoding."""
    for records in (FAILING, synthetic.bits_suite(), synthetic.fig1_suite(), synthetic.width_suite()):
        code = [line for line in export.latex(frame(records)).splitlines() if not line.startswith("%")]
        assert "\n".join(code).isascii()


def test_a_caption_makes_a_float_of_the_table() -> None:
    """With a caption each tabular stands in a table environment, whose caption says what it is of."""
    text = export.latex(frame(FAILING), caption="100% of it")
    for said in ("", "Memory law. ", "Where the bytes are. "):
        assert rf"\caption{{{said}100\% of it}}" in text
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3


@pytest.mark.parametrize("format_", ["markdown", "csv", "json", "latex"])
def test_an_empty_run_exports(format_: str) -> None:
    """No records are no error."""
    assert isinstance(export.export(frame([]), format_), str)


def test_an_unknown_format_is_named() -> None:
    """The error names the format and those there are."""
    with pytest.raises(UsageError, match=r"'xml'.*table, markdown, csv, json, latex"):
        export.export(frame([]), "xml")
