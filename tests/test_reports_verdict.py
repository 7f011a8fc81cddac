"""The sentence of verdict, and the captions."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
import synthetic_records as synthetic

from bench.record import BlockError
from reports.captions import FIGURES, caption, provenance
from reports.frame import frame
from reports.verdict import verdict

RUN: dict[str, Any] = {
    "suite": "quick",
    "arguments": ["run", "quick", "--depth", "6,12", "--out", "my results"],
    "environment": {
        "python": "3.11.9", "os": "Linux", "os_release": "6.1", "cpu_model": "Some CPU @ 2 GHz", "logical_cores": 8,
        "memory_bytes": 16 * 2**30, "threads": 2, "torch": "2.13.0+cpu", "cuda": None, "device": "cpu",
        "bdia_bench": "9.9.9", "commit": "0123456789abcdef", "dirty": True,
    },
}  # fmt: skip


def test_it_says_what_was_saved_and_what_it_cost() -> None:
    """The sentence compares bdia at the greatest depth with standard and checkpoint."""
    size = {
        method: synthetic.activation_bytes(synthetic.case(method, depth=24))
        for method in ("standard", "checkpoint", "bdia")
    }
    mib = {method: f"{value / 2**20:.1f} MiB" for method, value in size.items()}
    text = verdict(frame(synthetic.depth_suite()))
    assert text == (
        f"At depth 24 bdia holds {mib['bdia']} of activations where standard holds {mib['standard']} "
        f"({size['standard'] / size['bdia']:.1f}× less) and checkpoint {mib['checkpoint']}, "
        "adds 1.00 bits an activation and block (floor 1), runs at 0.74× standard's rate, rebuilt every block bit for "
        "bit, and its gradients are exact."
    )


def test_what_was_measured_in_part_is_not_without_a_result() -> None:
    """A case that ran out of memory, or was skipped, after its memory was measured is told apart from one that has
    nothing."""
    records = synthetic.depth_suite((6, 12), ("standard", "bdia"))
    records[0] = synthetic.failed(records[0].case(), "oom", "out of memory")
    records[1] = msgspec.structs.replace(records[1], status="skipped")
    text = verdict(frame(records))
    assert text.endswith("; 1 of 4 cases has no result (1 oom) and 1 of 4 cases was measured in part (1 skipped).")
    records[0] = msgspec.structs.replace(records[1], depth=6, method="standard", status="oom")
    text = verdict(frame(records))
    assert text.endswith("; 2 of 4 cases were measured in part (1 oom, 1 skipped).")
    assert "no result" not in text


def test_it_says_so_when_memory_is_lost() -> None:
    """More memory than standard is called more."""
    text = verdict(frame(synthetic.depth_suite((6,), ("standard", "bdia-stored"))))
    assert "(1.05× more)" in text
    assert "less" not in text


def test_equal_memory_is_called_the_same() -> None:
    """Sizes within half a percent of one another are neither less nor more."""
    standard, bdia = synthetic.depth_suite((6,), ("standard", "bdia"))
    for share, said in ((1.0, "(the same)"), (1.0049, "(the same)"), (0.9952, "(the same)"), (1.02, "(1.02× more)")):
        held = round((standard.activation_bytes or 0) * share)
        text = verdict(frame([standard, msgspec.structs.replace(bdia, activation_bytes=held)]))
        assert said in text, share


@pytest.mark.parametrize(
    ("axis", "values", "said"),
    [
        ("model", ("vit", "vit-spt"), "At model vit "),
        ("seed", (0, 1, 2), "At seed 0 "),
        ("dtype", ("bf16", "fp32"), "At dtype bf16 "),
        ("heads", (4, 8), "At heads 4 "),
        ("train_steps", (0, 50), "At train steps 0 "),
        ("bits", (6, 9), "At l 9 "),
    ],
)
def test_it_names_the_setting_it_speaks_of(axis: str, values: tuple[object, ...], said: str) -> None:
    """Of several settings along any axis, the sentence says which one its numbers are of."""
    records = [
        synthetic.full(synthetic.case(method, **{axis: value}))
        for method in ("standard", "bdia")
        for value in values
        if axis != "bits" or method == "bdia"
    ]
    text = verdict(frame(records))
    assert text.startswith(said)


def test_it_names_every_setting_it_speaks_of() -> None:
    """Several axes are named in one list; seeds of which only reconstructions were measured are none of them."""
    deep = [synthetic.full(synthetic.case(depth=depth, seed=seed)) for depth in (6, 24) for seed in (0, 1)]
    wide = [synthetic.full(synthetic.case(depth=24, seed=seed, width=512)) for seed in (0, 1)]
    assert verdict(frame(deep + wide)).startswith("At depth 24, width 512 and seed 0 bdia holds")
    assert verdict(frame(synthetic.quick_suite())).startswith("At depth 24 bdia holds")


def test_it_says_so_when_nothing_is_exact() -> None:
    """An inexact reconstruction is named with its error."""
    text = verdict(frame(synthetic.depth_suite((6,), ("standard", "bdia-naive"))))
    assert "did not rebuild every block exactly (worst error 9.6e-6)" in text
    assert "off by 3.1e-4" in text


def test_exactness_is_claimed_only_where_every_case_had_it() -> None:
    """One inexact case among exact ones is told."""
    wrong = [BlockError(block=0, max_abs_error=1.0, rms_error=1.0, relative_error=1.0, mismatched=1)]
    records = [*synthetic.depth_suite((12, 24), ("standard", "bdia")),
               synthetic.full(synthetic.case(depth=6), reconstruction=wrong, bit_exact=False)]  # fmt: skip
    assert "but not in 1 of its 3 cases" in verdict(frame(records))


def test_it_tells_of_failures() -> None:
    """Failed cases are counted by their ends, also those it would have compared with."""
    text = verdict(frame(synthetic.failing_suite()))
    assert "standard ran out of memory and checkpoint ran out of time" in text
    assert text.endswith("; 4 of 20 cases have no result (2 oom, 1 timeout, 1 error).")


def test_it_names_the_cliff() -> None:
    """Values of l beyond the exact range are named."""
    assert "l = 16 to 20 are beyond the exact range of fp32" in verdict(frame(synthetic.bits_suite()))


def test_a_gamma_that_cannot_be_reversed_is_no_matter_of_l() -> None:
    """A case that is unsupported for its γ is not said to be beyond the exact range."""
    refused = synthetic.failed(synthetic.case("bdia", gamma="0.6"), "unsupported", "no power of two")
    assert "beyond" not in verdict(frame([*synthetic.depth_suite(), refused]))


def test_it_speaks_of_reconstructions_alone() -> None:
    """A run of nothing but reconstructions has its sentence."""
    text = verdict(frame(synthetic.fig1_suite()))
    assert text.startswith(
        "Over 12 blocks bdia rebuilt every block bit for bit in all 10 cases while bdia-naive came back"
    )


def test_it_has_words_for_nothing() -> None:
    """Without a record, or without a result, it says that."""
    assert verdict(frame([])) == "No case was recorded."
    failed = [record for record in synthetic.failing_suite() if record.status != "ok"]
    assert verdict(frame(failed)) == "Nothing was measured; 4 of 4 cases have no result (2 oom, 1 timeout, 1 error)."


@pytest.mark.parametrize("count", range(1, 6))
def test_it_works_on_any_methods(count: int) -> None:
    """Whatever methods were run, it is one sentence, and it has no null in it."""
    for methods in itertools.combinations(synthetic.METHODS, count):
        text = verdict(frame(synthetic.depth_suite((6, 12), methods)))
        assert text.endswith(".")
        assert text.count(". ") == 0
        assert "None" not in text
        assert "—" not in text


def test_it_speaks_of_a_method_from_outside() -> None:
    """A method that is not in the table is spoken of where it is the only one."""
    mine = synthetic.full(synthetic.case("standard"))
    outside = type(mine)(**{name: getattr(mine, name) for name in mine.__struct_fields__} | {"method": "mine"})
    assert verdict(frame([outside, mine])).startswith(
        "mine holds 424.0 MiB of activations where standard holds 424.0 MiB"
    )


def test_a_caption_tells_hardware_versions_command_and_commit() -> None:
    """Whoever sees the figure can tell where it is from."""
    text = provenance(RUN)
    for part in (
        "Some CPU @ 2 GHz",
        "2 threads of 8 cores",
        "16.0 GiB of memory",
        "bdia-bench 9.9.9 (commit 0123456789ab with uncommitted changes)",
        "torch 2.13.0+cpu",
        "Python 3.11.9",
        "Command: bdia-bench run quick --depth 6,12 --out 'my results'.",
    ):
        assert part in text


@pytest.mark.parametrize("figure", [None, *FIGURES])
def test_a_caption_explains_its_metrics(figure: str | None) -> None:
    """Each caption ends with its cases and where they were measured, also where `run.json` is bare or missing."""
    table = frame(synthetic.quick_suite())
    text = caption(table, RUN, figure)
    assert "Measured on" in text
    assert "gpt" in text
    assert "None" not in text
    assert "Measured on" not in caption(table, {}, figure)
    assert "Measured on" not in caption(table, None, figure)
    assert "None" not in caption(frame([]), {"environment": {"gpu_name": None}}, figure)


def test_a_caption_names_the_gpu() -> None:
    """On a GPU the caption says which, how many, and the driver."""
    gpu = RUN["environment"] | {
        "device": "cuda", "gpu_name": "Some GPU", "gpu_count": 2, "gpu_memory_bytes": 80 * 2**30, "gpu_driver": "555.1",
        "cuda": "13.0",
    }  # fmt: skip
    text = provenance({"environment": gpu})
    for part in ("2 × Some GPU", "80.0 GiB a GPU", "CUDA 13.0", "driver 555.1"):
        assert part in text


def test_a_run_that_measured_time_alone_speaks_of_rates() -> None:
    """Without memory and reconstruction the sentence is about rates, or says that there is nothing to compare."""
    unmeasured = {"activation_bytes": None, "reconstruction": None, "bit_exact": None}
    timed = [synthetic.full(synthetic.case(method), **unmeasured) for method in ("standard", "bdia")]
    sentence = verdict(frame(timed))
    assert "standard's rate; only time was measured" in sentence
    assert "bdia at 0." in sentence
    assert verdict(frame(timed[1:])) == "Only time was measured, and nothing to compare it with."
