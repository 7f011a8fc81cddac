"""The figures of a training run: the numbers they plot, the lines they draw, the files they write."""

from __future__ import annotations

import csv
import hashlib
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib
import msgspec
import pytest
import synthetic_training as training
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from synthetic_training import Run

from bench.curves import Point
from bench.errors import UsageError
from bench.record import Record
from reports import captions, figures
from reports.figures import panels, style
from reports.frame import frame, rows

RUNS: dict[str, Callable[[], Run]] = {
    "curves": training.table1,
    "accuracy-memory": training.table1,
    "fig1-trained": training.fig1_trained,
    "drift": training.drift,
    "drift-blocks": training.drift,
    "bits": training.bits,
    "gamma": training.gamma,
    "gamma-inference": training.gamma_inference,
}
"""A run for each figure."""
DRAWN: dict[str, Callable[..., Axes]] = {
    "curves": figures.curves,
    "accuracy-memory": figures.accuracy_memory,
    "fig1-trained": figures.fig1_trained,
    "drift": figures.drift,
    "drift-blocks": figures.drift_blocks,
    "bits": figures.bits,
    "gamma": figures.gamma,
    "gamma-inference": figures.gamma_inference,
}
PANELS = {"curves": 3, "drift": 2, "bits": 3}
"""Those that are of several panels."""


def plotted(directory: Path, name: str, run: Run) -> list[dict[str, str]]:
    figures.save(name, run.frame(), directory, ["svg"])
    return list(csv.DictReader((directory / f"{name}.csv").read_text(encoding="utf-8").splitlines()))


def panels_of(ax: Axes) -> list[Axes]:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return [one for one in figure.axes if one.axison]


def texts(ax: Axes) -> str:
    figure = ax.get_figure(root=True)
    assert figure is not None
    found = [text.get_text() for one in figure.axes for text in one.texts]
    for one in figure.axes:
        legend = one.get_legend()
        found += [text.get_text() for text in legend.get_texts()] if legend else []
        found += [label.get_text() for axis in (one.xaxis, one.yaxis) for label in axis.get_ticklabels()]
    return " ".join(found)


def test_each_figure_has_its_run_and_its_function() -> None:
    """Every figure of training runs is tested here, and is a function of the package."""
    assert RUNS.keys() == DRAWN.keys()
    assert RUNS.keys() <= figures.FIGURES.keys()
    for name, draw in DRAWN.items():
        assert draw.__name__ == name.replace("-", "_")
        assert draw.__name__ in figures.__all__


def test_a_run_has_the_figures_that_it_has_numbers_for() -> None:
    """What nobody watched is not drawn, and a run of cases has no curves."""
    assert figures.available(training.fig3().frame()) == ("curves", "accuracy-memory")
    assert "drift" not in figures.available(training.drift().without("gradient_error").frame())
    assert set(figures.available(training.bits().frame())) >= {"curves", "bits", "fig1-trained"}


@pytest.mark.parametrize("name", RUNS)
def test_a_figure_is_drawn_in_the_place_of_the_axes_it_is_given(name: str) -> None:
    """The same axes come back, at most its panels are beside them, and settings stay as they were."""
    before = dict(matplotlib.rcParams)
    ax = Figure(figsize=(6, 4), layout="constrained").add_subplot()
    assert DRAWN[name](RUNS[name]().frame(), ax) is ax
    assert len(panels_of(ax)) == PANELS.get(name, 1)
    assert all(one.lines or one.collections for one in panels_of(ax))
    assert panels_of(ax)[-1].get_xlabel()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", RUNS)
def test_a_figure_is_written_the_same_from_any_order(name: str, tmp_path: Path) -> None:
    """The same run gives the same bytes, PNG, SVG and PDF alike, and the figure fits its size."""
    run = RUNS[name]()
    contents = []
    for folder in ("a", "b"):
        paths = figures.save(name, run.frame(), tmp_path / folder, ["png", "svg", "pdf"])
        contents.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
        assert {path.suffix for path in paths} == {".png", ".svg", ".pdf", ".csv"}
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_one_seed_is_drawn_without_a_band(name: str, tmp_path: Path) -> None:
    """Of a single seed there is no deviation: the column is empty, and the figure is drawn all the same."""
    found = plotted(tmp_path, name, RUNS[name]().only(lambda record: record.seed == 0))
    assert found
    for row in found:
        assert row.get("deviation", "") == ""
        assert row["seeds"] in ("0", "1")


@pytest.mark.parametrize("name", RUNS)
def test_without_its_numbers_a_figure_is_refused(name: str) -> None:
    """A run of which nothing was recorded that the figure needs is an error that says what it needs."""
    with pytest.raises(UsageError, match="the figure needs"):
        DRAWN[name](frame([]))


def test_curves_are_means_over_seeds(tmp_path: Path) -> None:
    """A curve that was logged a few times is plotted as it is: mean and sample deviation at each step."""
    run = training.table1()
    found = [
        row for row in plotted(tmp_path, "curves", run) if (row["curve"], row["arm"]) == ("validation_loss", "bdia")
    ]
    assert [int(row["step"]) for row in found] == list(training.looks())
    for row in found:
        values = [
            point.value for point in run.points
            if (point.arm, point.name, point.step) == ("bdia", "validation_loss", int(row["step"]))
        ]  # fmt: skip
        known = [value for value in values if value is not None]
        assert float(row["mean"]) == pytest.approx(statistics.fmean(known))
        assert float(row["deviation"]) == pytest.approx(statistics.stdev(known))
        assert row["seeds"] == "3"


def test_a_curve_logged_at_every_step_is_averaged_over_intervals(tmp_path: Path) -> None:
    """Of a hundred logged steps, fewer than so many are plotted, and the mean of all stays what it was."""
    run = training.table1()
    found = [
        row for row in plotted(tmp_path, "curves", run) if (row["curve"], row["arm"]) == ("train_loss", "standard")
    ]
    logged = [point.value for point in run.points if (point.arm, point.name) == ("standard", "train_loss")]
    assert 30 < len(found) <= 60 < len(logged) / 3
    assert int(found[-1]["step"]) == training.STEPS
    assert min(value for value in logged if value is not None) < float(found[-1]["mean"])


def test_a_seed_that_stopped_is_drawn_as_far_as_it_came(tmp_path: Path) -> None:
    """Where one of two seeds failed, the curve goes on with the other, and says of how many it is."""
    found = plotted(tmp_path, "curves", training.table1())
    of = {int(row["step"]): row for row in found if (row["curve"], row["arm"]) == ("validation_loss", "momentum")}
    assert (of[500]["seeds"], of[600]["seeds"]) == ("2", "1")
    assert of[600]["deviation"] == ""


def test_every_arm_has_a_look_of_its_own() -> None:
    """The first arm of a method looks as it does in every figure; the others of it differ, and so do all of a sweep."""
    looks = style.arm_looks([("standard", "standard"), ("dropout", "standard"), ("bdia", "bdia")])
    assert looks["standard"] == style.looks(["standard"])["standard"]
    assert looks["bdia"] == style.looks(["bdia"])["bdia"]
    assert len({(look.color, look.marker) for look in looks.values()}) == 3
    sweep = style.arm_looks([(f"l={bits}", "bdia") for bits in range(3, 15)])
    assert len({look.color for look in sweep.values()}) == 12


def test_fig1_trained_has_median_and_range_over_seeds(tmp_path: Path) -> None:
    """Each look and block has the recorded errors of all seeds; what is exact is 0 and in the strip of zeros."""
    found = plotted(tmp_path, "fig1-trained", training.fig1_trained())
    assert {row["arm"] for row in found} == {"bdia-naive (eq. 16)", "bdia (eq. 24)"}
    for row in found:
        if row["method"] == "bdia":
            assert float(row["median"]) == float(row["highest"]) == 0
            continue
        errors = [training.naive_error(seed, int(row["step"]), int(row["block"])) for seed in training.SEEDS]
        assert float(row["median"]) == statistics.median(errors)
        assert (float(row["lowest"]), float(row["highest"])) == (min(errors), max(errors))
    said = texts(figures.fig1_trained(training.fig1_trained().frame()))
    for text in ("eq. 16", "eq. 24", "0 (exact)", "1000"):
        assert text in said


def test_an_error_that_is_not_finite_is_counted_and_marked(tmp_path: Path) -> None:
    """It is no number of a median, and the figure says where it was."""
    run = training.fig1_trained()
    lost = Run(
        run.records,
        [
            msgspec.structs.replace(one, value=None)
            if (one.arm, one.name, one.block, one.step) == ("bdia-naive", "reconstruction_error", 0, 1000) else one
            for one in run.points
        ],
    )  # fmt: skip
    found = plotted(tmp_path, "fig1-trained", lost)
    row = next(row for row in found if row["not_finite"] != "0")
    assert (row["step"], row["block"], row["not_finite"], row["median"]) == ("1000", "0", "3", "")
    assert "not finite" in texts(figures.fig1_trained(lost.frame()))


def test_the_inverse_of_another_method_has_a_line_of_its_own(tmp_path: Path) -> None:
    """An arm of BDIA's alone shows eq. 24, which it was trained by, and eq. 16 at the same weights."""
    run = training.experiment("fig1-trained", (training.EXACT,), start=5.0)
    names = ("reconstruction_error", "reconstruction_error_naive")
    run = training.watched(
        run, "bdia",
        lambda seed, step: [
            {"name": name, "block": block, "value": 0.0 if name == names[0] else 1e-6 * 2.0**-block}
            for name in names for block in range(6)
        ],
    )  # fmt: skip
    found = plotted(tmp_path, "fig1-trained", run)
    assert {(row["arm"], row["method"]) for row in found} == {
        ("bdia (eq. 24)", "bdia"), ("bdia (by eq. 16)", "bdia-naive"),
    }  # fmt: skip


def test_drift_has_the_loss_of_what_was_trained_so(tmp_path: Path) -> None:
    """The gradient error of each inverse against the step, and beside it the loss of its arm."""
    run = training.drift()
    found = plotted(tmp_path, "drift", run)
    errors = [row for row in found if row["curve"] == "gradient_error"]
    losses = [row for row in found if row["curve"] == "validation_loss"]
    assert {row["arm"] for row in errors} == {row["arm"] for row in losses}
    of = {int(row["step"]): row for row in errors if row["method"] == "bdia-naive"}
    assert float(of[1000]["median"]) == statistics.median(
        2 * training.naive_error(seed, 1000, 0) for seed in training.SEEDS
    )
    assert all(row["mean"] == "" for row in errors)
    assert all(row["median"] == "" for row in losses)
    axes = panels_of(figures.drift(run.frame()))
    assert [one.get_ylabel() for one in axes] == ["gradient error", "validation loss"]


def test_bits_has_loss_error_and_headroom_by_l(tmp_path: Path) -> None:
    """An arm is a row with its l: the loss over seeds, the worst error, the least headroom; one that no seed finished
    has its status and no loss."""
    found = {row["arm"]: row for row in plotted(tmp_path, "bits", training.bits())}
    assert found["standard"]["bits"] == ""
    assert [int(row["bits"]) for row in found.values() if row["bits"]] == list(range(3, 15))
    largest = min(
        24 - math.ceil(math.log2(1.5 * (2 + 500 * step / training.STEPS * (1 + 0.1 * training.chance(seed, step)))))
        for seed in training.SEEDS for step in training.looks()
    )  # fmt: skip
    assert found["l=9"]["headroom_bits"] == str(largest - 9)
    assert float(found["l=9"]["reconstruction_error"]) == 0
    assert (found["l=14"]["status"], found["l=14"]["mean"], found["l=14"]["seeds"]) == ("unsupported", "", "0")
    assert "unsupported" in texts(figures.bits(training.bits().frame()))


def test_bits_leaves_out_the_panels_that_nobody_watched() -> None:
    """Without watches there is the loss alone."""
    run = training.bits().without("reconstruction_error", "largest_bits", "max_abs")
    axes = panels_of(figures.bits(run.frame()))
    assert [one.get_ylabel() for one in axes] == ["validation loss"]


def test_gamma_has_a_point_an_arm(tmp_path: Path) -> None:
    """|γ| of each arm with its accuracy in the end, over seeds."""
    run = training.gamma()
    found = plotted(tmp_path, "gamma", run)
    assert [(row["method"], row["gamma"]) for row in found] == [
        ("bdia-unquantised", "0.0"), ("bdia-unquantised", "0.25"), ("bdia-unquantised", "0.5"),
        ("bdia-unquantised", "0.6"), ("bdia", "0.25"), ("bdia", "0.5"),
    ]  # fmt: skip
    values = [one.validation_accuracy for one in run.records if one.arm == "γ=0.6"]
    assert float(found[3]["mean"]) == pytest.approx(statistics.fmean(value for value in values if value is not None))


def test_gamma_at_inference_is_of_the_last_look(tmp_path: Path) -> None:
    """What was seen before the end of training is no part of it, and accuracy goes before loss."""
    run = training.gamma_inference()
    found = plotted(tmp_path, "gamma-inference", run)
    assert {row["of"] for row in found} == {"validation_accuracy"}
    assert len(found) == 2 * 11
    early = [
        msgspec.structs.replace(one, value=0.1) if one.step == 0 and one.gamma is not None else one
        for one in run.points
    ]  # fmt: skip
    assert plotted(tmp_path, "gamma-inference", Run(run.records, early)) == found
    losses = plotted(tmp_path, "gamma-inference", run.without("accuracy_at_gamma"))
    assert {row["of"] for row in losses} == {"validation_loss"}


def test_arms_with_the_same_memory_are_drawn_side_by_side() -> None:
    """Two arms at one peak have two places along the axis, and the table has the peak that was measured."""
    table = training.table1().frame()
    numbers = rows(figures.plots(table)["accuracy-memory"].numbers)
    sizes = {row["arm"]: row["peak_bytes"] for row in numbers}
    assert sizes["standard"] == sizes["dropout"] == 500 * training.MIB
    ax = figures.accuracy_memory(table)
    places = [float(line.get_xdata()[0]) for line in ax.lines if len(line.get_xdata()) == 1]
    assert len(set(places)) == len(sizes)


def test_panels_need_axes_of_a_grid() -> None:
    """Axes that are part of no grid have no place for panels, and an error says what to give."""
    figure = Figure()
    with pytest.raises(UsageError, match="add_subplot"):
        panels.beside(figure.add_axes((0, 0, 1, 1)), 2, {})


def test_of_several_tasks_one_is_drawn_and_named(tmp_path: Path) -> None:
    """Arms on other data are no match for one another: the figure is of the data with the most arms, and says so."""
    run = training.table1()
    others: list[Record] = []
    points: list[Point] = []
    for record in run.records:
        if record.arm == "bdia":
            others.append(msgspec.structs.replace(record, arm="bdia-100", data="cifar-100-binary"))
    for point in run.points:
        if point.arm == "bdia":
            points.append(msgspec.structs.replace(point, arm="bdia-100"))
    both = Run([*run.records, *others], [*run.points, *points])
    found = plotted(tmp_path, "curves", both)
    assert "bdia-100" not in {row["arm"] for row in found}
    one = Run([*run.records, *(msgspec.structs.replace(one, model="resnet") for one in others)], both.points)
    assert figures.setting("curves", one.frame()) == "model vit"


def test_captions_tell_what_training_figures_show() -> None:
    """Every figure has a caption with what its numbers mean."""
    table = training.table1().frame()
    said = captions.caption(table, None, "curves")
    assert "mean over seeds" in said
    assert "Validation accuracy is the share" in said
    assert "same weights and see the same batches" in said
