"""Faults planted into a copy of the project: each is measured by real child processes, and `check` catches it.

What is planted is a change to the library as someone might make it; what is asserted, the exit code of `bdia-bench
check` against the baseline of the healthy code, and that its output names the part or the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from planting import Bench, Edit

import cli

REVERSIBLE, TAPE = "bdia/backprop/reversible.py", "bdia/backprop/tape.py"
CALLED = "        self._tape.calls.append(call)\n"
"""In `ReversibleRecording.run`: the call is on the tape, its block has not run yet. `x` is x_k."""


@dataclass(frozen=True)
class Plant:
    """A fault, and what `check` says of it."""

    name: str
    edits: tuple[Edit, ...]
    says: tuple[str, ...]
    depths: tuple[int, ...] = (5,)


def after(file: str, old: str, more: str) -> Edit:
    """`more`, put in behind `old`."""
    return Edit(file, old, old + more)


PLANTS = (
    Plant(
        "a tensor of the stream kept per block",
        (after(REVERSIBLE, CALLED, "        call.work.held = x.detach()\n"),),
        ("activation_bytes", "residual_states of blocks 0-2"),
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
        ("activation_bytes", "residual_states of block"),
    ),
    Plant(
        "a leak of 4 KiB a block",
        (
            after(
                REVERSIBLE, CALLED, "        call.__class__.leak = (getattr(call, 'leak', None), x.new_zeros(1024))\n"
            ),
        ),
        ("activation_bytes", "bits_per_activation", "block 0"),
        depths=(3, 5),
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
                "multiple = torch.sub(after, quantize(mix(x, y, gamma), bits)).mul_(1 / gamma)",
                "multiple = torch.sub(after, mix(x, y, gamma).mul_(2.0**bits).trunc_().mul_(2.0**-bits)).mul_(1 / gamma)",
            ),
        ),
        ("bit_exact", "gradient_error", "block 3"),
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
    ),
    Plant(
        "gradients of one block slightly wrong",
        (
            after(
                REVERSIBLE,
                "        after = rng.state_of(x.device)\n",
                "        if len(self._tape.calls) == 3 and y.requires_grad:\n"
                "            y.register_hook(lambda grad: grad * (1 + 2.0**-20))\n",
            ),
        ),
        ("gradient_error", "block 2"),
    ),
    Plant(
        "an RNG state stored per block although none draws",
        (
            Edit(REVERSIBLE, "        if not rng.same(before, after):\n", "        if True:\n"),
            Edit(REVERSIBLE, "rng.same(before, self._rng_before):", "False:"),
        ),
        ("activation_bytes", "rng_states of blocks 0-4"),
    ),
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def baseline(bench: Bench) -> Callable[[tuple[int, ...]], Path]:
    """The baseline of the healthy code at these depths, measured once."""
    written: dict[tuple[int, ...], Path] = {}

    def of(depths: tuple[int, ...]) -> Path:
        if depths not in written:
            directory = bench.measure(depths)
            path = directory / "baseline.json"
            assert cli.execute(["check", str(directory), "--baseline", str(path), "--update"]) == 0
            written[depths] = path
        return written[depths]

    return of


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_fault_is_caught_and_named(
    bench: Bench,
    baseline: Callable[[tuple[int, ...]], Path],
    capsys: pytest.CaptureFixture[str],
    plant: Plant,
) -> None:
    """Exit code 1, and the part or block in what is printed."""
    path = baseline(plant.depths)
    directory = bench.measure(plant.depths, bench.plant(plant.edits))
    capsys.readouterr()
    code = cli.execute(["check", str(directory), "--baseline", str(path)])
    printed = capsys.readouterr().out
    assert code == 1, printed
    for word in plant.says:
        assert word in printed, printed


def test_the_healthy_code_passes_against_its_own_baseline(
    bench: Bench, baseline: Callable[[tuple[int, ...]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured again, in a copy with nothing planted, and checked 50 times: 50 passes, with nothing but `same`."""
    path = baseline((5,))
    directory = bench.measure((5,), bench.plant(()))
    for _ in range(50):
        capsys.readouterr()
        assert cli.execute(["check", str(directory), "--baseline", str(path)]) == 0
        printed = capsys.readouterr().out
        assert "worse" not in printed, printed
        assert "better" not in printed, printed
