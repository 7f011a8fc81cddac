"""The built-in models: GPT, ViT and ResNet, with the bench's own batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from bdia.attachment import Blocks
from bdia.models.gpt import GPT, GPTConfig
from bdia.models.resnet import ResNet, ResNetConfig
from bdia.models.vit import ViT, ViTConfig
from bench import models
from bench.builders.placed import placed
from bench.case import Case
from bench.data.images import Images, images
from bench.data.splits import Split
from bench.data.text import Tokens, tokens
from bench.errors import UsageError
from bench.workload import Batch, Loss, Workload

Source = Tokens | Images
"""What a model is fed."""


def build(case: Case) -> Workload:
    """The workload of a model of the table.

    Raises: UsageError for axes that the model cannot take, and data that will not do.
    """
    return assembled(case, source(case))


def source(case: Case, split: Split = "all", *, augment: bool = False) -> Source:
    """What the model is fed, or that part of it (`bench.data.splits`); images may be augmented.

    Raises: UsageError for data that will not do.
    """
    samples = _needed(case, "batch")
    if models.get(case.model).input == "images":
        return images(case.data, samples=samples, seed=case.seed, split=split, augment=augment)
    seq, vocab = _needed(case, "seq"), _needed(case, "vocab")
    return tokens(case.data, seq=seq, samples=samples, vocab=vocab, seed=case.seed, split=split)


def assembled(case: Case, source: Source, dropout: float | None = None) -> Workload:
    """The model of a case, fed from `source`; `dropout` in the place of its own.

    Raises: UsageError for axes that the model cannot take.
    """
    if not isinstance(source, Images):
        return _text(case, source, dropout)
    return _resnet(case, source, dropout) if case.model == "resnet" else _vit(case, source, dropout)


def _text(case: Case, source: Tokens, dropout: float | None) -> Workload:
    with _refusing(case):
        config = GPTConfig(
            block_size=source.seq, vocab_size=source.vocab, n_layer=_needed(case, "depth"),
            n_head=_needed(case, "heads"), n_embd=_needed(case, "width"), bias=False, dropout=dropout or 0.0,
        )  # fmt: skip
    model = GPT(config)
    loss = functools.partial(_loss, amp=case.dtype == "bf16-amp", loss_chunks=case.loss_chunks)
    count = source.samples * source.seq
    return _workload(case, model, tuple(model.transformer.h), source.batch, loss, tokens=count)


def _vit(case: Case, source: Images, dropout: float | None) -> Workload:
    width, heads = _needed(case, "width"), _needed(case, "heads")
    shifted = case.model == "vit-spt"
    with _refusing(case):
        if width % heads:
            raise ValueError(f"width={width} is not divisible by heads={heads}: change either one")
        config = ViTConfig(
            classes=source.classes, width=width, depth=_needed(case, "depth"), heads=heads,
            head_width=width // heads, mlp_width=width, shifted_patches=shifted, learned_temperature=shifted,
        )  # fmt: skip
    if dropout is not None:
        config = replace(config, dropout=dropout, embedding_dropout=dropout)
    model = ViT(config)
    loss = functools.partial(_loss, amp=case.dtype == "bf16-amp")
    return _workload(case, model, tuple(model.blocks), source.batch, loss, tokens=None)


def _resnet(case: Case, source: Images, dropout: float | None) -> Workload:
    with _refusing(case):
        config = ResNetConfig(
            classes=source.classes, width=_needed(case, "width"), depth=_needed(case, "depth"), dropout=dropout or 0.0
        )
    model = ResNet(config)
    loss = functools.partial(_loss, amp=case.dtype == "bf16-amp")
    return _workload(case, model, model.chains, source.batch, loss, tokens=None)


def _workload(
    case: Case,
    model: nn.Module,
    blocks: Blocks,
    draw: Callable[[int], Batch],
    loss: Loss,
    *,
    tokens: int | None,
) -> Workload:
    batches = placed(case, model, draw)
    return Workload(
        model, batches(0), loss, blocks=blocks, samples=case.batch, tokens=tokens, batches=batches,
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
