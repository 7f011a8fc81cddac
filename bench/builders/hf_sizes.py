"""The axes of a case as settings of a `transformers` configuration.

A configuration's `attribute_map` says what it calls `hidden_size` and the like. What has to follow when those change
is scaled in the proportion that the type's defaults have.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bench.errors import UsageError

Config = Any
"""A `transformers.PretrainedConfig`."""
Settings = dict[str, Any]

NAMES: Final[Mapping[str, str]] = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "vocab": "vocab_size",
}
"""What `transformers` calls an axis in general."""
_LAYERS: Final = ("encoder_layers", "decoder_layers", "num_decoder_layers")
_INNER_WIDTHS: Final = (
    "intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "d_inner", "hidden_dim", "n_inner",
    "ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size", "word_embed_proj_dim",
)  # fmt: skip
_HEADS: Final = ("encoder_attention_heads", "decoder_attention_heads", "num_key_value_heads", "num_kv_heads")
_HEAD_WIDTHS: Final = ("head_dim", "d_kv", "kv_channels", "rotary_dim")
_POSITIONS: Final = (
    "max_position_embeddings", "max_encoder_position_embeddings", "max_decoder_position_embeddings",
)  # fmt: skip
RESERVED_POSITIONS: Final = 2
"""Some types begin to count positions after their padding token's id, which is 1."""


def read(config: Config, axis: str) -> int | None:
    """The size that a configuration has on `axis`; None where it has none, or one for each of its stages."""
    return _whole(config, NAMES[axis])


def positions(config: Config) -> int | None:
    """The longest sequence a model has positions for; None where there is no such limit."""
    limits = [limit for name in _POSITIONS if (limit := _whole(config, name)) is not None and limit > 0]
    return min(limits, default=None)


def settings(name: str, default: Config, sizes: Mapping[str, int]) -> Settings:
    """The settings that give a type with the configuration `default` the `sizes` by axis, `seq` among them.

    Raises: UsageError for an axis that the type does not have, and a width that the heads do not divide.
    """
    for axis in sizes:
        if axis in NAMES and read(default, axis) is None:
            raise UsageError(f"model {name!r}: its configuration has no one {axis}; leave --{axis} out")
    found: Settings = {NAMES[axis]: size for axis, size in sizes.items() if axis in NAMES}
    if "depth" in sizes:
        found |= dict.fromkeys(_held(default, _LAYERS), sizes["depth"])
        if hasattr(default, "attention_types"):  # GPT-Neo's, which has to name one for each of its blocks
            found["attention_types"] = [[[("global", "local")[block % 2]], 1] for block in range(sizes["depth"])]
    if "width" in sizes:
        old = read(default, "width") or 1
        found |= {inner: max(1, size * sizes["width"] // old) for inner, size in _held(default, _INNER_WIDTHS).items()}
    if "width" in sizes or "heads" in sizes:
        found |= _heads(name, default, sizes)
    if "seq" in sizes:
        needed = sizes["seq"] + RESERVED_POSITIONS
        found |= {limit: needed for limit, size in _held(default, _POSITIONS).items() if 0 < size < needed}
    if "vocab" in sizes:
        # The ids of special tokens come from the type's own vocabulary; 0 is in any, and in no text.
        tokens = [key for key in vars(default) if key.endswith("_token_id")]
        found |= {token: 0 for token, value in _held(default, tokens).items() if value >= sizes["vocab"]}
    return {default.attribute_map.get(key, key): value for key, value in found.items()}


def _heads(name: str, default: Config, sizes: Mapping[str, int]) -> Settings:
    """What follows from width and heads: the heads of keys and values, and the width of one head."""
    old_width, old_heads = read(default, "width"), read(default, "heads")
    width, heads = sizes.get("width", old_width), sizes.get("heads", old_heads)
    if not (width and heads and old_width and old_heads):
        return {}
    if width % heads:
        raise UsageError(
            f"model {name!r}: width {width} is not divisible by heads {heads}; give another --width or --heads"
        )
    found: Settings = {}
    for key, count in _held(default, _HEADS).items():
        shared = max(1, heads * count // old_heads)
        found[key] = next(fitting for fitting in range(shared, 0, -1) if heads % fitting == 0)
    for key, size in _held(default, _HEAD_WIDTHS).items():
        scaled = size * width * old_heads // (heads * old_width)
        # Rotary embeddings take an even width; one that is merely the width over the heads is as even as those are.
        found[key] = max(1, scaled if size * old_heads == old_width else scaled + scaled % 2)
    return found


def _held(config: Config, names: Iterable[str]) -> dict[str, int]:
    """Those of the settings that the configuration has as whole numbers."""
    return {name: value for name in names if (value := _whole(config, name)) is not None}


def _whole(config: Config, name: str) -> int | None:
    own = config.attribute_map.get(name, name)
    # What a type derives from other settings, as a width from that of its first stage, would be set in vain.
    if own not in inspect.signature(type(config)).parameters:
        return None
    value = getattr(config, own, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
