"""The built-in models: GPT and ViT, with the bench's own batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bdia.models.gpt import GPT, GPTConfig
from bdia.models.vit import ViT, ViTConfig
from bench import models
from bench.builders.placed import placed
from bench.case import Case
from bench.data.images import images
from bench.data.text import tokens
from bench.errors import UsageError
from bench.workload import Batch, Loss, Workload


def build(case: Case) -> Workload:
    """The workload of a model of the table.

    Raises: UsageError for axes that the model cannot take, and data that will not do.
    """
    return _text(case) if models.get(case.model).input == "text" else _images(case)


def _text(case: Case) -> Workload:
    seq, vocab, batch = _needed(case, "seq"), _needed(case, "vocab"), _needed(case, "batch")
    source = tokens(case.data, seq=seq, samples=batch, vocab=vocab, seed=case.seed)
    with _refusing(case):
        config = GPTConfig(
            block_size=seq, vocab_size=vocab, n_layer=_needed(case, "depth"), n_head=_needed(case, "heads"),
            n_embd=_needed(case, "width"), dropout=0.0, bias=False,
        )  # fmt: skip
    model = GPT(config)
    loss = functools.partial(_loss, amp=case.dtype == "bf16-amp", loss_chunks=case.loss_chunks)
    return _workload(case, model, model.transformer.h, source.batch, loss, tokens=batch * seq)


def _images(case: Case) -> Workload:
    source = images(case.data, samples=_needed(case, "batch"), seed=case.seed)
    width, heads = _needed(case, "width"), _needed(case, "heads")
    options = case.model == "vit-spt"
    with _refusing(case):
        if width % heads:
            raise ValueError(f"width={width} is not divisible by heads={heads}: change either one")
        config = ViTConfig(
            classes=source.classes, width=width, depth=_needed(case, "depth"), heads=heads,
            head_width=width // heads, mlp_width=width, shifted_patches=options, learned_temperature=options,
        )  # fmt: skip
    model = ViT(config)
    loss = functools.partial(_loss, amp=case.dtype == "bf16-amp")
    return _workload(case, model, model.blocks, source.batch, loss, tokens=None)


def _workload(
    case: Case,
    model: nn.Module,
    blocks: nn.ModuleList,
    draw: Callable[[int], Batch],
    loss: Loss,
    *,
    tokens: int | None,
) -> Workload:
    batches = placed(case, model, draw)
    return Workload(
        model, batches(0), loss, blocks=tuple(blocks), samples=case.batch, tokens=tokens, batches=batches,
        seed=case.seed,
    )  # fmt: skip


def _loss(model: nn.Module, batch: Batch, *, amp: bool, **options: int) -> Tensor:
    with torch.autocast(batch[0].device.type, dtype=torch.bfloat16, enabled=amp):
        loss: Tensor
        _, loss = model(*batch, **options)
    return loss


def _needed(case: Case, axis: str) -> int:
    value = getattr(case, axis)
    if not isinstance(value, int):
        raise UsageError(f"model {case.model} needs the axis {axis}: give --{axis}")
    return value


@contextmanager
def _refusing(case: Case) -> Iterator[None]:
    """Turns a model's own checks of its shape into a UsageError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"model {case.model}: {error}") from error
