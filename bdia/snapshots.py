"""Copies of what a block was called with, for a rerun to find it as the first run did.

Blocks change some of their arguments as they run. Foremost key-value caches: a model that trains with `use_cache` on,
as Hugging Face's do by default, hands every block one, and a rerun that found it filled would attend to everything
twice. So each run of a block in a chain gets a copy of the cache as it was handed over, which itself stays as it is. An
empty cache, which tells a block nothing, is left out: keys and values would only be copied into it. What a block
writes into a list, a dict or a dataclass stays there, and its rerun gets a copy from before.

Tensors are shared, not copied.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor


def is_cache(value: object) -> bool:
    """Whether `value` is a cache, or a layer of one, by what it can do: it takes new keys, and says how many it has."""
    return callable(getattr(value, "update", None)) and callable(getattr(value, "get_seq_length", None))


def alone(value: Any) -> Any:
    """An argument for one run: a cache is copied, an empty one left out, and anything else as it is."""
    if not is_cache(value):
        return value
    return None if value.get_seq_length() == 0 else copied(value)


def copied(value: Any, on_tensor: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Any:
    """`value` with lists, tuples, dicts, sets, dataclasses and caches of its own, at any depth, and `on_tensor` of each
    tensor in them. Other objects are shared."""
    if isinstance(value, Tensor):
        return on_tensor(value)
    if isinstance(value, tuple):
        items = [copied(item, on_tensor) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    is_dataclass = dataclasses.is_dataclass(value) and not isinstance(value, type)
    if not (isinstance(value, list | dict | set) or is_cache(value) or is_dataclass):
        return value
    fresh: Any = copy.copy(value)
    if isinstance(value, list):
        fresh[:] = [copied(item, on_tensor) for item in value]
    elif isinstance(value, dict):
        fresh.update({key: copied(item, on_tensor) for key, item in value.items()})
    elif not isinstance(value, set):
        for name, item in getattr(value, "__dict__", {}).items():
            object.__setattr__(fresh, name, copied(item, on_tensor))  # a frozen dataclass as well
    return fresh


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors that `copied` would find."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    copied(value, note)
    return found
