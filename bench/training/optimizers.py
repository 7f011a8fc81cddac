"""The optimisers by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Final, cast

import torch
from torch import nn

from bench.recipe import Optimizer, Recipe

CLASSES: Final[Mapping[Optimizer, str]] = {
    "adamw": "torch.optim:AdamW",
    "adam": "torch.optim:Adam",
    "set-adam": "bdia.optim:SetAdam",
}


def optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """That of a recipe over the parameters of `model` that are trained, at the recipe's largest learning rate.

    Weight decay is of matrices alone, as in nanoGPT.
    """
    module, _, name = CLASSES[recipe.optimizer].partition(":")
    make = cast("Callable[..., torch.optim.Optimizer]", getattr(importlib.import_module(module), name))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() >= 2]
    others = [parameter for parameter in trained if parameter.dim() < 2]
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((matrices, recipe.weight_decay), (others, 0.0))
        if parameters
    ]
    return make(groups, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Has the next step taken at `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
