"""Numbers that autograd stores: of x · 0.5 it keeps the 0.5 as a tensor of 8 bytes, until the backward has used it.

Eight bytes a product and block are seen where a slope is to be exact. An operator below autograd is handed the number
alone, so what autograd makes of it is told from the node that its output is given afterwards. Hooks for saved tensors,
with which a checkpoint spares them, are not shown numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from bench.meters.trace import Running

aten: Final = torch.ops.aten

_STORING: Final = frozenset({aten.mul.Tensor, aten.div.Tensor, aten.mul_.Tensor, aten.div_.Tensor})
"""Operators whose backward needs the number."""
NBYTES: Final[dict[type, int]] = {int: 8, float: 8, complex: 16}
"""Of an int64, a float64, a complex128."""


class Scalars:
    """Tells of each: `allocated` hears how large it is, and what runs `now`, as its operator does, and gives it a key,
    by which `released` hears of its end."""

    def __init__(
        self,
        allocated: Callable[[int, tuple[Running, ...]], int],
        released: Callable[[int], None],
        now: Callable[[], tuple[Running, ...]],
    ) -> None:
        self._allocated = allocated
        self._released = released
        self._now = now
        self._pending: list[tuple[weakref.ref[Tensor], int, tuple[Running, ...]]] = []

    def look(self, func: object, args: tuple[Any, ...], out: object) -> None:
        """An operator has run."""
        if (
            func in _STORING
            and type(args[1]) in NBYTES
            and args[0].requires_grad
            and torch.is_grad_enabled()
            and isinstance(out, Tensor)
            and not out._is_view()  # whose node is asked for under a lock, as it is made
        ):
            self._pending.append((weakref.ref(out), NBYTES[type(args[1])], self._now()))

    def settle(self) -> None:
        """Looks for the nodes that outputs have been given since."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        for reference, nbytes, made_by in pending:
            out = reference()
            if out is not None and out.grad_fn is not None:
                self._keep(out.grad_fn, nbytes, made_by)

    def _keep(self, node: Any, nbytes: int, made_by: tuple[Running, ...]) -> None:
        key = self._allocated(nbytes, made_by)
        node.register_hook(_Stored(lambda: self._released(key)))


class _Stored:
    """Stands for the number: released when the node has run, or is gone."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def __call__(self, *_: object) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()

    def __del__(self) -> None:
        self()
