"""The residual functions that a library's sequence is made of: modules that hold the model's own, for one forward.

A block is one function, h(x) = block(x) − x, or two where its halves are known: attention and MLP, each behind its
norm, as two-stream networks couple them. A watcher is shown the x that a block is given, and in the backward that x as
the library has rebuilt it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from bdia import snapshots
from bdia.backprop import Step, Watcher
from bdia.models import gpt, vit
from bdia.outputs import hidden, with_hidden

Forward = Callable[..., Any]

_HALVES: Final[dict[type[nn.Module], tuple[tuple[str, str], tuple[str, str]]]] = {
    gpt.Block: (("ln_1", "attn"), ("ln_2", "mlp")),
    vit.Block: (("norm_1", "attention"), ("norm_2", "mlp")),
}
"""Of blocks x + f(norm x), then x + g(norm x): the attributes of each half, in the order they run."""


class Watching:
    """Who watches, and the calls counted since."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self._calls = 0

    @contextmanager
    def by(self, watcher: Watcher) -> Iterator[None]:
        """Inside, `watcher` does, and calls are counted anew."""
        before = self.watcher, self._calls
        self.watcher, self._calls = watcher, 0
        try:
            yield
        finally:
            self.watcher, self._calls = before

    def next(self) -> int:
        """The number of the call that now begins, over all chains."""
        number, self._calls = self._calls, self._calls + 1
        return number


@dataclass(frozen=True)
class Call:
    """One call of one block."""

    name: str
    block: nn.Module
    forward: Forward
    """The block's own."""
    args: tuple[Any, ...]
    """Beside x."""
    kwargs: dict[str, Any]
    number: int
    watcher: Watcher | None


class Residual(nn.Module):
    """One function. The first run is the forward's; those after it are the backward's, on an x that was rebuilt."""

    def __init__(self, call: Call, *, leads: bool = True) -> None:
        """`leads` says that x is what the block is given, and not its first half's doing."""
        super().__init__()
        self.call = call
        self._leads = leads
        self._ran = False

    def h(self, x: Tensor) -> Tensor:
        """The function itself, [B, …] → [B, …]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """h(x), shown to the watcher."""
        again, self._ran = self._ran, True
        watcher, number = self.call.watcher, self.call.number
        if watcher is None:
            return self.h(x)
        if self._leads and not again:
            watcher.forwarded(number, x.detach())
            h = self.h(x)
            # What the library makes of h is its own business, and nothing may be allocated to tell.
            watcher.stepped(number, Step(self.call.name, None, (x.detach(),), h.detach(), None, ()))
            watcher.returned(number, x.detach())
            return h
        # Without gradients an inverse is under way, whose x may be another than that of the run for the gradients.
        if self._leads and torch.is_grad_enabled():
            watcher.rebuilt(number, x.detach(), ())
        with watcher.working(number):
            return self.h(x)


class Whole(Residual):
    """h(x) = block(x) − x."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.block = call.block
        self.outputs: Any = None
        """What the block's first run returned, its x left out; None where that was x alone."""
        self._returned = False

    def h(self, x: Tensor) -> Tensor:
        args, kwargs = snapshots.copied((self.call.args, self.call.kwargs))
        outputs = self.call.forward(x, *args, **kwargs)
        if not self._returned and not isinstance(outputs, Tensor):
            self.outputs = with_hidden(outputs, x.new_empty(0))
        self._returned = True
        return hidden(outputs, self.call.name) - x


class Half(Residual):
    """h(x) = f(norm(x)), one half of a block."""

    def __init__(self, call: Call, norm: nn.Module, part: nn.Module, *, leads: bool) -> None:
        super().__init__(call, leads=leads)
        self.norm, self.part = norm, part

    def h(self, x: Tensor) -> Tensor:
        y: Tensor = self.part(self.norm(x))
        return y


def has_halves(block: nn.Module) -> bool:
    """Whether the block's halves are known."""
    return type(block) in _HALVES


def halves(call: Call) -> tuple[Half, Half]:
    """Both halves of the call's block, which has them."""
    (norm_1, first), (norm_2, second) = (
        [getattr(call.block, name) for name in half] for half in _HALVES[type(call.block)]
    )
    return Half(call, norm_1, first, leads=True), Half(call, norm_2, second, leads=False)
