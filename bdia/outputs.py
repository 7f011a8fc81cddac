"""The x among what a block returns, whatever it wraps it in: nothing, a tuple, a list, a dataclass, a mapping."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import MutableMapping
from typing import Any

from torch import Tensor

from bdia.errors import TapeError


def hidden(outputs: Any, name: str) -> Tensor:
    """The x among what the block called `name` returned: the tensor itself, or the first item of what holds it.

    Raises: TapeError where that is no tensor.
    """
    first = _first(outputs)
    if not isinstance(first, Tensor):
        what = type(outputs).__name__
        inside = "" if first is outputs else f" whose first item is {_article(type(first).__name__)}"
        raise TapeError(
            f"{name} returned {_article(what)}{inside}: expected a tensor, or a tuple, list, dataclass or mapping "
            f"whose first item is x₊"
        )
    return first


def with_hidden(outputs: Any, x: Tensor) -> Any:
    """What the block returned, with its x replaced; of the same type, and new."""
    if isinstance(outputs, Tensor):
        return x
    if isinstance(outputs, tuple):
        rest = outputs[1:]
        return type(outputs)(x, *rest) if hasattr(outputs, "_fields") else type(outputs)((x, *rest))
    replaced: Any = copy.copy(outputs)
    if isinstance(outputs, list):
        replaced[0] = x
        return replaced
    if isinstance(outputs, MutableMapping):  # before dataclasses: Hugging Face's outputs are both, and sync the two
        replaced[next(iter(outputs))] = x
        return replaced
    return dataclasses.replace(outputs, **{dataclasses.fields(outputs)[0].name: x})


def _first(outputs: Any) -> Any:
    if isinstance(outputs, tuple | list):
        return outputs[0] if outputs else None
    if isinstance(outputs, MutableMapping):
        return next(iter(outputs.values()), None)
    if dataclasses.is_dataclass(outputs) and dataclasses.fields(outputs):
        return getattr(outputs, dataclasses.fields(outputs)[0].name)
    return outputs


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'AEIOUaeiou' else 'a'} {noun}"
