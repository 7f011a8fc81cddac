"""A model and its optimiser as they were, to be put back after a measurement in the user's own process."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Snapshot:
    """Weights, buffers, gradients, modes and the optimiser's state. Copies lie on the CPU, where on a GPU they take no
    memory from what is measured; what is put back goes into the tensors that were there."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._model = model
        self._optimizer = optimizer
        self._values = [(held, _copy(held)) for held in (*model.parameters(), *model.buffers())]
        self._gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
        self._modes = [(module, module.training) for module in model.modules()]
        self._state = [(parameter, _held(state)) for parameter, state in optimizer.state.items()]
        self._groups = [
            {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        model.zero_grad(set_to_none=True)

    def weights(self) -> None:
        """Puts weights, buffers and the optimiser back; there are no gradients then."""
        with torch.no_grad():
            for held, value in self._values:
                held.copy_(value)
        self._optimizer.state.clear()
        for parameter, state in self._state:
            self._optimizer.state[parameter] = {name: _put_back(*pair) for name, pair in state.items()}
        for group, options in zip(self._optimizer.param_groups, self._groups, strict=True):
            group.update(copy.deepcopy(options))
        self._model.zero_grad(set_to_none=True)

    def everything(self) -> None:
        """Puts the gradients and the modes back as well."""
        self.weights()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for module, training in self._modes:
            module.training = training


def _copy(held: Tensor) -> Tensor:
    return held.detach().to("cpu", copy=True)


def _held(state: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each value beside its copy."""
    return {
        name: (value, _copy(value) if isinstance(value, Tensor) else copy.deepcopy(value))
        for name, value in state.items()
    }


def _put_back(value: Any, before: Any) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(before)
    with torch.no_grad():
        return value.copy_(before)
