"""Gradient accumulation: the same step in every meter, and the gradients of the whole batch."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any

import measuring
import msgspec
import pytest
import torch
from synthetic_records import case
from torch import Tensor, nn

import bench
from bdia.methods import get
from bdia.quantize import headroom
from bench import accumulation, batches, timing
from bench import parts as breakdown
from bench.attaching import attach
from bench.case import MEASUREMENTS, Case, Plan
from bench.errors import UnsupportedError, UsageError
from bench.meters.gradients import measure_gradients
from bench.meters.loss import measure_loss, tightest
from bench.meters.memory import MemoryReading, measure_memory, run_step
from bench.meters.reconstruction import measure_reconstruction, worst
from bench.meters.rehearsal import measure_rehearsal
from bench.protocol import Event, Finished, Job
from bench.record import BlockError
from bench.workload import Workload, build, train

SIZES = {"depth": 3, "width": 32, "heads": 2, "seq": 16, "batch": 8}
Pair = namedtuple("Pair", "inputs targets")


def of(method: str = "standard", **axes: Any) -> Case:
    return case(method, **(SIZES | axes))


def gradients(workload: Workload, method: str = "standard") -> list[Tensor]:
    """Of one step, the γ of seed 0."""
    workload.model.zero_grad(set_to_none=True)
    bits = 9 if get(method).quantised else None
    with attach(workload, get(method), bits=bits, gamma=None, seed=0):
        accumulation.backward(workload, workload.batch)
    return [parameter.grad for parameter in workload.model.parameters() if parameter.grad is not None]


def distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest relative one of any parameter."""
    return max(float((one - two).norm() / two.norm()) for one, two in zip(ours, theirs, strict=True))


def exact(workload: Workload) -> Workload:
    """The same step in float64, so that nothing hides in rounding."""
    workload.model.double()
    return workload


@pytest.mark.parametrize("method", ["standard", "checkpoint", "checkpoint-segments", "checkpoint-selective"])
@pytest.mark.parametrize("accumulate", [2, 3, 5, 8])
def test_the_parts_add_up_to_the_whole_batch(method: str, accumulate: int) -> None:
    """However unevenly 8 samples are cut, the gradients are the whole batch's but for the order of the sums."""
    whole = exact(build(of(method)))
    assert distance(gradients(whole.accumulating(accumulate), method), gradients(whole, method)) < 1e-13


@pytest.mark.parametrize("method", ["bdia", "bdia-naive", "two-stream", "leapfrog-exact"])
@pytest.mark.parametrize("accumulate", [2, 3])
def test_the_twin_is_cut_alike(method: str, accumulate: int) -> None:
    """A step in parts is held to the same rule, with the same γ, in the same parts: exact where a whole step is."""
    workload, bits = build(of(method)).accumulating(accumulate), 9 if get(method).quantised else None
    error = measure_gradients(workload, method, bits, seed=0).gradient_error
    if method in ("bdia", "leapfrog-exact"):
        assert error == 0.0
    else:
        assert error is not None
        assert 0 < error < 1e-3


def test_gamma_is_drawn_anew_for_each_part() -> None:
    """BDIA's step in parts is another than of the whole batch, as two forwards of one batch are."""
    whole = build(of("bdia"))
    assert distance(gradients(whole.accumulating(2), "bdia"), gradients(whole, "bdia")) > 1e-3


def test_a_step_of_parts_is_one_step() -> None:
    """Each part goes forward through the blocks once, the optimiser takes one step, and gradients are None after it."""
    workload = build(of()).accumulating(4)
    calls: list[tuple[str, int]] = []
    workload.model.transformer.h[0].register_forward_hook(lambda block, given, y: calls.append(("forward", len(y))))
    workload.optimizer.register_step_post_hook(lambda *given: calls.append(("step", 0)))
    run_step(workload)
    assert calls == [("forward", 2)] * 4 + [("step", 0)]
    assert all(parameter.grad is None for parameter in workload.model.parameters())


def test_training_accumulates() -> None:
    """Weights that a case is measured at come from steps in the same parts, which are the whole batches' steps."""
    whole, parts = exact(build(of())), exact(build(of())).accumulating(3)
    calls: list[int] = []
    parts.model.transformer.h[0].register_forward_hook(lambda block, given, y: calls.append(len(y)))
    train(whole, 2)
    train(parts, 2)
    assert calls == [3, 3, 2] * 2
    ours, theirs = ([weight.detach() for weight in one.model.parameters()] for one in (parts, whole))
    assert distance(ours, theirs) < 1e-5  # Adam magnifies rounding


def memory(method: str, **axes: Any) -> MemoryReading:
    workload = build(of(method, **axes))
    bits = 9 if get(method).quantised else None
    with attach(workload, get(method), bits=bits, gamma=None, seed=0) as handle:
        return measure_memory(workload, handle, workload.device)


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia"])
def test_activations_are_those_of_one_part(method: str) -> None:
    """Next to gradients that are there anyway, a step of 8 samples in 4 parts holds to the byte what a step of 2
    samples holds, part by part and block by block, states and side bits among them."""
    parts, small = memory(method, accumulate=4), memory(method, batch=2)
    assert parts.activation_bytes == small.activation_bytes
    assert parts.activation_parts == small.activation_parts
    assert (parts.saved_bytes, parts.side_bytes) == (small.saved_bytes, small.side_bytes)
    assert parts.activation_bytes < 0.35 * memory(method).activation_bytes


def test_the_gradients_of_earlier_parts_are_there_at_the_peak() -> None:
    """A whole step of standard has no gradients yet when its activations are highest; one in parts has them all."""
    whole, parts = memory("standard"), memory("standard", accumulate=8)
    assert whole.peak_parts is not None
    assert parts.peak_parts is not None
    weights = sum(parameter.nbytes for parameter in build(of()).model.parameters())
    assert "gradients" not in whole.peak_parts
    assert parts.peak_parts["gradients"] == weights


def test_parts_of_the_peak_add_up() -> None:
    """Both breakdowns are of the figures, to the byte."""
    found = memory("bdia", accumulate=3)
    for parts, total in ((found.activation_parts, found.activation_bytes), (found.peak_parts, found.peak_bytes)):
        assert parts is not None
        assert breakdown.total(parts) == total


def test_one_part_is_the_step_as_it_always_was() -> None:
    """`accumulate` 1 hands the loss the very batch, and its backward no other gradient."""
    workload = build(of())
    seen: list[object] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        seen.append(batch)
        return workload.loss(model, batch)

    accumulation.backward(dataclasses.replace(workload, loss=loss).accumulating(1), workload.batch)
    assert len(seen) == 1
    assert seen[0] is workload.batch


def test_every_part_is_rebuilt_and_compared() -> None:
    """An entry a block, with the elements that differ in any of the forwards; bit-exact where all of them are."""
    workload = build(of("bdia-naive")).accumulating(4)
    naive = measure_reconstruction(workload, "bdia-naive", seed=0)
    elements = SIZES["batch"] * SIZES["seq"] * SIZES["width"]
    assert [one.block for one in naive.reconstruction] == list(range(SIZES["depth"]))
    assert elements / 4 < naive.reconstruction[0].mismatched <= elements
    ours = measure_reconstruction(build(of("bdia")).accumulating(4), "bdia", 9, seed=0)
    assert (ours.bit_exact, naive.bit_exact) == (True, False)
    assert {(one.max_abs_error, one.mismatched) for one in ours.reconstruction} == {(0.0, 0)}


def test_the_worst_of_the_parts_counts() -> None:
    """The largest error of each kind, whichever part it is in, an infinite one above all; mismatches add up."""
    parts = [
        {0: BlockError(block=0, max_abs_error=1.0, rms_error=0.1, relative_error=0.3, mismatched=2)},
        {
            0: BlockError(block=0, max_abs_error=0.5, rms_error=0.2, relative_error=None, mismatched=3),
            1: BlockError(block=1, max_abs_error=0.0, rms_error=0.0, relative_error=0.0, mismatched=0),
        },
    ]
    assert worst(parts) == [
        BlockError(block=0, max_abs_error=1.0, rms_error=0.2, relative_error=None, mismatched=5),
        parts[1][1],
    ]


def test_the_tightest_headroom_counts() -> None:
    """Of several forwards the one that leaves the least room; None where nothing is quantised."""
    wide, narrow, beyond = headroom([1.0, 2.0], 9), headroom([1.0, 9000.0], 9), headroom([1.0, 2.0**30], 9)
    assert tightest([wide, narrow, None]) is narrow
    assert tightest([wide, beyond, narrow]) is beyond
    assert tightest([headroom([1.0, 1.5], 9), wide]) is wide  # alike in bits
    assert tightest([None, None]) is None


@pytest.mark.parametrize("accumulate", [2, 3])
def test_the_loss_is_the_mean_over_the_parts(accumulate: int) -> None:
    """Plain and with the method, weighted by samples: standard's is the whole batch's."""
    whole, parts = build(of()), build(of()).accumulating(accumulate)
    one, several = measure_loss(whole, "standard", seed=0), measure_loss(parts, "standard", seed=0)
    assert several.loss_method == several.loss_plain == pytest.approx(one.loss_plain, rel=1e-6)
    assert several.loss_plain != accumulation.parts(parts, parts.batch)[0].share * one.loss_plain
    assert several.stream_elements == -(-SIZES["batch"] // accumulate) * SIZES["seq"] * SIZES["width"]


def test_the_doctor_looks_at_a_step_in_parts() -> None:
    """Side bits of one forward, and the losses of all of them."""
    found = measure_rehearsal(build(of("bdia")).accumulating(4), get("bdia"), 9, seed=0)
    assert found.side_bytes == (SIZES["depth"] - 1) * 2 * SIZES["seq"] * SIZES["width"] // 8
    whole = measure_rehearsal(build(of("bdia")), get("bdia"), 9, seed=0)
    assert found.loss_plain == pytest.approx(whole.loss_plain, rel=1e-6)
    assert found.loss_method == measure_loss(build(of("bdia")).accumulating(4), "bdia", 9, seed=0).loss_method


def test_each_member_of_a_group_is_timed_in_its_own_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model, rounds side by side: standard whole and in 4 parts, and bdia in 2, at the rate of whole steps."""
    taken: list[int] = []

    def step(workload: Workload) -> None:
        taken.append(workload.accumulate)
        run_step(workload)

    monkeypatch.setattr(timing, "run_step", step)
    cases = (of(), of(accumulate=4), of("bdia", accumulate=2))
    assert len({one.group() for one in cases}) == 1
    members = tuple(Plan(case=one, measure=frozenset({"throughput"})) for one in cases)
    told: list[Event] = []
    timing.time(Job(kind="time", members=members, rounds=2, warmup=1, threads=2, events=-1), told.append)
    ended = [event for event in told if isinstance(event, Finished)]
    assert [event.status for event in ended] == ["ok"] * 3
    assert sorted(taken) == [1] * 3 + [2] * 3 + [4] * 3
    for event in ended:
        seconds = sorted(event.fields["step_seconds"])
        assert event.fields["samples_per_second"] == pytest.approx(2 * SIZES["batch"] / sum(seconds))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_child_measures_everything_of_it(accumulate: int) -> None:
    """bdia in parts is bit-exact, its gradients are its twin's, and every field that a whole step has is there."""
    measure = frozenset(MEASUREMENTS) - {"throughput"}
    found = measuring.measured(Plan(case=of("bdia", accumulate=accumulate), measure=measure))
    assert (found.status, found.message) == ("ok", None)
    assert (found.fields["bit_exact"], found.fields["gradient_error"]) == (True, 0.0)
    assert len(found.fields["reconstruction"]) == found.fields["blocks"] == SIZES["depth"]
    assert 0.4 < found.fields["rounding_error"] <= 0.501
    assert found.fields["samples"] == SIZES["batch"]


def test_a_step_of_ones_own_is_accumulated_in_a_test() -> None:
    """`bench.measure` takes it for a workload of the user's, and refuses what cannot be cut."""
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(3)))

    def own(batch: Any) -> bench.Workload:
        return bench.Workload(model, batch, lambda model, batch: model(batch["x"]).square().mean(), blocks=[*model])

    batch = {"x": torch.randn(8, 6), "name": "digits", "scale": torch.tensor(2.0)}
    whole, parts = (bench.measure(own(batch), "bdia", accumulate=accumulate) for accumulate in (1, 4))
    assert (parts.bit_exact, parts.gradient_error) == (True, 0.0)
    assert parts.activation_bytes < whole.activation_bytes
    with pytest.raises(UnsupportedError, match=r"accumulate 9: a batch of 8 has no 9 parts; take fewer, or leave"):
        bench.measure(own(batch), "bdia", accumulate=9)
    with pytest.raises(UnsupportedError, match=r"accumulate 2: the batch holds a tensor of shape \(3,\) beside 8"):
        bench.measure(own(batch | {"odd": torch.zeros(3)}), "bdia", accumulate=2)
    with pytest.raises(UsageError, match="accumulate 0: expected a whole number at least 1"):
        bench.measure(own(batch), "bdia", accumulate=0)


def test_a_batch_that_cannot_be_cut_is_unsupported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model of the user's that is known only when it is built: a row with the reason, and no error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\nimport bench\n\ndef step(case):\n"
        "    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(3)))\n"
        "    return bench.Workload(model, (torch.randn(2, 6),), lambda model, batch: model(batch[0]).mean())\n"
    )
    nothing = dict.fromkeys(("depth", "width", "heads", "seq", "batch", "vocab"))
    plan = Plan(case=case("bdia", model="own.py:step", accumulate=3, **nothing), measure=frozenset({"memory"}))
    found = measuring.measured(plan)
    assert found.status == "unsupported"
    assert found.message == "accumulate 3: a batch of 2 has no 3 parts; take fewer, or leave accumulate out"


def test_a_batch_is_cut_along_its_samples_wherever_they_are() -> None:
    """Tensors in tuples, named ones, lists and mappings are cut; what has no row for each sample is in all parts."""
    rows, mask, one = torch.arange(10).reshape(5, 2), torch.arange(5), torch.zeros(1, 4)
    batch = {"pair": Pair(rows, [mask, "text"]), "one": one, "number": 3, "none": None, "scalar": torch.tensor(2.0)}
    cut = batches.cut(batch, 2)
    assert [samples for _, samples in cut] == [3, 2]
    for (part, _), span in zip(cut, (slice(0, 3), slice(3, 5)), strict=True):
        assert list(part) == list(batch)
        assert type(part["pair"]) is Pair
        assert torch.equal(part["pair"].inputs, rows[span])
        assert torch.equal(part["pair"].targets[0], mask[span])
        assert part["pair"].targets[1] == "text"
        assert part["one"] is one
        assert (part["number"], part["none"], part["scalar"]) == (3, None, batch["scalar"])
        assert part["pair"].inputs.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(2)), r"a tensor of shape \(2,\) beside 3 samples"),
        ((torch.zeros(3, 2), ["a", "b", "c"]), "a list of 3 without a tensor"),
        ((torch.zeros(1, 2),), "a batch of 1 has no 2 parts"),
        (("text", torch.tensor(1.0)), "a batch of 0 has no 2 parts"),
    ],
)
def test_what_may_or_may_not_be_samples_is_refused(batch: Any, message: str) -> None:
    """Nothing is guessed: one line says what stands in the way."""
    with pytest.raises(UsageError, match=message) as caught:
        batches.cut(batch, 2)
    assert "\n" not in str(caught.value)


def test_rows_that_are_no_samples_are_not_cut() -> None:
    """A workload that says it has 2 samples in a batch of 4 rows is refused."""
    workload = bench.Workload(nn.Linear(3, 1), torch.zeros(4, 3), lambda model, x: model(x).mean(), samples=2)
    with pytest.raises(UnsupportedError, match="4 rows for 2 samples"):
        workload.accumulating(2)


def test_records_of_before_are_of_whole_steps() -> None:
    """A case without the two fields is one of a whole batch and of all logits at once, and the same case as now."""
    known = msgspec.to_builtins(of("bdia"))
    del known["accumulate"], known["loss_chunks"]
    assert msgspec.convert(known, Case) == of("bdia")
