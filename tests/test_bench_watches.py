"""Watches: what each sees of a model that trains, and that it leaves no trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

import bdia
import bench
from bench import attaching
from bench.case import Case, Plan
from bench.errors import UsageError
from bench.meters.gradients import measure_gradients
from bench.meters.reconstruction import measure_reconstruction
from bench.watches import WATCHES, Found, named, subjects
from bench.watches.gamma_inference import GAMMAS
from bench.workload import Workload, build

DEPTH = 6
GPT = Case(
    method="bdia", model="gpt", depth=DEPTH, width=12, heads=3, seq=7, batch=3, bits=9, gamma="0.5", vocab=256,
    dtype="fp32", train_steps=0, device="cpu", seed=1, data=None,
)  # fmt: skip
VIT = msgspec.structs.replace(GPT, model="vit", seq=None, vocab=None)
PLAIN = {"bits": None, "gamma": None}
ALL = pytest.mark.parametrize("name", list(WATCHES))


def plan(case: Case = GPT, **changes: Any) -> Plan:
    return Plan(msgspec.structs.replace(case, **changes), frozenset())


def trained(asked: Plan, steps: int = 3) -> Workload:
    workload = build(asked.case)
    bench.workload.train(workload, steps)
    return workload


def held_out(workload: Workload, count: int = 2) -> Iterator[Any]:
    return (workload.batches(100 + number) for number in range(count))


def seen(name: str, asked: Plan, workload: Workload | None = None) -> list[Found]:
    workload = workload or trained(asked)
    return WATCHES[name].look(workload, asked, 3, held_out(workload))


def values(found: list[Found], name: str) -> dict[Any, float | None]:
    """By block, or by γ."""
    return {one.get("block", one.get("gamma")): one["value"] for one in found if one["name"] == name}


def traces(workload: Workload, handle: attaching.Attached) -> dict[str, Any]:
    """All that training goes on from."""
    assert isinstance(handle, bdia.Handle)
    found: dict[str, Any] = {f"weight {name}": tensor for name, tensor in workload.model.state_dict().items()}
    found |= {f"gradient {name}": parameter.grad for name, parameter in workload.model.named_parameters()}
    for number, state in enumerate(workload.optimizer.state.values()):
        found |= {f"optimiser {number} {key}": value for key, value in state.items()}
    found |= {f"buffer {name}": buffer for name, buffer in workload.model.named_buffers()}
    found |= {f"mode {name}": torch.tensor(part.training) for name, part in workload.model.named_modules()}
    found |= {f"γ {key}": torch.tensor(value) for key, value in handle.state_dict().items()}
    return {**found, "rng": torch.get_rng_state(), "seed": torch.tensor(torch.initial_seed())}


class Normed(nn.Module):
    """A block with batch norm, whose statistics every training forward moves, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)
        self.inner = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.dropout(self.inner(self.norm(x)).tanh(), 0.2, self.training)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Normed() for _ in range(4))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(x)
        return logits


def classifier() -> Workload:
    torch.manual_seed(0)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(8, 5, generator=generator), torch.randint(3, (8,), generator=generator)

    return Workload(
        Classifier(), batch(0), lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        batches=batch,
    )  # fmt: skip


@ALL
@pytest.mark.parametrize("method", ["bdia", "bdia-naive", "standard"])
@pytest.mark.parametrize("make", [lambda asked: build(asked.case), lambda asked: classifier()], ids=["vit", "norms"])
def test_a_look_leaves_no_trace(make: Any, method: str, name: str) -> None:
    """Weights, buffers, gradients, the optimiser's state, train() and eval(), torch's RNG and γ's are what they were,
    bit for bit, and the very same objects; the method is attached, and trains on as if nothing had been."""
    asked = plan(
        VIT, method=method, bits=9 if method == "bdia" else None, gamma=None if method == "standard" else "0.5"
    )
    outcomes = []
    for looks in (False, True):
        workload = make(asked)
        torch.manual_seed(5)
        with attaching.attach_planned(workload, asked) as handle:
            for step in range(1, 4):
                workload.loss(workload.model, workload.batches(step)).backward()
                workload.optimizer.step()
                if step < 3:  # the last step's gradients are left for the look to find
                    workload.optimizer.zero_grad()
            workload.model.get_submodule(next(iter(handle.chains))[1]).eval()
            if looks:
                before = traces(workload, handle)
                copies = {key: None if value is None else value.clone() for key, value in before.items()}
                WATCHES[name].look(workload, asked, 3, held_out(workload))
                after = traces(workload, handle)
                assert after.keys() == copies.keys()
                for key, value in copies.items():
                    assert (value is None and after[key] is None) or torch.equal(after[key], value), key
                    assert not key.startswith(("weight", "gradient", "optimiser", "buffer")) or (
                        before[key] is after[key] or before[key].data_ptr() == after[key].data_ptr()
                    )
            workload.model.train()
            workload.optimizer.zero_grad()
            workload.loss(workload.model, workload.batches(4)).backward()
            workload.optimizer.step()
        outcomes.append({name: tensor.clone() for name, tensor in workload.model.state_dict().items()})
    assert all(torch.equal(outcomes[0][key], outcomes[1][key]) for key in outcomes[0])


@ALL
def test_a_look_that_fails_leaves_no_trace(name: str) -> None:
    """A loss that raises in the middle of a look is raised, and everything is put back all the same."""
    asked, workload = plan(), trained(plan())

    def failing(model: nn.Module, batch: Any) -> Tensor:
        model.eval()
        raise RuntimeError("no loss")

    with attaching.attach_planned(workload, asked) as handle:
        copies = {key: None if value is None else value.clone() for key, value in traces(workload, handle).items()}
        forwards = {module: module.__dict__.get("forward") for module in workload.model.modules()}
        vars(workload)["loss"] = failing
        with pytest.raises(RuntimeError, match="no loss"):
            WATCHES[name].look(workload, asked, 1, held_out(workload))
        after = traces(workload, handle)
        assert all((one is None and after[key] is None) or torch.equal(one, after[key]) for key, one in copies.items())
        assert {module: module.__dict__.get("forward") for module in workload.model.modules()} == forwards


@ALL
def test_points_are_of_the_step_and_have_the_names_told(name: str) -> None:
    """Each point has its step, its value and one of the names that the table gives, and no two are of one place."""
    found = seen(name, plan(VIT))
    assert {one["name"] for one in found} == set(WATCHES[name].finds)
    assert {one["step"] for one in found} == {3}
    assert all(one.keys() <= {"step", "name", "value", "block", "gamma"} for one in found)
    assert len({(one["name"], one.get("block"), one.get("gamma")) for one in found}) == len(found)
    assert all(isinstance(one["value"], float) for one in found)


@ALL
def test_looks_at_the_same_weights_see_the_same(name: str) -> None:
    """Dropout and γ follow from the case, whatever was drawn before."""
    asked = plan(VIT)
    workload = trained(asked)
    first = seen(name, asked, workload)
    torch.rand(5)
    with attaching.attach_planned(workload, asked) as handle:
        workload.loss(workload.model, workload.batch)
        again = seen(name, asked, workload)
        assert isinstance(handle, bdia.Handle)
    assert again == first
    bench.workload.train(workload, 1)
    assert seen(name, asked, workload) != first


def test_reconstruction_is_exact_by_eq_24_and_drifts_by_eq_16() -> None:
    """Of the same weights, batch and γ; the errors are those of the meter, each block's largest."""
    asked = plan()
    workload = trained(asked)
    found = seen("reconstruction", asked, workload)
    assert values(found, "reconstruction_error") == dict.fromkeys(range(DEPTH), 0.0)
    naive = values(found, "reconstruction_error_naive")
    torch.manual_seed(1)
    expected = measure_reconstruction(workload, "bdia-naive", seed=1, gamma="0.5").reconstruction
    assert naive == {error.block: error.max_abs_error for error in expected}
    assert 0.0 == naive[DEPTH - 1] < naive[0]


def test_drift_is_none_for_exact_gradients_and_some_for_naive_ones() -> None:
    """Whole and by block; the whole is the meter's."""
    asked = plan(VIT)
    workload = trained(asked)
    found = seen("drift", asked, workload)
    assert values(found, "gradient_error") == dict.fromkeys([None, *range(DEPTH)], 0.0)
    naive = values(found, "gradient_error_naive")
    torch.manual_seed(1)
    assert naive[None] == measure_gradients(workload, "bdia-naive", seed=1, gamma="0.5").gradient_error
    assert naive.keys() == {None, *range(DEPTH)}
    assert all(value is not None and value > 0.0 for block, value in naive.items() if block != DEPTH - 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("bdia", 9, "0.5", ""), ("bdia-naive", None, "0.5", "_naive")]),
        ({"bits": 5, "gamma": "0.25"}, [("bdia", 5, "0.25", ""), ("bdia-naive", None, "0.25", "_naive")]),
        ({"method": "bdia-naive", "bits": None}, [("bdia-naive", None, "0.5", "")]),
        ({"method": "bdia-stored", "bits": 6}, [("bdia", 6, "0.5", ""), ("bdia-naive", None, "0.5", "_naive")]),
        ({"method": "bdia-stored", "gamma": "0.6"}, [("bdia-naive", None, "0.6", "_naive")]),
        ({"method": "bdia-unquantised", "bits": None, "gamma": "0"}, []),
        ({"method": "standard", **PLAIN}, [("bdia", 9, "0.5", ""), ("bdia-naive", None, "0.5", "_naive")]),
        ({"method": "two-stream", **PLAIN}, [("two-stream", None, None, "")]),
    ],
)
def test_whose_rebuilding_is_looked_at(changes: dict[str, Any], expected: list[Any]) -> None:
    """The arm's own, or that of BDIA at its weights; by eq. 16 beside it; none that its γ rules out."""
    found = subjects.rebuilders(plan(**changes).case)
    assert [(one.method.name, one.bits, one.gamma, one.suffix) for one in found] == expected


def test_headroom_is_of_the_stream_that_trains() -> None:
    """max |x| and the largest exact l are those that the method's own forward reports."""
    asked = plan(bits=5)
    workload = trained(asked)
    torch.manual_seed(1)
    with attaching.attach_planned(workload, asked) as handle:
        workload.loss(workload.model, workload.batch)
        assert handle.headroom is not None
        expected = {"max_abs": handle.headroom.max_abs, "largest_bits": handle.headroom.largest_bits}
    found = seen("headroom", asked, workload)
    assert {one["name"]: one["value"] for one in found} == expected


@pytest.mark.parametrize(("scale", "bits"), [(1.0, None), (1e6, 4.0), (1e9, 0.0), (math.inf, None)])
def test_headroom_shrinks_as_the_stream_grows(scale: float, bits: float | None) -> None:
    """Where no l is left it is 0, and where the stream is not finite there is neither number."""
    asked = plan(method="standard", **PLAIN)
    workload = build(asked.case)
    with torch.no_grad():
        workload.model.transformer.wpe.weight[0, 0] = scale
    found = {one["name"]: one["value"] for one in seen("headroom", asked, workload)}
    if math.isinf(scale):
        assert found == {"max_abs": None, "largest_bits": None}
    elif bits is None:
        assert found["largest_bits"] > 9
    else:
        assert found["max_abs"] == pytest.approx(scale, rel=1e-3)
        assert found["largest_bits"] == bits


def test_a_stream_that_is_never_rounded_has_no_l() -> None:
    """Of two streams the largest |x| is told alone."""
    found = seen("headroom", plan(method="two-stream", **PLAIN))
    assert [one["name"] for one in found] == ["max_abs"]


@pytest.mark.parametrize("case", [GPT, VIT], ids=["gpt", "vit"])
def test_a_gamma_of_zero_at_inference_is_the_plain_model(case: Case) -> None:
    """Its loss is that of plain evaluation on the same batches, to the last bit; any other γ gives another."""
    asked = plan(case)
    workload = trained(asked)
    found = seen("gamma-inference", asked, workload)
    losses = values(found, "loss_at_gamma")
    assert tuple(losses) == GAMMAS
    assert losses[0.0] == values(found, "loss_plain")[None]
    assert len(set(losses.values())) == len(GAMMAS)
    workload.model.eval()
    with torch.no_grad():
        expected = [float(workload.loss(workload.model, batch)) for batch in held_out(workload)]
    assert losses[0.0] == sum(case.batch * loss for loss in expected) / (2 * case.batch)  # type: ignore[operator]


def test_accuracy_is_the_share_of_right_answers() -> None:
    """Of plain evaluation at γ = 0; a model of text has none."""
    asked = plan(VIT)
    workload = trained(asked)
    accuracies = values(seen("gamma-inference", asked, workload), "accuracy_at_gamma")
    assert tuple(accuracies) == GAMMAS
    workload.model.eval()
    with torch.no_grad():
        right = [int((workload.model(x)[0].argmax(-1) == labels).sum()) for x, labels in held_out(workload)]
    assert accuracies[0.0] == sum(right) / 6
    assert not values(seen("gamma-inference", plan()), "accuracy_at_gamma")


def test_without_held_out_batches_nothing_is_evaluated() -> None:
    """One line, and no mean of nothing."""
    with pytest.raises(UsageError, match="gamma-inference: there are no held-out batches"):
        WATCHES["gamma-inference"].look(build(GPT), plan(), 0)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gamma-inference", {"method": "two-stream", **PLAIN}, "two-stream is no plain model"),
        ("drift", {"method": "bdia-stored", "gamma": "0"}, "nothing can be rebuilt of bdia-stored with γ = 0"),
        ("headroom", {"method": "peer-revlib", **PLAIN}, "peer-revlib is a peer"),
    ],
)
def test_what_cannot_be_looked_at_is_said_beforehand(name: str, changes: dict[str, Any], message: str) -> None:
    """In one line, which a look raises as well."""
    asked = plan(**changes)
    obstacle = WATCHES[name].obstacle(asked.case)
    assert obstacle is not None
    assert message in obstacle
    with pytest.raises(UsageError, match=message):
        WATCHES[name].look(build(GPT), asked, 0)


def test_an_unknown_watch_is_refused_with_those_there_are() -> None:
    """One line with the likeliest."""
    assert [watch.name for watch in named(["drift", "headroom"])] == ["drift", "headroom"]
    with pytest.raises(UsageError, match=r"unknown watch 'dirft': did you mean 'drift'\? expected one of recons"):
        named(["dirft"])
