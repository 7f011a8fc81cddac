"""From a case to the model, the batch and the loss that it measures.

Everything follows from the case: weights are drawn on the CPU from `case.seed`, so that every method and every
device starts from the same ones, and batches come from generators of their own. `build` and `train` seed torch's
global generator (`torch.manual_seed(case.seed)`) and leave it moved on: a child process has one workload at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bdia.models.gpt import GPT, GPTConfig
from bdia.models.vit import ViT, ViTConfig
from bench import models
from bench.case import Case
from bench.data.images import images
from bench.data.text import tokens
from bench.errors import UsageError

Batch = tuple[Tensor, ...]

LEARNING_RATE = 1e-3
BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Workload:
    """What one case computes: a model in training mode, a fixed batch to measure with, a loss, an optimiser."""

    model: nn.Module
    batch: Batch
    """The measured batch, number 0; on the case's device."""
    loss: Callable[[nn.Module, Batch], Tensor]
    """Forward and loss, under autocast for `bf16-amp`; the backward is the caller's, outside of it."""
    optimizer: torch.optim.Optimizer
    blocks: Sequence[nn.Module] | None
    """The residual blocks in order, for `bdia.attach`."""
    samples: int
    """B."""
    tokens: int | None
    """B·T for a model of text."""
    stream_elements: int
    """B·T·D; for a ViT, T counts the class token."""
    batches: Callable[[int], Batch]
    """Batch number s, on the case's device."""
    seed: int


def build(case: Case) -> Workload:
    """The workload of `case`, at initial weights and without gradients; `case.method` plays no part.

    Raises: UsageError for an unknown model, axes that the model cannot take, data that will not do.
    """
    spec = models.get(case.model)
    torch.manual_seed(case.seed)
    return _text(case) if spec.input == "text" else _images(case)


def train(workload: Workload, steps: int) -> None:
    """`steps` optimiser steps in place, on batches 1, 2, …; leaves no gradients.

    Whatever method is attached is the one that trains: for weights that all methods share, train first and attach
    afterwards. Runs of one case on one CPU end with the same weights; a GPU's kernels may not add in a fixed order.
    """
    torch.manual_seed(workload.seed)  # dropout must not depend on what ran before
    for step in range(1, steps + 1):
        torch.autograd.backward(workload.loss(workload.model, workload.batches(step)))
        workload.optimizer.step()
        workload.optimizer.zero_grad(set_to_none=True)


def _text(case: Case) -> Workload:
    seq, vocab = _needed(case, "seq"), _needed(case, "vocab")
    source = tokens(case.data, seq=seq, samples=case.batch, vocab=vocab, seed=case.seed)
    with _refusing(case):
        config = GPTConfig(
            block_size=seq, vocab_size=vocab, n_layer=case.depth, n_head=case.heads, n_embd=case.width,
            dropout=0.0, bias=False,
        )  # fmt: skip
    model = GPT(config)
    count = case.batch * seq
    return _workload(case, model, model.transformer.h, source.batch, tokens=count, positions=count)


def _images(case: Case) -> Workload:
    source = images(case.data, samples=case.batch, seed=case.seed)
    options = case.model == "vit-spt"
    with _refusing(case):
        if case.width % case.heads:
            raise ValueError(f"width={case.width} is not divisible by heads={case.heads}: change either one")
        config = ViTConfig(
            classes=source.classes, width=case.width, depth=case.depth, heads=case.heads,
            head_width=case.width // case.heads, mlp_width=case.width,
            shifted_patches=options, learned_temperature=options,
        )  # fmt: skip
    model = ViT(config)
    return _workload(case, model, model.blocks, source.batch, tokens=None, positions=case.batch * config.tokens)


def _workload(
    case: Case, model: nn.Module, blocks: nn.ModuleList, draw: Callable[[int], Batch], *,
    tokens: int | None, positions: int,
) -> Workload:  # fmt: skip
    dtype = torch.bfloat16 if case.dtype == "bf16" else torch.float32
    model.to(device=case.device, dtype=dtype)

    def batches(step: int) -> Batch:
        return tuple(
            part.to(device=case.device, dtype=dtype if part.is_floating_point() else part.dtype) for part in draw(step)
        )

    return Workload(
        model=model,
        batch=batches(0),
        loss=functools.partial(_loss, amp=case.dtype == "bf16-amp"),
        optimizer=torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS),
        blocks=tuple(blocks),
        samples=case.batch,
        tokens=tokens,
        stream_elements=positions * case.width,
        batches=batches,
        seed=case.seed,
    )


def _loss(model: nn.Module, batch: Batch, *, amp: bool) -> Tensor:
    with torch.autocast(batch[0].device.type, dtype=torch.bfloat16, enabled=amp):
        loss: Tensor
        _, loss = model(*batch)
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
