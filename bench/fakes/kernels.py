"""Memory that kernels take from torch's allocator for themselves while they run, and that no shape tells of.

Products of 16-bit matrices are oneDNN's on a CPU, whose workspace depends on the processor and grows with each side up
to a few hundred or thousand; so the kernel itself is asked, once for each shape, with zeros and with no side longer
than that. So is fused attention, whose workspace depends on the threads, the tokens, and how its matrices lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from bench.meters.trace import Tracer

aten: Final = torch.ops.aten

_PRODUCTS: Final = frozenset({aten.mm.default, aten.addmm.default})
_LONGEST: Final = (1024, 4096, 1024)
"""Rows, inner side, columns: beyond these the workspace grows no more."""
_ATTENTION: Final = frozenset(
    {
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    }
)
_OF_TWO: Final = frozenset(
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


def scratch_bytes(func: object, args: Sequence[object], kwargs: Mapping[str, object] | None = None) -> Scratch | None:
    """What the operator takes beside its outputs while it runs; None for any that is not known to take some."""
    if func in _OF_TWO:
        return _beside_two(*args[:2])
    if func in _PRODUCTS:
        left, right = cast("Sequence[Tensor]", args[-2:])
        return Scratch(0, _beside_product(left, right))
    if func in _ATTENTION:
        return Scratch(0, _beside_attention(cast("Callable[..., Any]", func), args, kwargs or {}))
    return None


def _beside_two(tensor: object, other: object) -> Scratch | None:
    """What an elementwise operator of two takes where they are of two formats: the other one, in the wider;
    one of no sides before there is an output."""
    if not isinstance(tensor, Tensor):
        return None
    if isinstance(other, Tensor):
        common = torch.result_type(tensor, other)
        given = [one for one in (tensor, other) if one.dtype != common]
        single, whole = (sum(one.numel() for one in given if bool(one.dim()) is sides) for sides in (False, True))
        return Scratch(single * common.itemsize, whole * common.itemsize)
    # A number beside a tensor is made one of 8 bytes, and that one in the tensor's format.
    if type(other) in (int, float) and tensor.is_floating_point():
        return Scratch(8 + tensor.element_size(), 0)
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


class _Lying(NamedTuple):
    """A tensor, as far as a kernel's workspace depends on it."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def zeros(self, batch: int, samples: int) -> Tensor:
        """One that lies like it, of `samples` samples where it has the batch's; a mask of two sides has none."""
        sized = len(self.shape) > 2 and self.shape[0] == batch
        shape = (samples, *self.shape[1:]) if sized else self.shape
        return torch.empty_strided(shape, self.stride, dtype=self.dtype).zero_()


def _beside_attention(kernel: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object]) -> int:
    """Of one sample and of two, and from there on a line: what is a thread's stays, what is a sample's grows."""
    query = cast("Tensor", args[0])
    if query.device.type != "cpu":
        return 0
    given = tuple(_lying(value) for value in args)
    named = tuple((name, _lying(value)) for name, value in sorted(kwargs.items()))
    batch = query.shape[0]
    one, two = (_of_attention(kernel, batch, n, given, named, torch.get_num_threads()) for n in (1, min(batch, 2)))
    return one + (batch - 1) * (two - one)


def _lying(value: object) -> object:
    return _Lying(tuple(value.shape), value.stride(), value.dtype) if isinstance(value, Tensor) else value


@cache
def _of_attention(
    kernel: Callable[..., Any], batch: int, samples: int, given: tuple[object, ...],
    named: tuple[tuple[str, object], ...], threads: int,
) -> int:  # fmt: skip
    def made(value: object) -> object:
        return value.zeros(batch, samples) if isinstance(value, _Lying) else value

    with _disable_current_modes(), torch.no_grad():
        args, kwargs = [made(value) for value in given], {name: made(value) for name, value in named}
        tracer = Tracer()
        tracer.start()
        out = kernel(*args, **kwargs)
        tracer.stop()
        events = tracer.read(torch.device("cpu")).events
        del out
    levels = list(accumulate(event.nbytes for event in events))
    return max(levels) - levels[-1]
