"""Workloads that no case stands for."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from bench.workload import Workload


def translator(beside: Workload) -> Workload:
    """torch's own encoder-decoder with dropout, 2 and 3 blocks, in the place of the model of another workload."""
    torch.manual_seed(0)
    model = nn.Transformer(16, 2, 2, 3, 32, dropout=0.1, batch_first=True)
    return dataclasses.replace(
        beside,
        model=model,
        batch=(torch.randn(2, 5, 16), torch.randn(2, 7, 16)),
        loss=lambda model, batch: model(*batch).square().mean(),
        optimizer=torch.optim.SGD(model.parameters()),
        blocks=None,
    )
