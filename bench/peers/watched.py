"""Shows a watcher the blocks of a model that runs them itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn

from bdia.arguments import first_parameter, split
from bdia.backprop import Step
from bdia.outputs import hidden
from bench.peers.functions import Watching
from bench.peers.loop import original_forward, replace_forward


class _Watched:
    """Stands in for one block's forward, and runs it as it is."""

    def __init__(self, name: str, block: nn.Module, watching: Watching) -> None:
        self._name = name
        self._forward = original_forward(block)
        self._parameter = first_parameter(block)
        self._watching = watching

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        watcher = self._watching.watcher
        if watcher is None:
            return self._forward(*args, **kwargs)
        x, _, _ = split(self._name, self._parameter, args, kwargs)
        number = self._watching.next()
        watcher.forwarded(number, x.detach())
        outputs = self._forward(*args, **kwargs)
        y = hidden(outputs, self._name).detach()
        watcher.stepped(number, Step(self._name, None, (x.detach(),), y, None, (y,)))
        watcher.returned(number, y)
        return outputs


def watch(blocks: Sequence[nn.Module], names: Sequence[str], watching: Watching, undo: ExitStack) -> None:
    """Watches the blocks of one chain; `undo` gives them their own forwards back."""
    for block, name in zip(blocks, names, strict=True):
        replace_forward(block, _Watched(name, block, watching), undo)
