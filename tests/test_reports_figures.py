"""The figures: the numbers they plot, the marks they draw, the files they write."""

from __future__ import annotations

import csv
import itertools
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import msgspec
import numpy as np
import pandas as pd
import pytest
import synthetic_records as synthetic
import test_reports_trained_figures as trained
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.errors import UsageError
from bench.record import BlockError, Record
from reports import captions, figures, units
from reports.figures import style
from reports.frame import frame, rows

QUICK = synthetic.quick_suite()
SUITES: dict[str, list[Record]] = {
    "fig1": QUICK,
    "memory-depth": synthetic.failing_suite(),
    "memory-width": synthetic.width_suite(),
    "memory-batch": synthetic.batch_suite(),
    "memory-parts": synthetic.failing_suite(),
    "throughput": synthetic.failing_suite(),
    "memory-speed": QUICK,
    "pareto": synthetic.frontier_suite(),
    "frontier": synthetic.frontier_suite(),
    "limit": synthetic.frontier_suite(),
    "error-bits": synthetic.bits_suite(),
}
"""A run for each figure."""


def new_axes() -> Axes:
    return Figure(figsize=(3.25, 2.2), layout="constrained").add_subplot()


def plotted(directory: Path, name: str) -> list[dict[str, str]]:
    figures.save(name, frame(SUITES[name]), directory, ["svg"])
    return list(csv.DictReader((directory / f"{name}.csv").read_text(encoding="utf-8").splitlines()))


def draw(name: str, table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    return figures.FIGURES[name].draw(figures.plots(table)[name], ax)


def numbers_of(name: str, records: list[Record]) -> pd.DataFrame:
    return figures.plots(frame(records))[name].numbers


def texts(ax: Axes) -> str:
    ticks = [label.get_text() for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()]
    return " ".join([*(text.get_text() for text in ax.texts), *ticks])


def test_reports_import_no_matplotlib_before_a_figure_is_drawn() -> None:
    """Tables, exports, verdict and captions do without matplotlib; the figures do without pyplot."""
    code = (
        "import sys, reports.tables, reports.export, reports.verdict, reports.captions, reports.compared\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import reports.figures\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_figure_has_a_caption() -> None:
    """The captions know the figures by the same names; those of training runs have tests of their own."""
    assert captions.FIGURES.keys() == figures.FIGURES.keys() == SUITES.keys() | trained.RUNS.keys()


def test_fig1_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    """The CSV beside fig1 has the median and the range of the recorded errors over five seeds."""
    found = plotted(tmp_path, "fig1")
    assert {row["train_steps"] for row in found} == {"0", "50"}
    for row in found:
        cases = [synthetic.case(row["method"], seed=seed, train_steps=int(row["train_steps"])) for seed in range(5)]
        block = int(row["block"])
        errors = [
            (synthetic.reconstruction(of) or [])[block].max_abs_error if row["method"] == "bdia" else
            synthetic.naive_errors(of)[block] for of in cases
        ]  # fmt: skip
        known = [error for error in errors if error is not None]
        assert float(row["median_max_abs_error"]) == statistics.median(known)
        assert float(row["lowest_max_abs_error"]) == min(known)
        assert float(row["highest_max_abs_error"]) == max(known)
        assert (row["seeds"], row["not_finite"]) == ("5", "0")


@pytest.mark.parametrize(
    ("name", "axis"), [("memory-depth", "depth"), ("memory-width", "width"), ("memory-batch", "batch")]
)
def test_memory_numbers_are_those_of_the_records(name: str, axis: str, tmp_path: Path) -> None:
    """The CSV beside a memory figure has the recorded bytes, and a failed case as a row without any."""
    found = {(row["method"], int(row[axis])): row for row in plotted(tmp_path, name)}
    assert len(found) == len(SUITES[name])
    for record in SUITES[name]:
        row = found[record.method, getattr(record, axis)]
        assert row["status"] == record.status
        assert row["activation_bytes"] == ("" if record.activation_bytes is None else str(record.activation_bytes))


def test_one_stalled_round_does_not_flatten_the_throughput_figure() -> None:
    """The axis shows every median and both reference lines; the CSV still has the whole range."""
    records = synthetic.depth_suite((6, 12, 24))
    stalled = next(at for at, record in enumerate(records) if record.method == "standard" and record.depth == 24)
    seconds = list(records[stalled].step_seconds or [])
    seconds[2] *= 10
    records[stalled] = msgspec.structs.replace(records[stalled], step_seconds=seconds)
    numbers = numbers_of("throughput", records)
    low, high = figures.throughput(frame(records), new_axes()).get_ylim()
    assert numbers["rate_ratio_high"].max() > 5
    assert high < 2
    assert low < numbers["rate_ratio"].min() <= numbers["rate_ratio"].max() < high


def test_throughput_numbers_are_medians_of_paired_rounds(tmp_path: Path) -> None:
    """The CSV beside the throughput figure has each method's paired ratios to standard."""
    found = {(row["method"], int(row["depth"])): row for row in plotted(tmp_path, "throughput")}
    for depth in (6, 12, 24):
        standard = synthetic.step_seconds(synthetic.case("standard", depth=depth))
        for method in synthetic.METHODS[1:]:
            ours = synthetic.step_seconds(synthetic.case(method, depth=depth))
            ratios = sorted(their / our for our, their in zip(ours, standard, strict=True))
            row = found[method, depth]
            assert [float(row[f"rate_ratio{end}"]) for end in ("_low", "", "_high")] == [
                ratios[0],
                ratios[3],
                ratios[6],
            ]
            assert row["rounds"] == "7"
    assert {found[method, 48]["status"] for method in ("checkpoint", "bdia-stored", "bdia-naive")} == {
        "timeout",
        "oom",
        "error",
    }
    assert found["bdia", 48]["rate_ratio"] == ""


def test_memory_speed_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    """The CSV beside memory against speed has a point for each case with both numbers."""
    found = plotted(tmp_path, "memory-speed")
    assert len(found) == 15
    for row in found:
        of = synthetic.case(row["method"], depth=int(row["depth"]))
        assert int(row["activation_bytes"]) == synthetic.activation_bytes(of)


def test_error_bits_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    """The CSV beside error against l has exact zeros, then the cliff, and the method without l."""
    found = {row["bits"]: row for row in plotted(tmp_path, "error-bits") if row["method"] == "bdia"}
    for bits in range(3, 21):
        row = found[str(bits)]
        expected = 0.0 if bits <= 15 else 3 * 2.0 ** (12 - bits)
        assert float(row["worst_max_abs_error"]) == expected
        assert row["status"] == ("ok" if bits <= 15 else "unsupported")


def test_fig1_draws_an_exact_zero_as_such() -> None:
    """Zeros lie in a labelled strip below the lowest decade, and no error above 0 does."""
    ax = figures.fig1(frame(QUICK))
    assert "0 (exact)" in texts(ax)
    strip = next(patch for patch in ax.patches if patch.get_facecolor()[:3] == (0.94, 0.94, 0.94))
    low, high = strip.get_extents().transformed(ax.transData.inverted()).intervaly
    data = [
        line for line in ax.lines if line.get_transform() == ax.transData and len(np.atleast_1d(line.get_xdata())) == 12
    ]
    assert len(data) == 2
    for line in data:
        assert all(low < y < high for y in np.atleast_1d(line.get_ydata()))
    above = [line for line in ax.lines if len(np.atleast_1d(line.get_xdata())) == 11]
    assert above
    assert all(y > high for line in above for y in np.atleast_1d(line.get_ydata()))


def test_fig1_has_a_reference_slope_of_two() -> None:
    """The dashed line halves from block to block."""
    ax = figures.fig1(frame(QUICK))
    (line,) = [line for line in ax.lines if line.get_linestyle() == "--" and line.get_color() == "0.35"]
    heights = np.atleast_1d(line.get_ydata())
    assert np.allclose(heights[:-1] / heights[1:], 2.0)
    assert "2× per block" in texts(ax)


def test_fig1_tells_gammas_apart() -> None:
    """A few γ of a method are lines of their own, each named at its end; of many the one of the paper is drawn."""
    gammas = ("0.5", "0.25", "0.125", "uniform:0.5")
    records = [synthetic.reconstruction_only(synthetic.case("bdia-naive", gamma=gamma)) for gamma in gammas]
    ax = figures.fig1(frame(records[:3]))
    for gamma in gammas[:3]:
        assert f"eq. 16, γ={gamma}" in texts(ax)
    assert {row["gamma"] for row in rows(numbers_of("fig1", records))} == {"0.5"}
    assert figures.setting("fig1", frame(records)) == "γ 0.5"


def test_lines_of_several_gammas_are_of_one() -> None:
    """Memory and rates are drawn for the paper's γ where it was measured, and above the axes it says so."""
    records = synthetic.depth_suite((6, 12)) + [
        synthetic.full(synthetic.case("bdia", depth=depth, gamma="0.25")) for depth in (6, 12)
    ]
    for name in ("memory-depth", "throughput", "memory-speed"):
        assert figures.setting(name, frame(records)) == "γ 0.5"
        assert {row["gamma"] for row in rows(numbers_of(name, records))} == {None, "0.5"}


def test_fig1_shows_what_is_not_finite() -> None:
    """An error that overflowed is marked and counted, not left out or drawn as a number."""
    errors = [None, 0.5, 0.25, 0.125]
    entries = [
        BlockError(block=block, max_abs_error=error, rms_error=error, relative_error=error, mismatched=1)
        for block, error in enumerate(errors)
    ]
    table = frame([synthetic.record(synthetic.case("bdia-naive", depth=4), reconstruction=entries)])
    first = rows(figures.plots(table)["fig1"].numbers)[0]
    assert (first["median_max_abs_error"], first["not_finite"]) == (None, 1)
    assert "not finite" in texts(figures.fig1(table))


@pytest.mark.parametrize("name", SUITES)
def test_a_figure_is_drawn_into_the_axes_it_is_given(name: str) -> None:
    """With `ax` nothing else is touched: the same axes come back, no other is made, settings stay as they were."""
    before = dict(matplotlib.rcParams)
    ax = new_axes()
    assert draw(name, frame(SUITES[name]), ax) is ax
    figure = ax.get_figure(root=True)
    assert figure is not None
    assert figure.axes == [ax]
    assert ax.lines or ax.patches
    assert ax.get_xlabel()
    assert ax.get_ylabel() or name in ("memory-parts", "frontier")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "draw", [figures.fig1, figures.memory_depth, figures.throughput, figures.memory_speed, figures.error_bits]
)
def test_without_axes_a_figure_is_made(draw: Callable[..., Axes]) -> None:
    """Without `ax` a new figure at column width is made, and matplotlib's settings stay as they were."""
    before = dict(matplotlib.rcParams)
    ax = draw(frame(QUICK + synthetic.bits_suite()))
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    assert tuple(figure.get_size_inches()) == style.COLUMN
    assert dict(matplotlib.rcParams) == before


def test_failed_cases_are_named_in_the_figures() -> None:
    """A case that ended in oom, timeout or error is told where its point would be."""
    table = frame(synthetic.failing_suite())
    memory = texts(figures.memory_depth(table))
    for end in ("standard: oom", "checkpoint: timeout", "bdia-naive: error", "bdia-stored: oom"):
        assert end in memory
    assert {"oom", "timeout", "error"} <= set(texts(figures.throughput(table)).split())


@pytest.mark.parametrize(
    ("measured", "failing"),
    [((2, 4, 8), (200_000,)), ((2, 4), (8,)), ((2, 4), (16, 32, 64, 128, 256, 512, 1000)), ((8, 16), (2,))],
)
@pytest.mark.parametrize("name", ["memory-depth", "memory-batch"])
def test_a_failed_case_has_its_place_however_far(
    name: str, measured: tuple[int, ...], failing: tuple[int, ...], tmp_path: Path
) -> None:
    """The axis reaches every failed case with a tick, and no two labels touch, and its mark lies within the figure."""
    axis = name.partition("-")[2]
    table = frame(synthetic.failing_beyond(measured, failing, axis))
    assert len(figures.save(name, table, tmp_path)) == 3
    figure = Figure(figsize=style.COLUMN, layout="constrained")
    with matplotlib.rc_context(dict(style.HOUSE)):
        ax = draw(name, table, figure.add_subplot())
        figure.draw_without_rendering()
    low, high = ax.get_xlim()
    assert all(low < value < high for value in (*measured, *failing))
    assert set(failing) <= set(ax.get_xticks())
    ticks = [label for label in ax.get_xticklabels() if label.get_text()]
    assert ticks[-1].get_text() == units.integer(max(measured + failing))
    extents = [label.get_window_extent() for label in ticks]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(extents))
    marks = [text for text in ax.texts if ": " in text.get_text()]
    assert len(marks) == 3
    frame_of_axes = ax.get_window_extent()
    for mark in marks:
        extent = mark.get_window_extent()
        assert frame_of_axes.x0 - 1 <= extent.x0 < extent.x1 <= figure.bbox.x1
        assert frame_of_axes.y0 < extent.y0 < extent.y1 < frame_of_axes.y1 + 2
    assert ("standard: oom →" in texts(ax)) == (len(failing) > 1)


def test_a_figure_of_one_setting_among_several_says_which(tmp_path: Path) -> None:
    """What was left out is told by naming what was drawn, above the axes, and nothing is where nothing was."""
    others = [msgspec.structs.replace(one, model="other", dtype="bf16") for one in synthetic.depth_suite((6, 12))]
    seeds = [synthetic.full(synthetic.case(method, seed=1)) for method in synthetic.METHODS]
    table = frame(QUICK + others + seeds)
    drawn = {
        "memory-depth": "model gpt, dtype fp32",
        "throughput": "model gpt, dtype fp32",
        "memory-speed": "model gpt, dtype fp32, seed 0",
        "fig1": "model gpt, depth 12, dtype fp32",
    }
    for name, said in drawn.items():
        assert figures.setting(name, table) == said
        ax = draw(name, table)
        legend = ax.get_legend()
        assert said in (ax.get_title(loc="left"), legend.get_title().get_text() if legend else "")
        assert figures.setting(name, frame(QUICK)) == ("depth 12" if name == "fig1" else "")
        assert f"Drawn: {said}." in captions.caption(table, None, name, said)
        assert len(figures.save(name, table, tmp_path)) == 3


def test_an_axis_of_zeros_alone_is_mostly_their_strip() -> None:
    """Where every error is exactly 0, hardly any of the axis is left to the decades above."""
    ax = figures.fig1(frame([synthetic.full(synthetic.case("bdia"))]))
    low, high = (math.log10(limit) for limit in ax.get_ylim())
    (strip,) = [patch for patch in ax.patches if patch.get_facecolor()[:3] == (0.94, 0.94, 0.94)]
    top = strip.get_extents().transformed(ax.transData.inverted()).intervaly[1]
    assert (math.log10(top) - low) / (high - low) > 0.6


def test_memory_against_depth_tells_the_fitted_bits() -> None:
    """The labels carry the bits per activation."""
    shown = texts(figures.memory_depth(frame(synthetic.depth_suite())))
    for label in ("standard  512", "checkpoint  32.0", "bdia  1.00", "bits/activation"):
        assert label in shown


def test_the_cliff_is_marked() -> None:
    """Error against l says up to where it was exact, and draws points beyond with open marks."""
    ax = figures.error_bits(frame(synthetic.bits_suite()))
    assert "exact up to l = 15" in texts(ax)
    (beyond,) = [
        line for line in ax.lines if line.get_markerfacecolor() == "white" and len(np.atleast_1d(line.get_xdata()))
    ]
    assert list(np.atleast_1d(beyond.get_xdata())) == [16, 17, 18, 19, 20]


def test_a_figure_compares_only_like_with_like() -> None:
    """Of cases in two settings, the one with more points along the axis is drawn, alone."""
    others = [synthetic.full(synthetic.case("bdia", depth=depth, width=512, heads=16)) for depth in (6, 12)]
    found = rows(numbers_of("memory-depth", synthetic.depth_suite() + others))
    assert {(row["method"], row["depth"]) for row in found} == {(m, d) for m in synthetic.METHODS for d in (6, 12, 24)}
    assert len(found) == 15


def test_each_method_has_one_look() -> None:
    """Colour and marker stay with a method whatever else is drawn; unknown ones get free looks by name."""
    few, many = style.looks(["bdia", "mine"]), style.looks([*synthetic.METHODS, "mine", "another"])
    assert few["bdia"] == many["bdia"]
    assert many["another"] == few["mine"]
    assert len({look.color for look in many.values()}) == len({look.marker for look in many.values()}) == 7
    assert style.looks(["mine", "another"]) == style.looks(["another", "mine"])


def test_labels_have_contrast_on_white() -> None:
    """Text in a method's colour has a contrast of at least 3.5 on white paper."""
    for look in style.looks([*synthetic.METHODS, "a", "b", "c"]).values():
        channels = [int(look.ink[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
        assert 1.05 / (luminance + 0.05) >= 3.5


@pytest.mark.parametrize("name", SUITES)
def test_a_drawing_has_the_same_bytes_twice(name: str, tmp_path: Path) -> None:
    """The same frame makes the same SVG and CSV, without a date."""
    for run in ("a", "b"):
        figures.save(name, frame(SUITES[name][:: 1 if run == "a" else -1]), tmp_path / run, ["svg"])
    for kind in ("svg", "csv"):
        first, second = ((tmp_path / run / f"{name}.{kind}").read_bytes() for run in ("a", "b"))
        assert first == second
    assert b"<dc:date>" not in (tmp_path / "a" / f"{name}.svg").read_bytes()


def test_save_writes_each_format_and_the_numbers(tmp_path: Path) -> None:
    """PNG and SVG by default, and the CSV, in a folder that is made."""
    paths = figures.save("memory-depth", frame(QUICK), tmp_path / "new" / "figures")
    assert [path.name for path in paths] == ["memory-depth.png", "memory-depth.svg", "memory-depth.csv"]
    assert all(path.stat().st_size > 0 for path in paths)
    assert paths[0].read_bytes().startswith(b"\x89PNG")


def test_pdf_embeds_its_fonts(tmp_path: Path) -> None:
    """PDFs have their TrueType fonts inside, and no Type 3; two runs make the same bytes."""
    first, second = (figures.save("fig1", frame(QUICK), tmp_path / run, ["pdf"])[0].read_bytes() for run in "ab")
    assert b"/FontFile2" in first
    assert b"/Type3" not in first
    assert re.search(rb"/Subtype\s*/(CIDFontType2|TrueType)", first)
    assert first == second


def test_size_and_style_are_the_users(tmp_path: Path) -> None:
    """The size is that of the page in points, and a style sheet lies over the house style."""
    sheet = tmp_path / "mine.mplstyle"
    sheet.write_text("axes.facecolor: ff00ff\n")
    path = figures.save(
        "throughput", frame(QUICK), tmp_path, ["svg"], size=figures.parse_size("5x3"), style_file=sheet
    )[0]  # fmt: skip
    text = path.read_text()
    assert 'width="360pt" height="216pt"' in text
    assert "#ff00ff" in text


@pytest.mark.parametrize("text", ["3.25", "3.25x", "axb", "0x2", "-3x2", "1000x2", "3.25x2.2cm", "nanx2"])
def test_a_wrong_size_is_explained(text: str) -> None:
    """The error names the size and gives an example."""
    with pytest.raises(UsageError, match=rf"{re.escape(repr(text))}.*3\.25x2\.2"):
        figures.parse_size(text)


def test_sizes_are_read() -> None:
    """Inches, width by height."""
    assert figures.parse_size("3.25x2.2") == (3.25, 2.2)
    assert figures.parse_size(" 7 × 4 ") == (7.0, 4.0)


def test_bad_requests_are_one_line(tmp_path: Path) -> None:
    """What cannot be drawn is refused with the value and a way out."""
    table = frame(QUICK)
    bad_sheet = tmp_path / "bad.mplstyle"
    bad_sheet.write_text("axes.facecolour: red\n")
    (tmp_path / "taken").write_text("a file")
    requests: list[tuple[str, Callable[[], object]]] = [
        ("figure 'fig2'.*fig1", lambda: figures.save("fig2", table, tmp_path)),
        ("'gif'.*png, svg, pdf", lambda: figures.save("fig1", table, tmp_path, ["gif"])),
        ("'error-bits' needs.*choose one of fig1", lambda: figures.save("error-bits", table, tmp_path)),
        ("no such file", lambda: figures.save("fig1", table, tmp_path, style_file=tmp_path / "none.mplstyle")),
        ("axes.facecolour", lambda: figures.save("fig1", table, tmp_path, style_file=bad_sheet)),
        ("taken.*can be written", lambda: figures.save("fig1", table, tmp_path / "taken", ["svg"])),
        ("'1x1'.*larger", lambda: figures.save("fig1", table, tmp_path, ["svg"], size=(1, 1))),
        ("nothing to draw", lambda: figures.error_bits(table)),
    ]  # fmt: skip
    for pattern, request in requests:
        with pytest.raises(UsageError, match=pattern) as caught:
            request()
        assert "\n" not in str(caught.value)


def test_only_what_the_numbers_support_is_available() -> None:
    """A run offers the figures that it can fill."""
    assert figures.available(frame([])) == ()
    assert figures.available(frame([synthetic.record(synthetic.case("standard"))])) == ()
    assert figures.available(frame([synthetic.full(synthetic.case("standard"))])) == ("memory-parts",)
    assert figures.available(frame([synthetic.full(synthetic.case("bdia"))])) == ("fig1", "memory-parts")
    assert figures.available(frame(QUICK)) == (
        "fig1", "memory-depth", "memory-parts", "throughput", "memory-speed", "pareto",
    )  # fmt: skip
    assert "error-bits" in figures.available(frame(synthetic.bits_suite()))
    failed = [record for record in synthetic.failing_suite() if record.status != "ok"]
    assert figures.available(frame(failed)) == ()
