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
        self._module = module
        self._training = [part.training for part in module.modules()]
        self._parameters = [(p, p._version) for p in module.parameters() if p.is_leaf and not p.is_inference()]
        self._buffers = [
            (part, key, _version(buffer))
            for part in module.modules()
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
        now = {id(parameter) for parameter in self._module.parameters()}  # FSDP has others between forward and backward
        if any(p._version != version for p, version in self._parameters if id(p) in now):
            raise TapeError(
                f"a parameter of {self._name} was changed in place between forward and backward (an optimiser step, "
                f"say): go backward before changing weights"
            )
        if [part.training for part in self._module.modules()] != self._training:
            raise TapeError(
                f"{self._name} was switched between train() and eval() after the forward: switch after the backward"
            )
        originals = [(part, key, part._buffers[key]) for part, key, _ in self._buffers]
        for part, key, buffer in originals:
            part._buffers[key] = None if buffer is None else buffer.clone()
        try:
            yield
        finally:
            for part, key, buffer in originals:
                part._buffers[key] = buffer


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.is_inference() else tensor._version
