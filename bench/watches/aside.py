"""A workload as if nobody had trained it yet: methods off, no gradients, buffers to spare, an RNG state of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from bdia.attached import Attached, beneath, instance_forward, restore
from bdia.backprop import rng
from bench.workload import Workload


@contextlib.contextmanager
def aside(workload: Workload, *, seed: int) -> Iterator[None]:
    """Puts aside what training has made of `workload`, and back again: the method attached, which counts no forward and
    draws no γ inside; gradients; buffers; train() or eval() of each module; RNG states, for which `seed` stands in.

    Weights and the optimiser are the caller's to leave alone. Nothing is copied but buffers.
    """
    modules = list(workload.model.modules())
    modes = [module.training for module in modules]
    forwards = [(module, instance_forward(module)) for module in modules]
    attached = [(module, forward) for module, forward in forwards if isinstance(forward, Attached)]
    gradients = [(parameter, parameter.grad) for parameter in workload.model.parameters()]
    buffers = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items()]
    states = rng.state_of(workload.device)
    try:
        for module, forward in attached:
            restore(module, beneath(forward))
        copies: dict[int, Tensor] = {}  # one that several modules share is shared still
        for module, name, buffer in buffers:
            if buffer is not None:
                module._buffers[name] = copies.setdefault(id(buffer), buffer.clone())
        for parameter, _ in gradients:
            parameter.grad = None
        with rng.restored(states, workload.device):
            torch.manual_seed(seed)
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
        for module, forward in attached:
            restore(module, forward)
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
