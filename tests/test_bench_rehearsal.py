"""What the doctor's child finds out: which blocks come back, and what training would hold."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from synthetic_records import case
from workloads import translator

from bdia.methods import get
from bench.meters.rehearsal import measure_rehearsal
from bench.workload import Workload, build

DEPTH = 4


@pytest.fixture
def workload() -> Workload:
    return build(case(depth=DEPTH, width=32, heads=2, seq=16, batch=2))


def test_what_training_holds_is_counted(workload: Workload) -> None:
    """Side bits are those of every block but the first, m an activation; nothing is left on the model."""
    for gamma, m in (("0.5", 1), ("0.25", 2)):
        found = measure_rehearsal(workload, get("bdia"), 9, seed=0, gamma=gamma)
        assert found.side_bytes == m * (DEPTH - 1) * 2 * 16 * 32 // 8
    assert all("forward" not in module.__dict__ for module in workload.model.modules())
    assert all(parameter.grad is None for parameter in workload.model.parameters())


def test_a_block_that_is_not_stable_is_named(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that counts its calls gives another y when it runs again; the others are stable."""
    block = workload.model.transformer.h[1]
    forward, runs = block.forward, itertools.count()
    monkeypatch.setattr(block, "forward", lambda x: forward(x) + next(runs))
    found = measure_rehearsal(workload, get("bdia"), 9, seed=0)
    assert [one.stable for one in found.blocks] == [number != 1 for number in range(DEPTH)]
    assert found.blocks[1].name == "transformer.h.1"
    assert found.blocks[1].max_abs_difference == pytest.approx(1.0, rel=1e-3)
    assert found.blocks[1].reason


def test_what_cannot_be_attached_is_an_obstacle(workload: Workload) -> None:
    """Why a method cannot be attached is found out, beside the plain loss."""
    found = measure_rehearsal(dataclasses.replace(workload, blocks=()), get("bdia"), 9, seed=0)
    assert "blocks is empty" in (found.obstacle or "")
    assert found.loss_plain is not None
    assert found.loss_method is None


def test_an_encoder_decoder_has_two_chains(workload: Workload) -> None:
    """The blocks of both chains are examined."""
    found = measure_rehearsal(translator(workload), get("bdia"), 9, seed=0)
    assert [len(names) for names in found.chains] == [2, 3]
    assert [one.stable for one in found.blocks] == [True] * 5
    assert found.side_bytes == (1 * 2 * 5 * 16 + 2 * 2 * 7 * 16) // 8
