"""Memory over several training steps, which confirms what a probe found."""

from __future__ import annotations

import torch
from synthetic_records import case
from torch import nn

from bench.attaching import attach_planned
from bench.case import Plan
from bench.meters.memory import measure_memory
from bench.meters.training import measure_training
from bench.workload import Workload, build

CPU = torch.device("cpu")
SMALL = {"depth": 2, "width": 32, "heads": 2, "seq": 16, "batch": 3}


def test_training_peaks_where_a_step_does() -> None:
    """Twenty steps, from the first, which makes the optimiser's state, reach the peak of the one step that a probe
    measures, to within a batch."""
    for method, parts in (("standard", 1), ("checkpoint", 1), ("bdia", 1), ("standard", 3)):
        plan = Plan(case=case(method, accumulate=parts, **SMALL), measure=frozenset(("memory",)))
        workload = build(plan.case)
        with attach_planned(workload, plan) as handle:
            peak = measure_memory(workload, handle, CPU).peak_bytes
        workload = build(plan.case)
        with attach_planned(workload, plan):
            highest = measure_training(workload, CPU, 20)
        batch = sum(tensor.nbytes for tensor in workload.batch)
        assert abs(highest - peak) <= batch, method


def test_the_highest_step_counts() -> None:
    """A batch that is larger than the others is what the level is known by, wherever it comes."""
    model, batch = nn.Linear(8, 8), torch.zeros(4, 8)

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(batch)
        return found.sum()

    def batches(step: int) -> torch.Tensor:
        return torch.zeros(1000 if step == 2 else 4, 8)

    assert measure_training(Workload(model, batch, loss, batches=batches), CPU, 3) >= 2 * 1000 * 8 * 4
    assert measure_training(Workload(model, batch, loss), CPU, 3) < 1000 * 8 * 4


def test_each_step_is_an_optimisers_step() -> None:
    """The steps train: weights are others afterwards, and no gradient is left."""
    workload = build(case("standard", **SMALL))
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    measure_training(workload, CPU, 2)
    parameters = list(workload.model.parameters())
    assert all(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))
    assert all(parameter.grad is None for parameter in parameters)
