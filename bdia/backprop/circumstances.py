"""What a block's result may depend on besides its input and its weights, as it stood before and after a run.

Two looks that differ are what an error can name as the reason why a rerun gave something else.
"""

from __future__ import annotations

import hashlib
import pickle
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from bdia.backprop import ambient, rng

TORCH_RNG = "torch's RNG state"
FOREIGN_RNGS = ("Python's random", "NumPy's random")
GRAPHS = "graphs compiled"
BUFFER = ", a buffer"
MISSING = "not there"

Look = Mapping[str, object]
"""What stood when, by a name that an error can use."""


def look(name: str, module: nn.Module, device: torch.device) -> Look:
    """What the block `module`, called `name`, could find now."""
    found: dict[str, object] = {
        "grad mode": torch.is_grad_enabled(),
        "autocast": _autocast(device),
        **ambient.named(),
        TORCH_RNG: [_hash(state.numpy().tobytes()) for state in rng.state_of(device)],
        FOREIGN_RNGS[0]: hash(random.getstate()),
        "torch.compile's stance": _stance(),
        GRAPHS: _graphs(),
    }
    if "numpy" in sys.modules:
        found[FOREIGN_RNGS[1]] = _hash(pickle.dumps(sys.modules["numpy"].random.get_state()))
    for inner, part in module.named_modules():
        path = ".".join(filter(None, (name, inner)))
        for attribute, value in vars(part).items():
            if isinstance(value, bool | int | float | str | None):
                found[f"{path}.{attribute}"] = value
            elif isinstance(value, torch.Generator):
                found[f"{path}.{attribute}, a generator of its own"] = _hash(value.get_state().numpy().tobytes())
        if not isinstance(part, _NormBase):  # what batch norm updates, it does not read in training
            for key, buffer in part._buffers.items():
                if buffer is not None and not buffer.is_inference():
                    found[f"{path}.{key}{BUFFER}"] = buffer._version
    return found


@dataclass
class Circumstances:
    """Of one call: before and after its first run, and before and after its rerun."""

    before: Look
    after: Look
    before_again: Look
    after_again: Look

    def reasons(self) -> list[str]:
        """What differed between the first run and the rerun, or what a run changes that no rerun is given back."""
        again, found = self.before_again, []
        for name in {**self.before, **again}:
            then = self.before.get(name, MISSING)
            drew = self.after.get(name) != then
            if name in FOREIGN_RNGS:
                if drew:
                    found.append(f"it draws from {name}, which is not restored for a rerun: draw from torch")
            elif name == TORCH_RNG:
                if drew and again.get(name) != then:
                    found.append(f"{name} before the rerun was not that of the forward")
            elif name == GRAPHS:
                if self.after_again.get(name) != again.get(name):
                    found.append("torch.compile compiled it anew for the rerun, and the two disagree")
            elif name.endswith(BUFFER):
                if drew:
                    found.append(f"{name}, is updated by each run and read again: a rerun starts from the new value")
            elif again.get(name, MISSING) != then:
                shown = f": {then!r} in the forward, {again.get(name, MISSING)!r} in the rerun"
                found.append(name if "generator" in name else f"{name}{shown}")
        return found


def unrepeatable(run: Callable[[], torch.Tensor]) -> str:
    """What two more runs under the same circumstances say, where looking found nothing."""
    if torch.equal(run(), run()):
        return (
            "nothing that is watched (RNG, autocast, grad mode, SDPA backend, precision, compile, attributes), and the "
            "block repeats itself now: something outside of it changed since the forward"
        )
    return "it gives something else each time it runs: a counter, a cache or a random draw outside the block"


def _autocast(device: torch.device) -> str:
    kind = device.type
    return str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else "off"


def _stance() -> str:
    """`torch.compiler.set_stance`: whether compiled code runs at all. None is compiled before dynamo is imported."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return "default" if dynamo is None else str(dynamo._stance.stance)


def _graphs() -> int:
    """Graphs compiled so far in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["stats"]["unique_graphs"])


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
