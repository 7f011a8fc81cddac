"""What a block's module was when it ran, so that a rerun in the backward meets the same module, or says why not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from bdia.errors import TapeError


class ModuleState:
    """Taken before a block's first run; `ran` completes it after."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self._name = name
        parts = tuple(module.modules())
        self._training = [(part, part.training) for part in parts]
        self._parameters = [
            (part, key, parameter, parameter._version)
            for part in parts
            for key, parameter in part._parameters.items()
            if parameter is not None and parameter.is_leaf and not parameter.is_inference()
        ]
        self._buffers = [
            (part, key, _version(buffer))
            for part in parts
            for key, buffer in part._buffers.items()
            if buffer is not None
        ]

    def ran(self) -> None:
        """Notes which buffers the run updated: running statistics, counters."""
        # Batch norm's own kernels update running statistics without moving their version.
        self._buffers = [
            (part, key, version)
            for part, key, version in self._buffers
            if isinstance(part, _NormBase) or _version(part._buffers[key]) != version
        ]

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """For a rerun: buffers that the first run updated are not updated twice.

        Raises: TapeError where a parameter was changed in place since, or a part of the block was switched between
        train() and eval().
        """
        for part, key, parameter, version in self._parameters:
            # Another object in its place is no change of this one: FSDP has others between forward and backward.
            if parameter._version != version and part._parameters.get(key) is parameter:
                raise TapeError(
                    f"a parameter of {self._name} was changed in place between forward and backward (an optimiser "
                    f"step, say): go backward before changing weights"
                )
        if any(part.training is not training for part, training in self._training):
            raise TapeError(
                f"{self._name} was switched between train() and eval() after the forward: switch after the backward"
            )
        originals = [(part, key, part._buffers[key]) for part, key, _ in self._buffers]
        for part, key, buffer in originals:
            part._buffers[key] = None if buffer is None else buffer.clone()
        # A loss that a block leaves on an attribute is the first run's: another's would hold its activations.
        attributes = [(part, _tensors_on(part)) for part, _ in self._training]
        try:
            yield
        finally:
            for part, key, buffer in originals:
                part._buffers[key] = buffer
            for part, tensors in attributes:
                vars(part).update(tensors)


def _tensors_on(part: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in vars(part).items() if isinstance(value, Tensor)}


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.is_inference() else tensor._version
