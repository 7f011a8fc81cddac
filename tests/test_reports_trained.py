"""Training runs in tables and sentences: over seeds, against the first arm, beside what others published."""

from __future__ import annotations

import itertools
import json
import random
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest
import synthetic_training as training
from synthetic_training import BDIA, STANDARD, Run

import cli
from bench.curves import CURVES, Point
from bench.record import Record
from bench.store import Run as StoredRun
from bench.store import Store
from reports import beside, contents, differences, export, literature, seeds, trained, units
from reports.arms import Arm, arms, reference
from reports.frame import frame, rows
from reports.html.page import page
from reports.sheets import Sheet
from reports.trained_verdict import subject_of
from reports.verdict import verdict

ROOT = Path(__file__).parent.parent
ABOUT: dict[str, Any] = {"predicted": False, **json.loads((ROOT / "docs/results/quick/run.json").read_text())}


def arms_of(run: Run) -> list[Arm]:
    return arms(rows(run.frame()))


def column(sheet: Sheet | None, heading: str, unit: str = "") -> dict[str, str]:
    """The texts of one column by those of the first."""
    assert sheet is not None
    at = next(i for i, one in enumerate(sheet.columns) if (one.heading, one.unit) == (heading, unit))
    return {line.cells[0].text: line.cells[at].text for line in sheet.lines}


def headings(sheet: Sheet | None) -> set[str]:
    assert sheet is not None
    return {f"{one.heading} {one.unit}".strip() for one in sheet.columns}


def values(run: Run, arm: str, field: str) -> list[float]:
    return [getattr(one, field) for one in run.records if one.arm == arm and getattr(one, field) is not None]


def test_a_row_has_mean_and_sample_deviation_over_seeds() -> None:
    """Accuracies are percentages, losses as they are, each with the deviation of a sample."""
    run = training.table1()
    sheet = trained.sheet(arms_of(run))
    found = values(run, "bdia", "best_validation_accuracy")
    mean, deviation = 100 * statistics.fmean(found), 100 * statistics.stdev(found)
    assert column(sheet, "best", "acc. %")["bdia"] == f"{mean:.2f} ± {deviation:.2f}"
    losses = values(run, "bdia", "train_loss")
    expected = f"{statistics.fmean(losses):.4f} ± {statistics.stdev(losses):.4f}"
    assert column(sheet, "training", "loss")["bdia"] == expected


def test_a_single_seed_has_no_deviation() -> None:
    """Where there is one seed, the deviation is a dash and never 0, in table, figure and sentence."""
    run = training.table1().only(lambda record: record.seed == 0)
    sheet = trained.sheet(arms_of(run))
    assert sheet is not None
    assert column(sheet, "final", "acc. %")["bdia"].endswith(" ± —")
    assert sheet.legend[0].endswith("of a single seed there is none")
    (arm,) = (arm for arm in arms_of(run) if arm.name == "bdia")
    assert (one := arm.over_seeds("validation_accuracy")) is not None
    assert one.deviation is None
    assert "with one seed" in verdict(run.frame())
    assert "±" not in verdict(run.frame())


def test_a_seed_that_failed_is_counted_and_not_averaged() -> None:
    """What did not end well has no part in a mean, its number and its reason are told."""
    sheet = trained.sheet(arms_of(training.table1()))
    assert sheet is not None
    assert column(sheet, "seeds")["momentum"] == "1 (1 error) ¹"
    assert column(sheet, "final", "acc. %")["momentum"].endswith("± —")
    assert sheet.notes == ("¹ momentum arm=momentum seed=1: error, loss is not finite at step 512",)


def test_an_arm_that_never_ended_well_is_a_row_of_dashes() -> None:
    """An arm without any seed to the end keeps its row, and nothing in it is 0."""
    run = training.joined(training.fig3(), training.failed(BDIA, 0, "fig3", "no such thing"))
    sheet = trained.sheet(arms_of(run))
    assert sheet is not None
    line = sheet.lines[-1]
    assert [cell.text for cell in line.cells if cell.value == 0] == ["0 (1 error) ¹"]


def test_what_diverged_is_no_result() -> None:
    """A seed whose loss ceased to be finite before the last step is told as diverged and left out of all means."""
    run = training.table1()
    lost = [
        msgspec.structs.replace(
            one, trained_steps=300, validation_loss=None, train_loss=None, validation_accuracy=0.1, message="not finite"
        )
        if (one.arm, one.seed) == ("bdia", 1) else one
        for one in run.records
    ]  # fmt: skip
    found = arms_of(Run(lost, run.points))
    assert column(trained.sheet(found), "seeds")["bdia"].startswith("2 (1 diverged)")
    (arm,) = (arm for arm in found if arm.name == "bdia")
    assert 1 not in arm.by_seed("validation_accuracy")
    assert "1 diverged" in verdict(frame(lost, run.points))


def test_memory_is_the_first_seeds_and_a_ratio_to_the_first_arm() -> None:
    """Memory was measured once an arm; the ratio is to the plain transformer's."""
    sheet = trained.sheet(arms_of(training.table1()))
    assert column(sheet, "peak", "MiB")["bdia"] == "384.0"
    assert column(sheet, "vs", "first") == {
        "standard": "1.00×", "dropout": "1.00×", "two-stream": "0.74×", "bdia": "0.77×", "momentum": "0.76×",
    }  # fmt: skip


def test_columns_without_a_number_are_left_out() -> None:
    """Of arms that predict text there is no accuracy, and so no column of it; of those that classify no best loss."""
    assert not {one for one in headings(trained.sheet(arms_of(training.fig3()))) if "acc." in one}
    assert "best val. loss" in headings(trained.sheet(arms_of(training.fig3())))
    assert "best val. loss" not in headings(trained.sheet(arms_of(training.table1())))


def test_what_differs_in_the_recipe_is_a_column_and_the_rest_a_line() -> None:
    """Dropout that one arm has is a column; the learning rate, which all share, is told below."""
    sheet = trained.sheet(arms_of(training.table1()))
    assert sheet is not None
    assert column(sheet, "dropout") == {
        "standard": "—", "dropout": "0.3", "two-stream": "—", "bdia": "—", "momentum": "—",
    }  # fmt: skip
    assert "optimizer set-adam · lr 0.0001" in sheet.legend[-1]


def test_arms_are_in_the_order_of_the_experiment() -> None:
    """Tables have arms as they were first recorded, whatever their methods are."""
    names = ("standard", "dropout", "two-stream", "bdia", "momentum")
    assert tuple(arm.name for arm in arms_of(training.table1())) == names
    backwards = Run(training.table1().records[::-1], [])
    assert tuple(arm.name for arm in arms_of(backwards)) == names[::-1]
    assert [row["seed"] for row in arms_of(backwards)[0].rows] == [0, 1]


def test_curves_find_their_records() -> None:
    """Each record has the points of its arm and seed, and none where nobody logged any."""
    run = training.table1()
    found = rows(run.frame())
    for row in found:
        assert {(one.arm, one.seed) for one in row["curves"]} == {(row["arm"], row["seed"])}
    assert all(row["curves"] is None for row in rows(Run(run.records, []).frame()))
    (arm,) = (arm for arm in arms_of(run.without("step_seconds")) if arm.name == "bdia")
    assert trained.seconds_a_step(arm) is None


def test_welchs_test_is_scipys() -> None:
    """t, degrees of freedom, p and interval agree with scipy's own test on samples of unequal size and spread."""
    from scipy import stats

    chance = random.Random(0)
    for ours, theirs in itertools.product((2, 3, 5), (2, 4)):
        a = [chance.gauss(0, 1) for _ in range(ours)]
        b = [chance.gauss(0.5, 3) for _ in range(theirs)]
        found = seeds.welch(a, b)
        known = stats.ttest_ind(a, b, equal_var=False)
        interval = known.confidence_interval()
        assert found is not None
        assert (found.t, found.freedom, found.p) == pytest.approx((known.statistic, known.df, known.pvalue))
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    paired = seeds.difference({0: 1.0, 1: 2.0, 2: 4.0}, {0: 0.5, 1: 1.9, 2: 3.1}, same_weights=False)
    assert paired is not None
    assert paired.paired == pytest.approx(stats.ttest_rel([1.0, 2.0, 4.0], [0.5, 1.9, 3.1]).pvalue)


@pytest.mark.parametrize(
    ("ours", "theirs", "finding"),
    [
        ((1.0, 2.0, 3.0), (1.1, 2.2, 3.1), "within the spread"),
        ((1.0, 1.1, 1.2), (2.0, 2.1, 2.2), "differ"),
        ((1.0, 1.2), (1.3, 1.5), "not told apart"),
        ((1.0,), (1.3, 1.5), "one seed"),
        ((1.0, 1.5), (1.0, 1.5), "same"),
        ((1.0, 1.0), (1.5, 1.5), "differ"),
    ],
)
def test_a_finding_says_no_more_than_the_seeds_do(
    ours: tuple[float, ...], theirs: tuple[float, ...], finding: str
) -> None:
    """Two arms differ where the test says so; where it does not, the spread decides whether they are near."""
    one = seeds.difference(dict(enumerate(ours)), dict(enumerate(theirs)), same_weights=False)
    assert one is not None
    assert one.finding == finding


def test_equal_weights_need_no_test() -> None:
    """Arms whose final weights have the same digests for every seed are the same, in the table and in the sentence."""
    run = training.experiment("drift", (training.NAIVE, training.EXACT), start=5.0)
    twins = [msgspec.structs.replace(one, arm="bdia-stored", method="bdia-stored") for one in run.records[3:]]
    found = arms_of(Run([*run.records, *twins], run.points))
    sheet = differences.sheet([found[1], found[2]])
    assert column(sheet, "finding") == {"bdia-stored": "the same weights"}
    assert "bdia and bdia-stored ended with the same weights, bit for bit, for every seed." in verdict(
        frame([*run.records, *twins], run.points)
    )


def test_the_test_of_one_seed_is_none() -> None:
    """Where an arm has one seed, there is a difference and no test of it."""
    found = arms_of(training.table1())
    sheet = differences.sheet(found)
    assert sheet is not None
    line = next(line for line in sheet.lines if line.cells[0].text == "momentum")
    assert [cell.text for cell in line.cells[4:]] == ["—", "—", "—", "—", "one seed: no test"]


def test_arms_on_other_data_are_compared_among_themselves() -> None:
    """An arm is compared with the first of its own data, in ratio, difference and sentence, and drawn with those."""
    run = training.table1()
    others = [
        msgspec.structs.replace(one, arm=f"{one.arm}-100", data="cifar-100-binary", peak_bytes=2**20)
        for one in run.records if one.arm in ("standard", "bdia") and one.seed == 0
    ]  # fmt: skip
    found = arms_of(Run([*run.records, *others], run.points))
    names = {arm.name: first.name for arm in found if (first := reference(found, arm)) is not None}
    assert names["bdia"] == "standard"
    assert names["bdia-100"] == names["standard-100"] == "standard-100"
    assert column(trained.sheet(found), "vs", "first")["bdia-100"] == "1.00×"
    assert column(differences.sheet(found), "against")["bdia-100"] == "standard-100"
    sheet = beside.sheet(found)
    assert sheet is not None
    assert [line.cells[2].text for line in sheet.lines if line.cells[1].text.startswith("measured")][:2] == [
        "digits", "cifar-100-binary",
    ]  # fmt: skip


def test_published_and_measured_numbers_stand_in_rows_of_their_own() -> None:
    """Each row says which it is; published ones are the paper's, measured ones the run's, with what they are of."""
    run = training.table1()
    sheet = beside.sheet(arms_of(run))
    assert sheet is not None
    kinds = [line.cells[1].text.split()[0] for line in sheet.lines]
    assert kinds == ["published", "published", "measured"] * 2 + ["published", "measured"]
    assert [cell.text for cell in sheet.lines[0].cells[2:]] == ["CIFAR-10", "88.15 %", "86.22 %", "89.10 %", "+0.95"]
    assert [cell.text for cell in sheet.lines[3].cells[3:]] == ["1,570.6 MB", "572.7 MB", "693.4 MB", "0.44×"]
    found = values(run, "bdia", "validation_accuracy")
    mean, deviation = 100 * statistics.fmean(found), 100 * statistics.stdev(found)
    assert sheet.lines[2].cells[5].text == f"{mean:.2f} ± {deviation:.2f} %"
    assert any(note.startswith("² measured here: vit, depth 6") for note in sheet.notes)
    assert beside.sheet(arms_of(training.fig3())) is None


def test_a_sweep_over_gamma_stands_beside_the_published_one() -> None:
    """γ = 0 and ±½ without quantisation are those arms, whatever they are called."""
    sheet = beside.sheet(arms_of(training.gamma()))
    assert sheet is not None
    assert [one.heading for one in sheet.columns[3:5]] == ["γ = 0", "γ = ±0.5"]
    measured = sheet.lines[1].cells
    assert measured[3].value == pytest.approx(statistics.fmean(values(training.gamma(), "γ=0", "validation_accuracy")))


def test_published_numbers_are_of_methods_of_the_table() -> None:
    """A published column has the name of a method here, so that a measured one can be found for it."""
    from bdia.methods import names

    for one in literature.TABLE_1:
        assert set(one.values) <= set(names())


def test_the_sentence_of_table1() -> None:
    """How good, against what, whether seeds explain it, at what cost; then what was not trained to the end."""
    said = verdict(training.table1().frame())
    assert said.startswith("After 1000 steps, over 3 seeds, bdia reaches 88.60 ± 0.20% validation accuracy where ")
    assert "standard reaches 87.74 ± 0.05%: +0.86 points, more than the spread over seeds explains (Welch's t, " in said
    assert "n = 3); it takes 0.77× standard's peak memory and 1.41× its time an epoch." in said
    assert said.endswith("1 of 14 seeds was not trained to the end (1 error).")


def test_the_sentence_is_honest_within_the_spread() -> None:
    """A difference that seeds can make is said to be one, whichever way it goes."""
    worse = training.Arm("bdia", "bdia", 0.42, 0.16, 0.8810, accuracy_noise=0.02)
    said = verdict(training.experiment("table1", (STANDARD, worse)).frame())
    assert "within the spread over seeds (Welch's t, p = " in said
    assert "explains" not in said


def test_quantisation_alone_has_a_sentence() -> None:
    """The difference of the quantised control is set against the spread over seeds and the test is named."""
    near = training.Arm("quantised", "standard-quantised", 1.7201, 1.60, noise=0.02, axes=(*training.TEXT, ("bits", 6)))
    plain = training.Arm("standard", "standard", 1.720, 1.60, noise=0.02, axes=training.TEXT)
    exact = training.Arm("bdia", "bdia", 1.70, 1.72, axes=(*training.TEXT, ("bits", 6)))
    said = verdict(training.experiment("fig3", (plain, near, exact), start=5.0).frame())
    assert "Quantised only, the validation loss differs from standard's by " in said
    assert "within the spread over seeds, 0.0" in said
    assert "(Welch's t, p = " in said


def test_the_sentence_does_not_pick_the_best_of_a_sweep() -> None:
    """Of several arms of one method it speaks of the paper's γ and l, not of the one that chance favours."""
    assert (one := subject_of(arms_of(training.bits()))) is not None
    assert one.name == "l=6"
    assert (one := subject_of(arms_of(training.gamma()))) is not None
    assert one.name == "bdia γ=0.5"
    said = verdict(training.gamma().frame())
    assert (
        "Of γ, ±0.5 ends best, with 88.83 ± 0.12% validation accuracy; from γ = 0 that is +0.95 points, more " in said
    )
    said = verdict(training.bits().frame())
    assert "Of l, 7 to 13 cannot be told from the best, 10; l = 3 is worst, by +0.4975." in said
    assert "3 of 39 seeds were not trained to the end (3 unsupported)." in said


def test_what_was_watched_has_sentences() -> None:
    """Reconstruction, gradients beside the loss that does not tell, γ at inference: from the first look to the last."""
    said = verdict(training.fig1_trained().frame())
    assert "The reconstruction error of bdia-naive (eq. 16) was 0.57 at worst at first and 14 at the end;" in said
    assert "bdia (eq. 24) rebuilt every block bit for bit at every look." in said
    said = verdict(training.drift().frame())
    assert (
        "The gradients of bdia-naive (eq. 16) were off by up to 1.1 at first and up to 27 at the end, while its loss "
        "fell " in said
    )
    assert "those of bdia (eq. 24) were exact at every look." in said
    assert (
        "At inference, γ = ±0.5 in place of 0 changes validation accuracy by −12.50 points for standard and −3.00 "
        "points for bdia, whichever sign is worse."
    ) in verdict(training.gamma_inference().frame())
    unseen = training.drift().without("gradient_error")
    assert "gradients" not in verdict(unseen.frame())


def test_the_inverse_of_another_method_is_told_apart() -> None:
    """What a watch saw of eq. 16 at the weights of an arm of BDIA's is said to be that, and no claim about the arm."""
    run = training.experiment("fig1-trained", (training.EXACT,), start=5.0)
    run = training.watched(
        run, "bdia",
        lambda seed, step: [
            {"name": name, "block": block, "value": value}
            for block in range(3)
            for name, value in (("reconstruction_error", 0.0), ("reconstruction_error_naive", 1e-3))
        ],
    )  # fmt: skip
    said = verdict(run.frame())
    assert "The reconstruction error of bdia (by eq. 16) was 1.0e-3 at worst at first" in said
    assert "bdia (eq. 24) rebuilt every block bit for bit at every look." in said


def test_a_run_without_a_result_says_so() -> None:
    """Where nothing was trained to the end, the sentence is about that alone."""
    said = verdict(training.failed(BDIA, 0, "table1", "out of memory", "oom").frame())
    assert said == "1 of 1 seed was not trained to the end (1 oom)."


def test_trained_records_stay_out_of_the_tables_of_cases() -> None:
    """A training run has its own tables, and none that lists its records as cases."""
    names = [sheet.name for sheet in contents.sheets(training.table1().frame())]
    assert names == ["training", "seed-to-seed test", "published beside measured"]


def test_where_the_bytes_are_is_told_once_for_a_sweep() -> None:
    """Arms of one method whose bytes are the same are one row by its name or, where there are others, by their own."""
    run = training.bits().only(lambda record: record.seed == 0 and record.status == "ok")
    held = {
        one.arm: {"head_and_loss": one.activation_bytes - 8 * one.batch, "block": {"0-3": 2 * one.batch}}
        for one in run.records if one.activation_bytes is not None
    }  # fmt: skip
    records = [msgspec.structs.replace(one, activation_parts=held[one.arm]) for one in run.records]
    sheet = contents.sheets(frame(records))[-1]
    assert sheet.name == "where the bytes are"
    assert [line.cells[1].text for line in sheet.lines] == ["standard", "bdia"]
    other = msgspec.structs.replace(records[3], activation_parts={"head_and_loss": records[3].activation_bytes or 0})
    sheet = contents.sheets(frame([*records[:3], other]))[-1]
    assert [line.cells[1].text for line in sheet.lines] == ["standard", "l=3, l=4", "l=5"]
    sheet = contents.sheets(frame([*records[:3], other, *records[4:]]))[-1]
    assert len(records) > 6
    assert [line.cells[1].text for line in sheet.lines] == ["standard", f"l=3, l=4 and {len(records) - 4} more", "l=5"]


def test_every_export_has_the_training_run() -> None:
    """Markdown and LaTeX have the tables, CSV a line a seed, and JSON each seed with its curves."""
    run = training.table1()
    table = run.frame()
    assert "88.60 ± 0.20" in export.markdown(table)
    assert r"88.60 $\pm$ 0.20" in export.latex(table)
    lines = export.csv(table).splitlines()
    assert len(lines) == 1 + len(run.records)
    assert {"arm", "validation_accuracy", "best_validation_loss", "epoch_seconds"} <= set(lines[0].split(","))
    first = next(one for one in json.loads(export.json(table)) if one["arm"] == "bdia")
    assert len(first["curves"]) == sum((one.arm, one.seed) == ("bdia", first["seed"]) for one in run.points)
    assert first["recipe"]["optimizer"] == "set-adam"


def test_the_page_has_the_training_run() -> None:
    """Cards, tables, figures and failures of a training run are on the page, with its arms by their names."""
    text = page(training.table1().frame(), ABOUT, "x")
    for said in ("Validation accuracy", "88.60 %", "+0.86 points", "Peak memory of a step", "published ¹"):
        assert said in text
    assert text.count('<figure class="drawing') == 2
    assert '<figure class="drawing wide">' in text
    assert '<code class="whole">--resume</code>' in text


def test_report_reads_the_curves_beside_the_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`report DIR` shows a training run as it was, figures included, from the two files that a run leaves."""
    run = training.fig3()
    started = StoredRun(
        suite="fig3", title="Fig. 3", started="2026-11-25T00:00:00Z", arguments=["train", "fig3"],
        environment=ABOUT["environment"],
    )  # fmt: skip
    with Store(tmp_path / "run", started) as store:
        for record in run.records:
            store.append(record)
    lines = [msgspec.json.encode(point) for point in run.points]
    (tmp_path / "run" / CURVES).write_bytes(b"\n".join(lines) + b'\n{"arm": "bd')
    assert cli.execute(["report", str(tmp_path / "run"), "--figures", str(tmp_path / "figures")]) == 0
    output = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    assert "training fig3" in output
    assert verdict(run.frame()) in output
    assert "seed-to-seed test · against standard" in output
    assert (tmp_path / "figures" / "curves.png").stat().st_size > 0
    first = next(one for one in run.points if one.name == "validation_loss")
    told = (tmp_path / "figures" / "curves.csv").read_text()
    assert f"validation_loss,standard,standard,{first.step},3," in told


@pytest.mark.parametrize(
    ("mean", "deviation", "decimals", "text"),
    [
        (97.2134, 0.341, 2, "97.21 ± 0.34"),
        (97.2134, None, 2, "97.21 ± —"),
        (1.7213, 0.00002, 4, "1.72130 ± 0.00002"),
        (1.7213, 0.0, 4, "1.7213 ± 0"),
        (None, None, 2, "—"),
    ],
)
def test_a_deviation_never_rounds_to_nothing(
    mean: float | None, deviation: float | None, decimals: int, text: str
) -> None:
    """A small deviation gets the decimals it needs, none is a dash, and only one that is 0 is told as 0."""
    assert units.plus_minus(mean, deviation, decimals) == text


def test_differences_and_probabilities_in_print() -> None:
    """A difference has its sign and never rounds to nothing; a p-value under a thousandth is said to be under it."""
    assert [units.signed(value, 2) for value in (0.951, -0.004, 0.0, None)] == ["+0.95", "−0.004", "0", "—"]
    assert [units.probability(value) for value in (0.62, 0.0312, 0.0004, None)] == ["0.62", "0.031", "<0.001", "—"]


def test_points_that_are_not_finite_are_no_part_of_a_mean() -> None:
    """A curve's value that is not finite is left out of its step, and the step with it where no seed has one."""
    arm = STANDARD
    points = [
        Point(arm="standard", seed=seed, step=step, name="validation_loss", value=value)
        for seed, step, value in ((0, 0, 1.0), (1, 0, None), (0, 10, None), (1, 10, None))
    ]
    records: list[Record] = [training.record(arm, seed, training.curves(arm, seed, 2.3), "table1") for seed in (0, 1)]
    (found,) = arms_of(Run(records, points))
    assert [(step, value.values) for step, value in found.curve("validation_loss")] == [(0, (1.0,))]
