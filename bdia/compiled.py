"""Blocks that were compiled with `block.compile()`.

That compiles a module's whole `__call__`, the forward put in by attaching included, at which the compiler stops. What
is to be compiled is the block's own forward, inside its region: then one compiled forward serves first run and rerun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Forward = Callable[..., Any]


class CompiledForward:
    """A block's own forward, compiled whenever the block is, with the options that `block.compile` was given.

    Compiled code is never copied or pickled, as in any module: a copy compiles its own.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._asked: tuple[object, object] | None = None
        self._compiled: Forward | None = None

    def __call__(self, forward: Forward) -> Forward:
        """`forward`, or the compiled form of it."""
        asked = getattr(self._module, "_compiled_call_impl", None)
        if asked is None:
            return forward
        if self._compiled is None or self._asked != (asked, forward):
            self._asked = (asked, forward)
            self._compiled = _with_options_of(asked)(forward)
        return self._compiled

    def __getstate__(self) -> dict[str, Any]:
        return {"_module": self._module, "_asked": None, "_compiled": None}


def _with_options_of(compiled: Any) -> Callable[[Forward], Forward]:
    """What compiles another function as `compiled` was. torch keeps its options in a closure; should it move them, the
    defaults take their place."""
    from torch._dynamo.eval_frame import _TorchDynamoContext  # slow, and imported by now

    cells = [cell.cell_contents for cell in getattr(compiled, "__closure__", None) or ()]
    return next((cell for cell in cells if isinstance(cell, _TorchDynamoContext)), torch.compile)
