"""Faults planted into a copy of the project: each is measured by real child processes, and `check` catches it.

What is planted is a change to the library as someone might make it; what is asserted, the exit code of `bdia-bench
check` against the baseline of the healthy code, and that its output names the part or the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from planting import CORRECTNESS, EVERYTHING, Bench, Edit

import cli
from bench.case import Measurement
from bench.store import read

REVERSIBLE, TAPE, RNG = "bdia/backprop/reversible.py", "bdia/backprop/tape.py", "bdia/backprop/rng.py"
CALLED = "        self._tape.calls.append(call)\n"
"""In `ReversibleRecording.run`: the call is on the tape, its block has not run yet. `x` is x_k."""


@dataclass(frozen=True)
class Plant:
    """A fault, and what `check` says of it."""

    name: str
    edits: tuple[Edit, ...]
    says: tuple[str, ...]
    measure: tuple[Measurement, ...] = EVERYTHING


def after(file: str, old: str, more: str) -> Edit:
    """`more`, put in behind `old`."""
    return Edit(file, old, old + more)


LEAK = after(REVERSIBLE, CALLED, "        call.__class__.leak = (getattr(call, 'leak', None), x.new_zeros(1024))\n")
PLANTS = (
    Plant(
        "a tensor of the stream kept per block",
        (after(REVERSIBLE, CALLED, "        call.work.held = x.detach()\n"),),
        ("activation_bytes", "%)\n  residual_states of blocks 0-1"),
    ),
    Plant(
        "side bits unpacked to bytes",
        (
            Edit("bdia/sidebits.py", "SideBits(_gather(flat)[None], side.shape)", "SideBits(flat[None], side.shape)"),
            Edit("bdia/sidebits.py", "[self._plane(plane) for", "[plane[: self.shape.numel()].view(self.shape) for"),
        ),
        ("side_bytes", "side_bits of blocks 1-3"),
    ),
    Plant(
        "one block's graph kept",
        (
            Edit(
                REVERSIBLE,
                "torch.utils.checkpoint.checkpoint(region, use",
                "region() if len(self._tape.calls) == 3 else torch.utils.checkpoint.checkpoint(region, use",
            ),
        ),
        ("activation_bytes", "block 2"),
    ),
    Plant(
        "an fp64 state",
        (Edit("bdia/quantize.py", "STREAM_DTYPE = torch.float32", "STREAM_DTYPE = torch.float64"),),
        ("activation_bytes", "residual_states of blocks 3-4"),
    ),
    Plant(
        "Q truncates, forward and backward alike",
        (Edit("bdia/quantize.py", "2.0**bits).round_()", "2.0**bits).trunc_()"),),
        ("rounding_error", "block"),
    ),
    Plant(
        "Q truncates in the backward only",
        (
            Edit(
                "bdia/equations.py",
                "torch.sub(after, quantize(mix(x, y, gamma), bits))",
                "torch.sub(after, mix(x, y, gamma).mul_(2.0**bits).trunc_().mul_(2.0**-bits))",
            ),
        ),
        ("newly failing", "transformer.h.3"),
    ),
    Plant(
        "a dropped side bit",
        (
            after(
                TAPE,
                "        call = self.calls[-1]\n        call.kept = ",
                "sidebits.pack(kept & (kept.reshape(-1).cumsum(0).view_as(kept) != 1)) if len(self.calls) == 3 else ",
            ),
        ),
        ("bit_exact", "gradient_error", "block 1"),
        CORRECTNESS,
    ),
    Plant(
        "gradients of one block slightly wrong",
        (
            after(
                REVERSIBLE,
                "        drawn_from = self._draws.after(before, x.device)\n",
                "        if len(self._tape.calls) == 3 and y.requires_grad:\n"
                "            y.register_hook(lambda grad: grad * (1 + 2.0**-20))\n",
            ),
        ),
        ("gradient_error", "block 2"),
    ),
    Plant(
        "an RNG state stored per block although none draws",
        (
            Edit(RNG, "return None if same(before, self._last) else before", "return before"),
            Edit(RNG, "return self._last if self._last is not None and same(now, self._last) else now", "return now"),
        ),
        ("activation_bytes", "rng_states of blocks 0-3"),
    ),
)

Baseline = Callable[[tuple[Measurement, ...]], Path]
Check = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def series(bench: Bench) -> Path:
    """The directory of a run of the healthy code at two depths."""
    return bench.measure((3, 5))


@pytest.fixture(scope="module")
def baseline(bench: Bench, series: Path) -> Baseline:
    """The baseline of the healthy code at depth 5, of these measurements."""
    written: dict[tuple[Measurement, ...], Path] = {}

    def of(measure: tuple[Measurement, ...]) -> Path:
        if measure not in written:
            directory = bench.part(series, 5) if measure == EVERYTHING else bench.measure((5,), measure)
            written[measure] = updated(directory)
        return written[measure]

    return of


def updated(directory: Path) -> Path:
    """The baseline that a run makes."""
    path = directory / "baseline.json"
    assert cli.execute(["check", str(directory), "--baseline", str(path), "--update"]) == 0
    return path


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """The exit code of a check, and what it prints."""

    def checked(directory: Path, path: Path, *options: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.execute(["check", str(directory), "--baseline", str(path), *options])
        return code, capsys.readouterr().out

    return checked


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_fault_is_caught_and_named(bench: Bench, baseline: Baseline, check: Check, plant: Plant) -> None:
    """Exit code 1, and the part or block in what is printed."""
    directory = bench.measure((5,), plant.measure, bench.plant(plant.edits))
    code, printed = check(directory, baseline(plant.measure))
    assert code == 1, printed
    for words in plant.says:
        assert words in printed, printed
    (record,) = read(directory).records
    if record.status == "error":  # how wrong it is was measured all the same
        wrong = [error.block for error in record.reconstruction or () if error.mismatched]
        assert (record.bit_exact, max(wrong), record.gradient_block) == (False, 3, 3)


def test_a_leak_is_caught_where_totals_hide_it(bench: Bench, series: Path, check: Check) -> None:
    """4 KiB a block, kept for ever: however much the bytes may grow, the memory law has no room for it."""
    directory, path = bench.measure((3, 5), worker=bench.plant([LEAK])), updated(series)
    code, printed = check(directory, path)
    assert code == 1, printed
    assert "activation_bytes" in printed
    assert "blocks 1-3: 4 → 4100 bytes each" in printed, printed
    code, printed = check(directory, path, "--tolerance", "100%")
    assert code == 1, printed
    assert "activation_bytes" not in printed
    assert "bits_per_activation" in printed
    assert "blocks 1-3: 4 → 4100 bytes each" in printed, printed


def test_the_healthy_code_passes_against_its_own_baseline(bench: Bench, baseline: Baseline, check: Check) -> None:
    """Measured again, in a copy with nothing planted, and checked 50 times: 50 passes, with nothing but `same`."""
    path, directory = baseline(EVERYTHING), bench.measure((5,), worker=bench.plant(()))
    for _ in range(50):
        code, printed = check(directory, path)
        assert code == 0, printed
        assert printed.strip().endswith(": 6 same"), printed
