"""Checkpoints: all that the rest of a training run follows from, so that one that was killed ends with
the same weights.

A checkpoint is a folder `step-N`: `model.safetensors`, `optimizer.safetensors`, `rng.safetensors`, `state.json`, and
the SHA-256 of each, so that one which a disk has changed is not gone on with. It is written under another name and
renamed, so that there is a whole one or none. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bdia.backprop import rng
from bench.record import UNREADABLE
from bench.training.folders import STEP, checkpoints

KEPT: Final = 2
"""The last so many checkpoints are kept: a disk may have filled up, or gone bad, over the very last."""
MODEL: Final = "model.safetensors"
OPTIMIZER: Final = "optimizer.safetensors"
RNG: Final = "rng.safetensors"
STATE: Final = "state.json"
SUMS: Final = "SHA256SUMS"
"""Of the others, as `sha256sum --check` reads it."""


class Progress(msgspec.Struct, kw_only=True):
    """How far a run has come, beside its weights and its optimiser. Sums are over the steps since the last look."""

    step: int = 0
    losses: float | None = 0.0
    """Sum over `steps`; None where it is not finite."""
    right: int = 0
    samples: int = 0
    steps: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    """Of all steps."""
    train_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    best_validation_loss: float | None = None
    best_validation_accuracy: float | None = None


class _State(msgspec.Struct, kw_only=True):
    """`state.json`."""

    fingerprint: str
    """Of what the run rests on: a checkpoint of another code, recipe, data or machine is of no use to it."""
    progress: Progress
    gamma: dict[str, int]
    """Where γ's source stands."""
    scalars: dict[str, dict[str, Any]]
    """What the optimiser keeps of each parameter that is no tensor."""


class Trained(msgspec.Struct):
    """What a checkpoint is of."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    fingerprint: str


class Checkpoints:
    """The checkpoints of one run, in a folder of its own."""

    def __init__(self, folder: Path, trained: Trained) -> None:
        self._folder = folder
        self._trained = trained

    def save(self, progress: Progress, gamma: Mapping[str, int]) -> None:
        """Writes a checkpoint, and removes those before the last `KEPT`.

        Raises: OSError where there is no room.
        """
        trained = self._trained
        place = self._folder / f"{STEP}{progress.step}"
        part = place.with_name(f".{place.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            tensors, scalars = _flat(trained.optimizer)
            states = rng.state_of(trained.device)
            _save(weights(trained.model), part / MODEL)
            _save(tensors, part / OPTIMIZER)
            _save({str(number): state for number, state in enumerate(states)}, part / RNG)
            state = _State(fingerprint=trained.fingerprint, progress=progress, gamma=dict(gamma), scalars=scalars)
            (part / STATE).write_bytes(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
            (part / SUMS).write_text(_sums(part))
            for file in part.iterdir():
                _sync(file)
            _sync(part)
            if place.exists():  # of a fingerprint that is of no use any more
                shutil.rmtree(place)
            part.rename(place)
            _sync(self._folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        for _, old in checkpoints(self._folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def load(self) -> tuple[Progress, dict[str, int]] | None:
        """Puts model, optimiser and torch's RNG where the latest checkpoint that is whole left them. Returns how far
        that was and where γ's source stood; None where there is none, and nothing is changed then. What is of no use is
        removed."""
        found = None
        for _, place in checkpoints(self._folder):
            if found is None:
                with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError, *UNREADABLE):
                    found = self._load(place)
            if found is None:
                shutil.rmtree(place, ignore_errors=True)
        return found

    def _load(self, place: Path) -> tuple[Progress, dict[str, int]] | None:
        trained = self._trained
        if (place / SUMS).read_text() != _sums(place):
            return None
        state = msgspec.json.decode((place / STATE).read_bytes(), type=_State)
        if state.fingerprint != trained.fingerprint:
            return None
        # All is read before anything is changed.
        model, optimizer = load_file(place / MODEL), load_file(place / OPTIMIZER)
        states = load_file(place / RNG)
        own = weights(trained.model)
        if model.keys() != own.keys() or any(own[name].shape != model[name].shape for name in own):
            return None
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(model[name])
        _restore(trained.optimizer, optimizer, state.scalars)
        torch.set_rng_state(states["0"])
        if trained.device.type == "cuda":
            torch.cuda.set_rng_state(states["1"], trained.device)
        return state.progress, state.gamma

    def finish(self) -> str:
        """Writes the final weights beside the checkpoints. Returns their digest.

        Raises: OSError where there is no room.
        """
        final = self._folder / MODEL
        part = final.with_name(f".{MODEL}.part")
        self._folder.mkdir(parents=True, exist_ok=True)
        held = weights(self._trained.model)
        _save(held, part)
        _sync(part)
        part.replace(final)
        return digest(held)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those of them that are one tensor under the first of its names."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, formats, shapes and bytes."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].cpu().contiguous()
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            whole.update(tensor.flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _flat(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """What an optimiser keeps of each parameter, by its number: tensors as `NUMBER.NAME`, and the rest."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{number}.{name}"] = value
            else:
                scalars.setdefault(str(number), {})[name] = value
    return tensors, scalars


def _restore(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], scalars: Mapping[str, Mapping[str, Any]]
) -> None:
    state: dict[int, dict[str, Any]] = {int(number): dict(kept) for number, kept in scalars.items()}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def _sums(place: Path) -> str:
    """The text of `SUMS` for what is in a checkpoint's folder.

    Raises: OSError where a file is missing.
    """
    lines = []
    for name in (MODEL, OPTIMIZER, RNG, STATE):
        with (place / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def _sync(path: Path) -> None:
    """Has a file, or what a folder lists, on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
