"""Key-value caches among a block's arguments: an object that the block itself changes as it runs.

A model that trains with `use_cache` on, as Hugging Face's do by default, hands every block one. A rerun that found it
filled by the first run would attend to everything twice. So each run of a block in a chain gets a copy of the cache as
it was handed over, and the cache itself stays as it is. The tensors in it are shared, not copied. An empty cache, which
tells a block nothing, is left out: keys and values would only be copied into it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor


def is_cache(value: object) -> bool:
    """Whether `value` is a cache, or a layer of one, by what it can do: it takes new keys, and says how many it has."""
    return callable(getattr(value, "update", None)) and callable(getattr(value, "get_seq_length", None))


def is_empty(cache: Any) -> bool:
    """Whether a cache holds no keys yet."""
    return bool(cache.get_seq_length() == 0)


def copied(cache: Any, on_tensor: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Any:
    """A copy of a cache in which adding to it leaves the original as it is; `on_tensor` of each tensor in it."""
    if isinstance(cache, Tensor):
        return on_tensor(cache)
    if type(cache) in (list, tuple):
        return type(cache)(copied(item, on_tensor) for item in cache)
    fresh = copy.copy(cache) if isinstance(cache, dict | set) or is_cache(cache) else cache
    if isinstance(fresh, dict):
        fresh.update({key: copied(item, on_tensor) for key, item in fresh.items()})
    elif is_cache(fresh):
        vars(fresh).update({name: copied(item, on_tensor) for name, item in vars(fresh).items()})
    return fresh


def tensors_in(cache: Any) -> list[Tensor]:
    """The tensors that a cache holds."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    copied(cache, note)
    return found
