"""Models of timm, on a stand-in of its shape: `create_model`, and a `blocks` sequence under one forward."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from measuring import measured
from test_bench_huggingface import case

from bench import models, suite
from bench.builders import timm as builder
from bench.case import Plan
from bench.errors import UsageError
from bench.workload import build

STAND_IN = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.mlp(self.norm(x))

class VisionTransformer(nn.Module):
    def __init__(self, num_classes, depth=4, embed_dim=12, num_heads=2):
        super().__init__()
        self.default_cfg = {"input_size": (3, 16, 16)}
        self.patch_embed = nn.Conv2d(3, embed_dim, 8, 8)
        self.blocks = nn.Sequential(*[Block(embed_dim) for _ in range(depth)])
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, x):
        return self.head(self.blocks(self.patch_embed(x).flatten(2).transpose(1, 2)).mean(1))

def is_model(name):
    return name in list_models()

def list_models():
    return ["vit_tiny", "resnet"]

def create_model(name, pretrained=False, num_classes=1000, **kwargs):
    assert not pretrained
    if name == "resnet" and kwargs:
        raise TypeError("ResNet.__init__() got an unexpected keyword argument 'embed_dim'")
    return VisionTransformer(num_classes, **kwargs)
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `timm` on the path."""
    (tmp_path / "timm.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)


def test_a_model_of_timm_is_measured() -> None:
    """Its blocks are found and rebuilt bit for bit, on images of the size that it reads."""
    found = measured(Plan(case("timm:vit_tiny", batch=2), frozenset({"memory", "gradients", "reconstruction"})))
    assert (found.status, found.message) == ("ok", None)
    assert (found.fields["bit_exact"], found.fields["gradient_error"]) == (True, 0.0)
    assert (found.fields["blocks"], found.fields["stream_elements"]) == (4, 2 * 4 * 12)
    assert build(case("timm:vit_tiny", batch=2)).batch[0].shape == (2, 3, 16, 16)


def test_sizes_are_passed_where_the_model_takes_them() -> None:
    """Depth, width and heads go by timm's names; a model that does not take them is refused with its reason."""
    model = build(case("timm:vit_tiny", depth=3, width=8, heads=2)).model
    assert (len(model.blocks), model.head.in_features, model.head.out_features) == (3, 8, 10)
    with pytest.raises(UsageError, match="timm:resnet' cannot be made with embed_dim=8: ResNet") as caught:
        build(case("timm:resnet", width=8))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_by_its_neighbours() -> None:
    """timm is asked for its names before anything runs."""
    assert builder.introduce("timm:vit_tiny") == models.get("timm:vit_tiny")
    with pytest.raises(UsageError, match=r"timm has no such model; did you mean timm:vit_tiny\?"):
        builder.introduce("timm:vit_tny")


def test_its_sizes_are_its_own_unless_given() -> None:
    """A plan has a small batch, no vocabulary, and no size that was not asked for."""
    overrides: dict[str, Any] = {"model": ("timm:vit_tiny",), "depth": (3,)}
    (plan, *_) = suite.load("model").plans(overrides, "cpu")
    sizes = (plan.case.depth, plan.case.width, plan.case.heads, plan.case.seq, plan.case.batch, plan.case.vocab)
    assert sizes == (3, None, None, None, models.DEFAULT_BATCH, None)
    with pytest.raises(UsageError, match="timm:vit_tiny has no vocab"):
        suite.load("model").plans({"model": ("timm:vit_tiny",), "vocab": (300,)}, "cpu")
