"""Batch norm's running statistics, gathered anew of the model as it is at inference.

A method that draws γ trains blocks on x_k that vary otherwise than the plain model's, and batch norm would judge the
one by what it saw of the other, as it does where weights are averaged. Training reads no running statistics, so that
gathering them changes no step; but of a norm that is frozen, in eval mode, it does, and those are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from bdia.backprop import rng
from bench.batches import Batch
from bench.workload import Workload


def gather(workload: Workload, batches: Iterable[Batch]) -> None:
    """Sets running statistics to the mean over `batches` of those of each, in a forward of eval mode, with a method
    attached or not. A model without batch norm in training mode runs none.

    Leaves all else as it is: the mode of each module, torch's random generators.
    """
    modules = list(workload.model.modules())
    norms = [one for one in modules if isinstance(one, _BatchNorm) and one.track_running_stats and one.training]
    if not norms:
        return
    modes = [module.training for module in modules]
    momenta = [norm.momentum for norm in norms]
    try:
        workload.model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # of a plain mean
            norm.train()
        with torch.no_grad(), rng.restored(rng.state_of(workload.device), workload.device):
            for batch in batches:
                workload.loss(workload.model, batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in zip(modules, modes, strict=True):
            module.training = training
