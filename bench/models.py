"""The table of models that the bench can build: what each is, which axes it has, what they are unless given.

Imports no torch, so that they can be listed and checked without it; `bench.workload` builds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from bench import axes
from bench.errors import UsageError

Input = Literal["text", "images"]


@dataclass(frozen=True)
class ModelSpec:
    """One model by name. `axes` are those that shape it or its input; an axis of that kind that is not among them
    (`seq`, `vocab`) is None. `defaults` has a value for each but `vocab`, which follows the data."""

    name: str
    summary: str
    input: Input
    axes: tuple[str, ...]
    defaults: Mapping[str, int]


_GPT_AXES: Final = ("depth", "width", "heads", "seq", "batch", "vocab")
_VIT_AXES: Final = ("depth", "width", "heads", "batch")
_VIT_DEFAULTS: Final = {"depth": 6, "width": 512, "heads": 8, "batch": 32}

MODELS: Final[tuple[ModelSpec, ...]] = (
    ModelSpec(
        "gpt", "GPT-2's shape under nanoGPT's names: no biases, no dropout, tied output layer", "text",
        _GPT_AXES, {"depth": 12, "width": 256, "heads": 4, "seq": 256, "batch": 8},
    ),
    ModelSpec(
        "vit", "the paper's ViT-small: 32×32 images, patches of 4×4, dropout 0.1", "images",
        _VIT_AXES, _VIT_DEFAULTS,
    ),
    ModelSpec(
        "vit-spt", "vit with shifted patch tokens and a learned attention temperature", "images",
        _VIT_AXES, _VIT_DEFAULTS,
    ),
)  # fmt: skip


def names() -> tuple[str, ...]:
    """The names of the table, in its order."""
    return tuple(spec.name for spec in MODELS)


def get(name: str) -> ModelSpec:
    """The model called `name`.

    Raises: UsageError where the table has no such name.
    """
    for spec in MODELS:
        if spec.name == name:
            return spec
    raise UsageError(f"unknown model {name!r}{axes.suggest(name, names())}")
