"""Checkpoints in a folder, `hf:PATH`: config.json beside weights in safetensors. Imports no torch.

Weights in pickles are refused: reading one runs whatever code it holds.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import Final

from bench.errors import UsageError

PREFIX: Final = "hf:"
CONFIG: Final = "config.json"
_PICKLED: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def is_one(model: str) -> bool:
    """Whether a model's name is a checkpoint's."""
    return model.startswith(PREFIX) and is_folder(model)


def is_folder(name: str) -> bool:
    """Whether `hf:…` names a folder: a model type has neither a separator nor a `.` or `~` at its start."""
    return re.search(r"^[.~]|[/\\]", name.removeprefix(PREFIX)) is not None


def folder(name: str) -> Path:
    """The folder that `name` stands for, once it looks like a checkpoint.

    Raises: UsageError where it is not there, has no config.json, or no weights in safetensors.
    """
    given = name.removeprefix(PREFIX)
    try:
        path = Path(given).expanduser()
        names = sorted(entry.name for entry in path.iterdir())
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"model {name!r}: {given}: {reason}; nothing is downloaded: give a checkpoint's folder, or a type such as "
            f"hf:gpt2"
        ) from error
    if CONFIG not in names:
        raise UsageError(f"model {name!r}: {given} has no {CONFIG}; give the folder that save_pretrained() wrote")
    if not any(file.endswith(".safetensors") for file in names):
        pickled = [file.name for pattern in _PICKLED for file in sorted(path.glob(pattern))]
        held = f"has pickled weights only ({pickled[0]}), and reading those may run code" if pickled else "has none"
        raise UsageError(
            f"model {name!r}: expected weights in .safetensors, {given} {held}; save it again with a "
            f"save_pretrained() of today"
        )
    return path


def digest(path: Path) -> str:
    """SHA-256 of the checkpoint's configuration and weights."""
    total = hashlib.sha256()
    for file in sorted([path / CONFIG, *path.glob("*.safetensors")]):
        state = file.stat()
        total.update(f"{_of_file(file.resolve(), state.st_size, state.st_mtime_ns)}  {file.name}\n".encode())
    return total.hexdigest()


@functools.cache
def _of_file(file: Path, size: int, changed: int) -> str:
    """Of the file as it was when it had that size and was last changed at that time: every method's record of a
    checkpoint rests on the same gigabytes, which need to be read once."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
