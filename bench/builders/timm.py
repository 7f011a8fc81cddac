"""Vision models of `timm`, at random weights, on the bench's images."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import models
from bench.builders.checked import CheckedLoss
from bench.builders.placed import placed
from bench.case import Case
from bench.data.images import images, resized
from bench.errors import UsageError, one_line
from bench.models import ModelSpec
from bench.workload import Batch, Workload

PREFIX: Final = "timm:"
OPTIONS: Final[Mapping[str, str]] = {"depth": "depth", "width": "embed_dim", "heads": "num_heads"}
"""What timm's transformers call the axes."""
SIZE: Final = (3, 224, 224)
"""Channels, height and width, where a model does not say."""


def introduce(name: str) -> ModelSpec:
    """A model that timm knows. Which sizes it takes shows when it is made.

    Raises: UsageError for a name that timm does not know.
    """
    timm = importlib.import_module("timm")
    wanted = name.removeprefix(PREFIX)
    if not timm.is_model(wanted):
        near = difflib.get_close_matches(wanted, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(PREFIX + one for one in near)}?" if near else "; see timm.list_models()"
        raise UsageError(f"model {name!r}: timm has no such model{hint}")
    return models.get(name)


def build(case: Case) -> Workload:
    """The model with cross-entropy over the data's classes, its images resized to what the model reads.

    Raises: UsageError where timm cannot make it as asked, such as with sizes that it does not take.
    """
    timm: Any = importlib.import_module("timm")
    batch = case.batch or models.DEFAULT_BATCH
    source = images(case.data, samples=batch, seed=case.seed)
    given = {option: value for axis, option in OPTIONS.items() if (value := getattr(case, axis)) is not None}
    try:
        model: nn.Module = timm.create_model(
            case.model.removeprefix(PREFIX), pretrained=False, num_classes=source.classes, **given
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        options = ", ".join(f"{option}={value}" for option, value in given.items()) or "its own sizes"
        reason = one_line(error)
        raise UsageError(f"model {case.model!r} cannot be made with {options}: {reason}") from error
    channels, *size = (getattr(model, "default_cfg", None) or {}).get("input_size", SIZE)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        pictures, labels = source.batch(step)
        return resized(pictures, channels, (size[0], size[1])), labels

    batches = placed(case, model, draw)
    loss = CheckedLoss(f"model {case.model!r}", _loss, torch.device(case.device), amp=case.dtype == "bf16-amp")
    return Workload(model, batches(0), loss, samples=batch, batches=batches, seed=case.seed)


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    pictures, labels = batch
    return F.cross_entropy(model(pictures).float(), labels)
