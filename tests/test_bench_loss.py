"""The loss with a method and without, at the same weights and from the same RNG state."""

from __future__ import annotations

import pytest
import torch
from synthetic_records import case

from bdia.backprop import rng
from bench.meters.loss import LossReading, measure_loss
from bench.workload import Workload, build


@pytest.fixture(scope="module")
def workload() -> Workload:
    """A ViT, whose dropout draws."""
    return build(case("bdia", model="vit", depth=3, width=16, heads=2, seq=None, vocab=None, batch=2))


def measured(workload: Workload, method: str) -> LossReading:
    torch.manual_seed(0)
    return measure_loss(workload, method, 9 if method in ("bdia", "bdia-stored") else None, seed=0)


@pytest.mark.parametrize("method", ["standard", "checkpoint"])
def test_a_plain_method_has_the_plain_loss(workload: Workload, method: str) -> None:
    """Methods that compute the plain transformer have its loss to the last bit, dropout and all."""
    reading = measured(workload, method)
    assert reading.loss_method == reading.loss_plain
    assert reading.headroom is None


def test_bdia_is_another_function(workload: Workload) -> None:
    """BDIA's loss is not the plain one, and its stored and its reversible form have the same."""
    reading = measured(workload, "bdia")
    assert reading.loss_method != reading.loss_plain
    assert reading.loss_plain == measured(workload, "standard").loss_plain
    assert reading == measured(workload, "bdia-stored")
    assert reading.stream_dtype == "float32"
    assert reading.headroom is not None


def test_the_workload_and_the_rng_are_left_as_a_forward_leaves_them(workload: Workload) -> None:
    """Measuring with a method advances the RNG by one plain forward, whatever the method, and leaves nothing on."""
    device = torch.device("cpu")
    torch.manual_seed(1)
    measure_loss(workload, "bdia", 9, seed=0)
    after = rng.state_of(device)
    torch.manual_seed(1)
    with torch.no_grad():
        workload.loss(workload.model, workload.batch)
    assert rng.same(after, rng.state_of(device))
    assert all("forward" not in module.__dict__ for module in workload.model.modules())
