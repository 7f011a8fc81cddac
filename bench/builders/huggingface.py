"""Models of Hugging Face `transformers`: `hf:NAME`, a model type built from its configuration at random weights, and
`hf:PATH`, a checkpoint in a folder. Nothing is downloaded, and nothing is unpickled.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from bench import checkpoints, data, models
from bench.builders import hf_sizes
from bench.builders.checked import CheckedLoss
from bench.builders.chunked import UNLABELLED, ChunkedLoss
from bench.builders.hf_sizes import Config
from bench.builders.placed import Draw, dtype_of, placed
from bench.case import Case
from bench.data.images import images, resized
from bench.data.text import tokens
from bench.errors import UsageError, one_line
from bench.meters import is_out_of_memory
from bench.models import Input, ModelSpec
from bench.workload import Batch, Loss, Workload

Pair = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]

EVERY: Final = 7
"""One token in so many is hidden from a masked language model: about the 15% of BERT's training."""
IMAGE_SIDE: Final = 224


def _as_it_is(inputs: Tensor, targets: Tensor, vocab: int) -> tuple[Tensor, Tensor]:
    return inputs, targets


def _shifted_by_model(inputs: Tensor, targets: Tensor, vocab: int) -> tuple[Tensor, Tensor]:
    """The labels of a causal model are its inputs: it shifts them itself."""
    return inputs, inputs


def _hidden(inputs: Tensor, targets: Tensor, vocab: int) -> tuple[Tensor, Tensor]:
    """Some of the tokens [B, T] replaced by the last of the vocabulary, which no text holds as a byte, and those
    tokens as labels."""
    hidden = (torch.arange(inputs.shape[1]) % EVERY == 0).expand_as(inputs)
    return inputs.masked_fill(hidden, vocab - 1), inputs.masked_fill(~hidden, UNLABELLED)


@dataclass(frozen=True)
class Family:
    """A head with a loss: which types have it, and what it is fed."""

    auto: str
    """The class of `transformers` that makes it."""
    types: str
    """The table of `transformers` that has its types, and the class that each of them gets."""
    input: Input
    pair: Pair = _as_it_is
    """Input and labels from what the bench's data gives: input, target and vocabulary."""


FAMILIES: Final = (
    Family("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "text"),
    Family("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES", "text", _hidden),
    Family("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "text", _shifted_by_model),
    Family("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES", "images"),
)
"""Of several heads that a type has, the first: BERT, for one, can be made to predict the next token as well."""


def introduce(name: str) -> ModelSpec:
    """What the model's configuration says: text or images, and the sizes it has.

    Raises: UsageError for an unknown type, one without a head of `FAMILIES`, and a folder that will not do.
    """
    config = _config(name)
    family = _family(name, config)
    fixed = checkpoints.is_folder(name)
    sizes = {axis: size for axis in hf_sizes.NAMES if (size := hf_sizes.read(config, axis)) is not None}
    known = {*sizes, "batch"}
    if family.input == "text":
        known.add("seq")
        sizes["seq"] = _default_seq(config)
    if not fixed:
        sizes.pop("vocab", None)  # with random weights, it follows the data
    axes = models.TEXT_AXES if family.input == "text" else models.IMAGE_AXES
    return ModelSpec(
        name, f"{config.model_type} of transformers", family.input, tuple(axis for axis in axes if axis in known),
        sizes | {"batch": models.DEFAULT_BATCH}, __name__, fixed,
    )  # fmt: skip


def build(case: Case) -> Workload:
    """The model with the loss of its head, on the bench's text or images.

    Raises: UsageError for sizes that the type cannot take, a checkpoint of other sizes, and data that will not do;
    UnsupportedError where its loss cannot be taken in chunks, and is to be.
    """
    default = _config(case.model)
    family = _family(case.model, default)
    batch = case.batch or models.DEFAULT_BATCH
    count: int | None = None
    if family.input == "text":
        seq = case.seq or _default_seq(default)
        count = batch * seq
        config, draw = _text(case, default, family, batch, seq)
    else:
        config, draw = _images(case, default, batch)
    model = _made(case, family, config)
    batches = placed(case, model, draw)
    first = "input_ids" if family.input == "text" else "pixel_values"

    def named(step: int) -> dict[str, Tensor]:
        inputs, labels = batches(step)
        return {first: inputs, "labels": labels}

    own: Loss = _loss
    if case.loss_chunks > 1:
        own = chunked = ChunkedLoss(case.loss_chunks, shifted=family.pair is _shifted_by_model)
        chunked.check(case.model, model, named(0))
    loss = CheckedLoss(f"model {case.model!r}", own, torch.device(case.device), amp=case.dtype == "bf16-amp")
    return Workload(model, named(0), loss, samples=batch, tokens=count, batches=named, seed=case.seed)


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    return cast("Tensor", model(**batch).loss)


def _text(case: Case, default: Config, family: Family, batch: int, seq: int) -> tuple[Config, Draw]:
    """The configuration for sequences of T = `seq` tokens of the data, and its batches."""
    needed = data.vocab_of("text", case.data) or data.BYTE_VOCAB
    if hf_sizes.read(default, "vocab") is None or checkpoints.is_folder(case.model):
        config, vocab = _configured(case, default, {"seq": seq}), default.get_text_config().vocab_size
    else:
        vocab = case.vocab or needed
        config = _configured(case, default, {"seq": seq, "vocab": vocab})
    source = tokens(case.data, seq=seq, samples=batch, vocab=vocab, seed=case.seed)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        return family.pair(*source.batch(step), vocab)

    return config, draw


def _images(case: Case, default: Config, batch: int) -> tuple[Config, Draw]:
    """The configuration for the classes of the data, and batches of images of the size the model reads."""
    source = images(case.data, samples=batch, seed=case.seed)
    config = _configured(case, default, {}, num_labels=source.classes)
    if config.num_labels < source.classes:
        raise UsageError(
            f"model {case.model!r} has {config.num_labels} classes, its data {source.classes}; give other --data"
        )
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", None) or IMAGE_SIDE
    height, width = (side, side) if isinstance(side, int) else side
    channels = getattr(vision, "num_channels", 3)

    def draw(step: int) -> tuple[Tensor, Tensor]:
        pictures, labels = source.batch(step)
        return resized(pictures, channels, (height, width)), labels

    return config, draw


def _configured(case: Case, default: Config, sizes: dict[str, int], **options: Any) -> Config:
    """The type's configuration with the sizes of the case, or the checkpoint's, which no size may contradict."""
    given = {axis: size for axis in hf_sizes.NAMES if (size := getattr(case, axis)) is not None} | sizes
    if checkpoints.is_folder(case.model):
        for axis, size in given.items():
            own = hf_sizes.positions(default) if axis == "seq" else hf_sizes.read(default, axis)
            if own is not None and (size > own if axis == "seq" else size != own):
                limit = "positions for" if axis == "seq" else axis
                raise UsageError(f"--{axis} {size}: the checkpoint {case.model!r} has {limit} {own}; leave it out")
        config = default
    else:
        settings = hf_sizes.settings(case.model, default, given)
        try:
            config = type(default)(**settings, **options)
        except Exception as error:
            raise _refused(case.model, settings, error) from error
    if hasattr(config, "use_cache"):
        config.use_cache = False
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id or 0  # as in T5's own checkpoints
    return config


def _made(case: Case, family: Family, config: Config) -> nn.Module:
    auto = getattr(_transformers(), family.auto)
    # Of a type with several classes for one head (DeiT: with and without a teacher), `from_config` wants one named.
    config.architectures = config.architectures or list(_classes(family, config)[:1])
    try:
        if checkpoints.is_folder(case.model):
            return cast(
                "nn.Module",
                auto.from_pretrained(
                    checkpoints.folder(case.model), config=config, dtype=dtype_of(case), local_files_only=True,
                    use_safetensors=True, trust_remote_code=False,
                ),
            )  # fmt: skip
        return cast("nn.Module", auto.from_config(config, trust_remote_code=False))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _refused(case.model, {}, error) from error


def _config(name: str) -> Config:
    """The default configuration of a type, or that of a checkpoint."""
    transformers = _transformers()
    if checkpoints.is_folder(name):
        try:
            return transformers.AutoConfig.from_pretrained(
                checkpoints.folder(name), local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise _refused(name, {}, error) from error
    wanted = name.removeprefix(checkpoints.PREFIX)
    known = transformers.CONFIG_MAPPING
    if wanted not in known:
        near = difflib.get_close_matches(wanted, list(known.keys()), n=3)
        hint = f"did you mean {' or '.join(checkpoints.PREFIX + one for one in near)}? " if near else ""
        raise UsageError(
            f"model {name!r}: transformers {transformers.__version__} has no such type: {hint}expected a type such as "
            f"hf:gpt2, or a checkpoint's folder such as hf:./{wanted}"
        )
    try:
        return known[wanted]()
    except Exception as error:
        raise _refused(name, {}, error) from error


def _family(name: str, config: Config) -> Family:
    """The head that the model gets: that of the checkpoint, if it is one of `FAMILIES`, else the type's first."""
    heads = {family: _classes(family, config) for family in FAMILIES}
    saved = config.architectures or ()
    found = [one for one in FAMILIES if set(saved) & set(heads[one])] or [one for one in FAMILIES if heads[one]]
    if not found:
        raise UsageError(
            f"model {name!r}: transformers has no {config.model_type} for language modelling or image classification; "
            f"write a function that returns a bench.Workload: --model FILE.py:FUNCTION"
        )
    return found[0]


def _classes(family: Family, config: Config) -> tuple[str, ...]:
    """The classes that give the configuration's type this head; none where it has no such head."""
    tables = importlib.import_module("transformers.models.auto.modeling_auto")
    names: str | tuple[str, ...] = getattr(tables, family.types).get(config.model_type, ())
    return (names,) if isinstance(names, str) else names


def _default_seq(config: Config) -> int:
    return min(models.DEFAULT_SEQ, hf_sizes.positions(config) or models.DEFAULT_SEQ)


def _refused(name: str, settings: hf_sizes.Settings, error: Exception) -> UsageError:
    """What `transformers` has against the model, in one line."""
    asked = " with " + ", ".join(f"{key}={value}" for key, value in settings.items()) if settings else ""
    reason = one_line(f"{type(error).__name__}: {error}")
    return UsageError(f"model {name!r}: transformers cannot make it{asked}: {reason[:300]}")


def _transformers() -> Any:
    """The library, told first that there is no network: it asks the Hub about files it has no need of."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    return importlib.import_module("transformers")
