"""The models by name: the table of those that the bench builds itself, and the forms that name any other.

Imports no torch, so that they can be listed and checked without it; `bench.workload` builds them. What a model from
outside the table is (text or images, which sizes it has) only its own library knows: until a fresh process has said so
(`bench.probe.introduce`), its specification leaves that open.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from bench import axes, checkpoints, resolve
from bench.errors import UsageError

Input = Literal["text", "images"]

SIZES: Final = ("depth", "width", "heads", "seq", "vocab")
"""Axes that a model may lack, or settle itself."""
TEXT_AXES: Final = ("depth", "width", "heads", "seq", "batch", "vocab")
IMAGE_AXES: Final = ("depth", "width", "heads", "batch")
_FUNCTION: Final = "bench.builders.function"
DEFAULT_BATCH: Final = 4
DEFAULT_SEQ: Final = 128
"""Samples a step, and tokens a sample, of models from outside the table: small, as nothing is known of their size."""


@dataclass(frozen=True)
class ModelSpec:
    """One model by name. `axes` are those that shape it or its input; of `SIZES`, one that is not among them is None.
    In the table, `defaults` has a value for each but `vocab`, which follows the data."""

    name: str
    summary: str
    input: Input | None
    """None where it is not known, or the model brings its own input."""
    axes: tuple[str, ...]
    defaults: Mapping[str, int] = field(default_factory=dict)
    builder: str = "bench.builders.reference"
    """The module that builds it."""
    fixed: bool = False
    """A checkpoint: `defaults` are the sizes it has, and it can have no others."""
    staged: bool = False
    """x has another size in each stage, so that where memory is highest the bits of some are freed already."""
    mixes_samples: bool = False
    """Its blocks take statistics over the batch, which must not be cut inside them."""
    multiples: Mapping[str, int] = field(default_factory=dict)
    """Of some sizes, what they must be multiples of."""

    @property
    def foreign(self) -> bool:
        """Whether it comes from outside the table; a size that is not given is then its own to settle."""
        return ":" in self.name

    @property
    def own_loss(self) -> bool:
        """Whether its loss is the user's, about which nothing is known."""
        return self.builder == _FUNCTION


_VIT_DEFAULTS: Final = {"depth": 6, "width": 512, "heads": 8, "batch": 32}

MODELS: Final[tuple[ModelSpec, ...]] = (
    ModelSpec(
        "gpt", "GPT-2's shape under nanoGPT's names: no biases, no dropout, tied output layer", "text",
        TEXT_AXES, {"depth": 12, "width": 256, "heads": 4, "seq": 256, "batch": 8},
    ),
    ModelSpec(
        "vit", "the paper's ViT-small: 32×32 images, patches of 4×4, dropout 0.1", "images",
        IMAGE_AXES, _VIT_DEFAULTS,
    ),
    ModelSpec(
        "vit-spt", "vit with shifted patch tokens and a learned attention temperature", "images",
        IMAGE_AXES, _VIT_DEFAULTS,
    ),
    ModelSpec(
        "resnet", "pre-activation ResNet for 32×32 images, batch norm: depth in three stages, width of the first",
        "images", ("depth", "width", "batch"), {"depth": 18, "width": 16, "batch": 32},
        staged=True, multiples={"depth": 3}, mixes_samples=True,
    ),
)  # fmt: skip

FORMS: Final[Mapping[str, str]] = {
    "hf:NAME": "a model type of transformers, as in hf:gpt2: built from its configuration, random weights",
    "hf:PATH": "a checkpoint on this machine, as in hf:./my-gpt2: config.json and safetensors",
    "timm:NAME": "a vision model of timm, as in timm:vit_small_patch16_224: random weights",
    "FILE.py:FUNCTION": "your own model, batch and loss (docs/your-own-model.md)",
    "pkg.mod:FUNCTION": "the same, in a module that is found where the command is started",
}
"""How models from outside the table are named."""

_LIBRARIES: Final = {"hf": "transformers", "timm": "timm"}


def names() -> tuple[str, ...]:
    """The names of the table, in its order."""
    return tuple(spec.name for spec in MODELS)


def of_table(name: str) -> ModelSpec | None:
    """The model called `name`, where the table has it."""
    return next((spec for spec in MODELS if spec.name == name), None)


def factor(name: str, axis: str) -> int:
    """What the value of `axis` must be a multiple of, for the model called `name`."""
    spec = of_table(name)
    return 1 if spec is None else spec.multiples.get(axis, 1)


def get(name: str) -> ModelSpec:
    """The model called `name`, as far as it is known without torch.

    Raises: UsageError where the table has no such name and it is of no other form, where the library it takes is not
    installed, and where its folder, file or module is not there.
    """
    if (spec := of_table(name)) is not None:
        return spec
    source, colon, rest = name.partition(":")
    if not colon or not rest:
        raise UsageError(f"unknown model {name!r}{axes.suggest(name, names())}, or {', '.join(FORMS)}")
    if source not in _LIBRARIES:
        resolve.model_file(name)
        return ModelSpec(name, "a function of the user's", None, TEXT_AXES, builder=_FUNCTION)
    _require(_LIBRARIES[source], name, extra=source)
    defaults = {"batch": DEFAULT_BATCH}
    if source == "timm":
        return ModelSpec(name, "of timm", "images", IMAGE_AXES, defaults, "bench.builders.timm")
    if checkpoints.is_one(name):
        checkpoints.folder(name)
    return ModelSpec(name, "of transformers", None, TEXT_AXES, defaults, "bench.builders.huggingface")


def source(name: str) -> str | None:
    """Digest of what a model of the user's is made from, a checkpoint or a file; None for any other."""
    spec = get(name)
    if not spec.foreign:
        return None
    if checkpoints.is_one(name):
        return checkpoints.digest(checkpoints.folder(name))
    return None if name.partition(":")[0] in _LIBRARIES else resolve.model_source(name)


def _require(library: str, name: str, *, extra: str) -> None:
    # What is imported already is there, whatever its specification says.
    if library not in sys.modules and importlib.util.find_spec(library) is None:
        raise UsageError(f"model {name!r} needs {library}: pip install 'bdia-bench[{extra}]'")
