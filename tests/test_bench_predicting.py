"""What a child that predicts answers: counted where fake tensors do, by small steps where they do not, and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_bench_fakes import plan_of

from bench import fit, predicting
from bench.case import Plan
from bench.fit import Found

SOURCE = """\
import bench
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return x + self.linear(x).tanh()


class Model(nn.Module):
    def __init__(self, depth, width, asking, most):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.asking, self.most = asking, most

    def forward(self, x):
        if self.most is not None and len(x) > self.most:
            raise ValueError("batch too large for this model")
        if self.asking and x.sum().item() > 1e9:
            raise ValueError("never")
        for block in self.blocks:
            x = block(x)
        return x


def made(depth, width, batch, asking=False, most=None):
    model = Model(depth, width, asking, most)
    return bench.Workload(model, torch.ones(batch, 5, width), lambda model, batch: model(batch).square().mean())


def plain(case):
    return made(case.depth, case.width, case.batch)


def asking(case):
    return made(case.depth, case.width, case.batch, asking=True)


def refusing(case):
    return made(case.depth, case.width, case.batch, most=4)
"""
LIMIT = 64 * 2**10


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test is a fresh child, in a folder with models."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SOURCE)
    monkeypatch.setattr(predicting, "_IN_VAIN", {})
    predicting._peak.cache_clear()


def plan_for(function: str, **axes: Any) -> Plan:
    sizes = {"depth": 3, "width": 12, "heads": None, "seq": None, "batch": 3, "vocab": None}
    return plan_of("standard", **{"model": f"mine.py:{function}", **sizes, **axes})


def largest(plan: Plan) -> dict[str, Found]:
    answer = predicting.largest(0, plan, LIMIT)
    assert answer.status == "ok", answer.message
    return {axis: msgspec.convert(found, Found) for axis, found in answer.fields.items()}


def test_what_is_counted_needs_no_note() -> None:
    """Depth and batch are exact."""
    assert [found.note for found in largest(plan_for("plain")).values()] == [None, None]


def test_what_is_probed_says_so() -> None:
    """A size that rests on small steps is no exact one, and is as near as its lines."""
    exact, probed = largest(plan_for("plain")), largest(plan_for("asking"))
    for axis, found in probed.items():
        assert "by steps measured at" in (found.note or "")
        assert "asks for a value" in (found.note or "")
        size, true = found.size, exact[axis].size
        assert size is not None
        assert true is not None
        assert 0.8 * true <= size <= 1.25 * true


def test_what_the_model_refuses_is_not_predicted() -> None:
    """Its error is the row's, as where it is run; a smaller case is counted as ever."""
    refused = predicting.predict(0, plan_for("refusing", batch=9))
    assert (refused.status, refused.fields) == ("error", {})
    assert refused.message == "ValueError: batch too large for this model"
    counted = predicting.predict(0, plan_for("refusing"))
    assert (counted.status, counted.message) == ("ok", None)
    answer = predicting.largest(0, plan_for("refusing"), 100 * LIMIT)
    assert (answer.status, list(answer.fields)) == ("error", ["depth"])
    assert answer.message == "batch: ValueError: batch too large for this model"


def test_of_a_card_it_is_said_that_a_cpu_was_counted() -> None:
    """Beside what fits as beside a record."""
    plan = plan_for("plain", device="cuda")
    assert predicting.ON_CPU in (predicting.largest(0, plan, LIMIT).message or "")
    assert predicting.ON_CPU in (predicting.predict(0, plan).message or "")


def test_what_is_believed_of_a_size_is_not_counted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no lines, no size is asked about beyond the largest that is ever counted, also for its note."""
    asked: list[int] = []

    def peak(plan: Plan) -> tuple[int, str | None]:
        asked.append(plan.case.depth or 0)
        return 10 * (plan.case.depth or 0), "by small steps"

    monkeypatch.setattr(predicting, "_peak", peak)
    monkeypatch.setattr(predicting, "_lines", lambda plan: None)
    found = predicting._largest(plan_of("checkpoint-segments"), "depth", 1_000_005)
    assert (found.size, max(asked)) == (100_000, fit.MOST["depth"])
    assert (found.note or "").endswith("depth 128; by small steps")
