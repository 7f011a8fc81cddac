"""The rounding of each step against arithmetic of its own, in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from measuring import measured
from torch import Tensor
from workloads import translator

import bdia.equations
import bdia.updates
import bench.meters.rounding
from bdia import distributions
from bdia.backprop import Step
from bdia.methods import Method, get
from bdia.updates import QuantisedBdia, State
from bench.case import Case, Plan
from bench.meters.level import level
from bench.meters.loss import measure_loss
from bench.meters.rounding import PIECE, Rounding, RoundingReading, watch
from bench.workload import Workload, build

DEPTH = 4
HALF = distributions.parse(0.5)
GAMMAS = ("1", "0.5", "0.25", "0.0625", "0.3", "0", "uniform:0.5", "normal:0.3")
Quantize = Callable[[Tensor, int], Tensor]


def case(dtype: str = "fp32", **changes: Any) -> Case:
    of = Case(
        method="bdia", model="gpt", depth=DEPTH, width=24, heads=3, seq=7, batch=3, bits=9, vocab=256, dtype=dtype,
        train_steps=0, device="cpu", seed=0, data=None,
    )  # fmt: skip
    return msgspec.structs.replace(of, **changes)


@pytest.fixture(scope="module")
def workload() -> Workload:
    return build(case())


def rounding(workload: Workload, method: str | Method = "bdia", bits: int = 9, **options: Any) -> RoundingReading:
    torch.manual_seed(0)
    reading = measure_loss(workload, method, bits, seed=0, **options).rounding
    assert reading is not None
    return reading


def right(bits: int, max_abs: float) -> float:
    """The largest error of a right rounding: ½ and what fp32 adds to a v made of terms up to a few max|x|."""
    return 0.5 + 4.0 * max_abs * 2.0 ** (bits - 24)


def stepped(before: State, y: Tensor, gamma: float, after: State, given: Tensor | None = None) -> RoundingReading:
    """The reading of one step at l = 2, in the given states."""
    watcher = Rounding(2, distributions.parse(abs(gamma)))
    watcher.stepped(5, Step("block", given, before, y, torch.tensor([gamma]), after))
    reading = watcher.reading()
    assert reading is not None
    return reading


def wrong(monkeypatch: pytest.MonkeyPatch, quantize: Quantize, calls: set[int] | None = None) -> None:
    """Has the library round by `quantize` instead, everywhere or in these of its roundings after that of x_0."""
    count = itertools.count()
    rounds = bdia.equations.quantize

    def chosen(y: Tensor, bits: int) -> Tensor:
        is_wrong = next(count) - 1 in calls if calls is not None else True
        return quantize(y, bits) if is_wrong else rounds(y, bits)

    monkeypatch.setattr(bdia.equations, "quantize", chosen)
    monkeypatch.setattr(bdia.updates, "quantize", chosen)


def truncate(y: Tensor, bits: int) -> Tensor:
    return torch.mul(y, 2.0**bits).trunc_().mul_(2.0**-bits)


@pytest.mark.parametrize("dtype", ["fp32", "bf16-amp", "bf16"])
def test_a_right_rounding_is_at_most_half_a_unit_away(dtype: str) -> None:
    """For every γ, at either end of l, and in each dtype: ½, and what fp32 adds; and some element comes near to it."""
    workload = build(case(dtype))
    for gamma, bits in itertools.product(GAMMAS, (5, 18)):
        reading = measure_loss(workload, "bdia-stored", bits, seed=0, gamma=gamma)
        assert reading.rounding is not None
        assert reading.headroom is not None
        assert reading.rounding.rounding_error is not None
        assert 0.45 < reading.rounding.rounding_error <= right(bits, reading.headroom.max_abs), (gamma, bits)
        assert reading.rounding.message is None


def test_a_step_is_as_on_paper() -> None:
    """l = 2, γ = -½: x₋ = 0.75 is odd, so s = 1; v = 1.5·0.5 + 0.5·0.3 = 0.9, and x₊ = -0.5 + 1, a tenth away."""
    before = (torch.tensor([0.75]), torch.tensor([0.5]))
    reading = stepped(before, torch.tensor([0.8], dtype=torch.float64), -0.5, (before[1], torch.tensor([0.5])))
    assert reading.rounding_error == pytest.approx(0.4, abs=1e-12)
    assert (reading.rounding_block, reading.message) == (5, None)
    reading = stepped(before, torch.tensor([0.8], dtype=torch.float64), -0.5, (before[1], torch.tensor([0.25])))
    assert reading.rounding_error == pytest.approx(0.6, abs=1e-12)


@pytest.mark.parametrize(("x", "m", "shifted"), [(-0.75, 1, -0.5), (-0.75, 2, -1.0), (1.25, 2, 1.0), (1.5, 2, 2.0)])
def test_the_side_information_is_as_on_paper(x: float, m: int, shifted: float) -> None:
    """At l = 2, for negative numbers too: the next even multiple above, or the nearest one, halfway cases up."""
    gamma = 2.0**-m
    before = (torch.tensor([x]), torch.tensor([0.0]))
    assert stepped(before, torch.zeros(1), gamma, (before[1], torch.tensor([gamma * shifted]))).rounding_error == 0.0


def test_truncation_is_nearly_a_whole_unit_away(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong in forward and backward alike, it is bit-exact, with exact gradients; the rounding says that it is not."""
    wrong(monkeypatch, truncate)
    reading = rounding(workload)
    assert reading.rounding_error is not None
    assert 0.9 < reading.rounding_error <= 1.0 + 1e-3
    assert reading.message is None


@pytest.mark.parametrize("block", range(DEPTH))
def test_the_block_that_rounds_wrongly_is_named(
    workload: Workload, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """One step of one block, the first one (19) included."""
    wrong(monkeypatch, truncate, {block})
    reading = rounding(workload)
    assert reading.rounding_block == block
    assert reading.rounding_error is not None
    assert reading.rounding_error > 0.9


def test_the_first_state_is_looked_at(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """x_0 = Q_l[x_0] (18), where the chain begins."""
    wrong(monkeypatch, truncate, {-1})
    reading = rounding(workload)
    assert reading.rounding_block == 0
    assert reading.rounding_error is not None
    assert reading.rounding_error > 0.9


def test_a_wrong_parity_is_seen(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding x₋ down to an even multiple instead of up can be undone as well, and is not eq. 20."""

    def down(x: Tensor, bits: int, side_bits: int) -> tuple[Tensor, Tensor]:
        units = torch.mul(x, 2.0 ** (bits - 1))
        return units.floor().mul_(2.0 ** (1 - bits)), units.ne(units.floor())

    monkeypatch.setattr(bdia.updates, "to_multiple", down)
    reading = rounding(workload)
    assert reading.rounding_error is not None
    assert reading.rounding_error > 0.9
    assert reading.rounding_block is not None
    assert reading.rounding_block > 0


def test_a_state_that_is_not_rounded_counts_a_whole_unit(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing rounded is no distance away from v, and no multiple of 2^-l: an error, with the block in the message."""
    wrong(monkeypatch, lambda y, bits: y.clone(), {2})
    reading = rounding(workload)
    assert reading.rounding_error is not None
    assert reading.rounding_error >= 1.0
    assert reading.rounding_block == 2
    assert reading.message == "x of block 2 is no multiple of 2^-9: it is not rounded as eq. 17 says"


def test_what_is_not_finite_has_no_error() -> None:
    """NaN and infinity: None, and the block."""
    before = (torch.tensor([0.25, 0.5]), torch.tensor([0.5, 0.5]))
    for value in (math.nan, math.inf):
        reading = stepped(before, torch.tensor([value, 0.0]), 0.5, (before[1], torch.tensor([value, 0.5])))
        assert (reading.rounding_error, reading.rounding_block) == (None, 5)


def test_an_empty_batch_has_none() -> None:
    """No element, no error."""
    none = torch.zeros(0)
    assert stepped((none, none), none, 0.5, (none, none)).rounding_error == 0.0


def test_an_encoder_decoder_is_numbered_through(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chains of two and three blocks: the second begins with an x_0 of its own, and its blocks at 2."""
    both = translator(workload)
    reading = rounding(both)
    assert reading.rounding_error is not None
    assert reading.rounding_error <= right(9, 8.0)
    wrong(monkeypatch, truncate, {4})  # x_0, two blocks, x_0, so that this is block 3
    assert rounding(both).rounding_block == 3


def test_only_rules_that_round_by_these_equations_have_one(workload: Workload) -> None:
    """No other rule is held to them, be it quantised or not."""

    class Doubled(QuantisedBdia):
        pass

    class Leaping(QuantisedBdia):
        def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
            return super().step(state, y, gamma)

    for name in ("standard", "checkpoint", "bdia-naive", "bdia-unquantised"):
        assert measure_loss(workload, name, None, seed=0).rounding is None
    assert watch(Method("own", Doubled, get("bdia").strategy, "", quantised=True, draws_gamma=True), 9, HALF)
    assert watch(Method("own", Leaping, get("bdia").strategy, "", quantised=True, draws_gamma=True), 9, HALF) is None
    plain = Method("plain", "bdia.updates:QuantisedEuler", get("bdia-stored").strategy, "", quantised=True)
    assert watch(plain, 9, HALF) is None


def test_records_hold_it() -> None:
    """A case that measures nothing else has it, stored or reversible, and one that does not round has None."""
    for method, bits, gamma in (("bdia", 9, "0.5"), ("bdia-stored", 9, "0.25"), ("standard", None, None)):
        fields = measured(Plan(case(method=method, bits=bits, gamma=gamma), frozenset())).fields
        error, block = fields.get("rounding_error"), fields.get("rounding_block")
        assert (error is None) == (bits is None)
        assert (block is None) == (bits is None)
        if error is not None:
            assert 0.45 < error <= right(9, fields["max_abs"])


@pytest.mark.parametrize("model", ["gpt", "vit"])
def test_pieces_see_what_the_whole_does(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """Looked at in pieces of some elements, each step has the error and the block that it has as a whole."""
    sizes = {} if model == "gpt" else {"seq": None, "vocab": None}
    workload = build(case(model=model, **sizes))
    for gamma in ("0.5", "0.3"):
        monkeypatch.setattr(bench.meters.rounding, "PIECE", 2**30)
        whole = rounding(workload, "bdia-stored", gamma=gamma)
        monkeypatch.setattr(bench.meters.rounding, "PIECE", 50)
        assert rounding(workload, "bdia-stored", gamma=gamma) == whole


def test_a_large_x_takes_no_more_memory_than_a_piece_does() -> None:
    """However large x is, in either of its dimensions: what is held beside it is bounded by the pieces."""
    for shape in ((2, 4 * PIECE), (4 * PIECE, 2)):
        before, x, y, after = (torch.zeros(shape) for _ in range(4))
        watcher = Rounding(2, HALF)
        with level(torch.device("cpu")) as meter:
            meter.mark("begin")
            watcher.stepped(0, Step("block", x, (before, x), y, torch.full((1, 1), 0.5), (x, after)))
            meter.mark("end")
        assert watcher.reading() == RoundingReading(0.0, 0, None)
        assert 0 < meter.rise("begin", "end") <= 16 * 8 * PIECE < 2 * 8 * x.numel() * 8


def test_where_memory_runs_out_there_is_no_error(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """The field is None and a message says why; the losses are there, and any other error is one."""

    def raising(error: Exception) -> None:
        def refuse(self: Rounding, x: Tensor) -> Tensor:
            raise error

        monkeypatch.setattr(Rounding, "_units", refuse)

    raising(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    found = measured(Plan(case(), frozenset()))
    assert (found.status, found.message) == ("ok", "its arithmetic in float64 ran out of memory: no rounding error")
    assert "rounding_error" not in found.fields or found.fields["rounding_error"] is None
    assert found.fields["loss_method"] > 0
    raising(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        rounding(workload)
