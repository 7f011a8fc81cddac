"""Memory that kernels take from torch's allocator for themselves while they run, and that no shape tells of.

In 32 bits there is none worth the name. Products of 16-bit matrices are oneDNN's on a CPU, whose workspace depends on
the processor and grows with each side up to a few hundred or thousand; so the kernel itself is asked, once for each
shape, with zeros and with no side longer than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from bench.meters.trace import Tracer

aten: Final = torch.ops.aten

_PRODUCTS: Final = frozenset({aten.mm.default, aten.addmm.default})
_LONGEST: Final = (1024, 4096, 1024)
"""Rows, inner side, columns: beyond these the workspace grows no more."""
_WITH_NUMBER: Final = frozenset(
    operator
    for name in ("add", "sub", "mul", "div")
    for operator in (getattr(aten, name).Tensor, getattr(aten, f"{name}_").Tensor)
)


class Scratch(NamedTuple):
    """Bytes that are held while an operator runs."""

    before: int
    """Taken before its outputs are allocated."""
    after: int
    """Taken once they are, in place of the former."""


def scratch_bytes(func: object, args: Sequence[object]) -> Scratch | None:
    """What the operator takes beside its outputs while it runs; None for any that is not known to take some."""
    if func in _WITH_NUMBER:
        # A number beside a tensor is made one of 8 bytes, and that one in the tensor's format.
        tensor, number = args[:2]
        if isinstance(tensor, Tensor) and type(number) in (int, float) and tensor.is_floating_point():
            return Scratch(8 + tensor.element_size(), 0)
        return None
    if func in _PRODUCTS:
        left, right = cast("Sequence[Tensor]", args[-2:])
        return Scratch(0, _beside_product(left, right))
    return None


def _beside_product(left: Tensor, right: Tensor) -> int:
    if left.dtype not in (torch.bfloat16, torch.float16) or left.device.type != "cpu":
        return 0
    sides = (left.shape[0], left.shape[1], right.shape[1])
    rows, inner, columns = (min(side, longest) for side, longest in zip(sides, _LONGEST, strict=True))
    if not rows * inner * columns:
        return 0
    return _of_product(rows, inner, columns, _is_turned(left), _is_turned(right), left.dtype, torch.get_num_threads())


def _is_turned(matrix: Tensor) -> bool:
    """Whether it lies in memory column by column."""
    return matrix.stride(1) != 1 and matrix.shape[1] > 1


@cache
def _of_product(
    rows: int, inner: int, columns: int, left_turned: bool, right_turned: bool, dtype: torch.dtype, threads: int
) -> int:
    with _disable_current_modes(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        left, right = (
            torch.zeros(sides[::-1], dtype=dtype).t() if turned else torch.zeros(sides, dtype=dtype)
            for sides, turned in (((rows, inner), left_turned), ((inner, columns), right_turned))
        )
        torch.mm(left, right)
        tracer = Tracer()
        tracer.start()
        torch.mm(left, right)
        tracer.stop()
        events = tracer.read(torch.device("cpu")).events
    released = {event.pointer: -event.nbytes for event in events if event.nbytes < 0}
    own = rows * columns * left.element_size()
    # The result is released as well; its bytes are known.
    sizes = sorted(released.values())
    if own in sizes:
        sizes.remove(own)
    return max(sizes, default=0)
