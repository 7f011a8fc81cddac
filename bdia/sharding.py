"""Modules whose weights FSDP2 has sharded, told without importing it."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any, cast

from torch import nn


def is_sharded(module: nn.Module) -> bool:
    """Whether `fully_shard` was applied to it: its class has an `unshard` then."""
    return isinstance(getattr(type(module), "unshard", None), types.FunctionType)


@contextlib.contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """With all of the module's weights, which FSDP's hooks gather only where autograd goes."""
    if not is_sharded(module):
        yield
        return
    cast("Any", module).unshard()
    try:
        yield
    finally:
        cast("Any", module).reshard()
