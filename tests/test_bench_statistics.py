"""Batch norm's running statistics, gathered anew before a model is evaluated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.attaching import attach
from bench.case import Case
from bench.recipe import Recipe
from bench.training import statistics, trainee
from bench.workload import Workload, build, train

CASE = Case(
    method="bdia", model="resnet", depth=6, width=4, heads=None, seq=None, batch=4, bits=9, vocab=None, dtype="fp32",
    train_steps=0, device="cpu", seed=0, data=None,
)  # fmt: skip


def norms_of(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}


def batches(workload: Workload, count: int = 3) -> list[Any]:
    return [workload.batches(number) for number in range(count)]


def test_they_are_those_of_the_plain_model() -> None:
    """Of each norm the mean over batches of what the plain model gives it, though BDIA has trained it and is on."""
    workload = build(CASE)
    with attach(workload, "bdia", seed=0, bits=9):
        train(workload, 2)
        statistics.gather(workload, batches(workload))
    norms, seen = norms_of(workload.model), dict[str, list[Tensor]]()
    found = {name: (norm.running_mean.double(), norm.running_var.double()) for name, norm in norms.items()}

    def see(name: str) -> Any:
        return lambda module, inputs: seen.setdefault(name, []).append(inputs[0])

    hooks = [norm.register_forward_pre_hook(see(name)) for name, norm in norms.items()]
    with torch.no_grad():
        for batch in batches(workload):
            workload.loss(workload.model, batch)
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        means = torch.stack([x.double().mean((0, 2, 3)) for x in seen[name]]).mean(0)
        variances = torch.stack([x.double().var((0, 2, 3)) for x in seen[name]]).mean(0)
        torch.testing.assert_close(found[name], (means, variances), rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1


@pytest.mark.parametrize("method", ["bdia", "two-stream"])
def test_training_goes_on_as_if_nothing_had_been(method: str) -> None:
    """Weights after further steps are equal bit for bit, with a stage that is frozen in eval mode; modes, γ and torch's
    RNG are left as they were."""
    ends = []
    for gathers in (False, True):
        workload = build(CASE)
        with attach(workload, method, seed=0, bits=9 if method == "bdia" else None) as handle:
            workload.model.stages[0].eval()
            modes = [module.training for module in workload.model.modules()]
            torch.manual_seed(3)
            for step in range(4):
                workload.loss(workload.model, workload.batches(step)).backward()
                workload.optimizer.step()
                workload.optimizer.zero_grad()
                if gathers:
                    before = handle.state_dict(), torch.get_rng_state()
                    statistics.gather(workload, batches(workload))
                    assert handle.state_dict() == before[0]
                    assert torch.equal(torch.get_rng_state(), before[1])
                    assert [module.training for module in workload.model.modules()] == modes
        ends.append({name: parameter.detach().clone() for name, parameter in workload.model.named_parameters()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_model_without_any_runs_no_forward() -> None:
    """Of a ViT nothing is gathered."""
    workload = build(Case(
        method="bdia", model="vit", depth=2, width=8, heads=2, seq=None, batch=2, bits=9, vocab=None, dtype="fp32",
        train_steps=0, device="cpu", seed=0, data=None,
    ))  # fmt: skip
    asked: list[int] = []
    statistics.gather(workload, (asked.append(number) for number in range(3)))  # type: ignore[func-returns-value]
    assert asked == []


def test_what_is_held_out_is_judged_by_them() -> None:
    """A trainee gathers them before it evaluates, of batches that it trains on, so twice gives the same."""
    made = trainee.build(CASE, Recipe(lr=1e-3, steps=4))
    with attach(made.workload, "bdia", seed=0, bits=9):
        for step in range(2):
            made.workload.loss(made.workload.model, made.workload.batches(step)).backward()
            made.workload.optimizer.step()
            made.workload.optimizer.zero_grad()
        drawn = {name: norm.running_var.clone() for name, norm in norms_of(made.workload.model).items()}
        first = made.evaluate(2).loss
        again = made.evaluate(2).loss
    gathered = norms_of(made.workload.model)
    assert first == again
    assert all(not torch.equal(norm.running_var, drawn[name]) for name, norm in gathered.items())
    assert {int(norm.num_batches_tracked) for norm in gathered.values()} == {trainee.GATHERED}
