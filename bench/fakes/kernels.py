"""Memory that kernels take from torch's allocator for themselves while they run, and that no shape tells of.

What attention, convolutions and normalisations take depends on the processor, the threads, and how tensors lie; so the
kernel itself is asked (`bench.fakes.asking`). So is a product of 16-bit matrices, which is oneDNN's on a CPU: its
workspace grows with each side up to a few hundred or thousand, and no side is longer than that where it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from bench.fakes.asking import beside, highest, traced

aten: Final = torch.ops.aten

_PRODUCTS: Final = frozenset({aten.mm.default, aten.addmm.default})
_LONGEST: Final = (1024, 4096, 1024)
"""Rows, inner side, columns: beyond these the workspace grows no more."""
_ASKED: Final[Mapping[object, frozenset[int | str]]] = {
    operator: frozenset(sampled)
    for operator, sampled in (
        (aten._scaled_dot_product_flash_attention_for_cpu.default, (0, 1, 2, "attn_mask")),
        (aten._scaled_dot_product_flash_attention_for_cpu_backward.default, (0, 1, 2, 3, 4, 5, "attn_mask")),
        (aten.convolution.default, (0,)),
        (aten.convolution_backward.default, (0, 1)),
        (aten.native_batch_norm.default, (0,)),
        (aten.native_batch_norm_backward.default, (0, 1)),
        (aten.native_layer_norm.default, (0,)),
        (aten.native_layer_norm_backward.default, (0, 1, 3, 4)),
        (aten.mean.dim, (0,)),
        (aten._safe_softmax.default, (0,)),
    )
}
"""Operators whose kernels are asked, and which of their arguments have a row a sample."""
_NUMBERS: Final[Mapping[type, torch.dtype]] = {int: torch.int64, float: torch.float64}
_OF_TWO: Final = frozenset(
    operator
    for name in ("add", "sub", "mul", "div")
    for packet in (getattr(aten, name), getattr(aten, f"{name}_"))
    for operator in (packet.Tensor, packet.Scalar)
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
    if func in _ASKED and cast("Tensor", args[0]).device.type == "cpu":
        return Scratch(0, beside(cast("Any", func), args, kwargs or {}, _ASKED[func]))
    return None


def _beside_two(tensor: object, other: object) -> Scratch | None:
    """What an elementwise operator of two takes where they are of two formats: the other one, in the wider;
    one of no sides before there is an output."""
    if not isinstance(tensor, Tensor):
        return None
    if isinstance(other, Tensor):
        if tensor.dtype == other.dtype:
            return Scratch(0, 0)
        common = torch.result_type(tensor, other)
        given = [one for one in (tensor, other) if one.dtype != common]
        single, whole = (sum(one.numel() for one in given if bool(one.dim()) is sides) for sides in (False, True))
        return Scratch(single * common.itemsize, whole * common.itemsize)
    if type(other) in _NUMBERS:
        # A number is made a tensor of 8 bytes, and whichever of the two is in the narrower format one in the wider.
        number = _NUMBERS[type(other)]
        common = _beside_number(tensor.dtype, number)
        copied = (number != common) + (tensor.numel() if tensor.dtype != common else 0)
        return Scratch(8 + copied * common.itemsize, 0)
    return None


@cache
def _beside_number(dtype: torch.dtype, number: torch.dtype) -> torch.dtype:
    """The format in which a tensor's elements and a number meet."""
    with _disable_current_modes():
        return torch.result_type(torch.empty(1, dtype=dtype), 0.5 if number.is_floating_point else 1)


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
        return highest(traced(lambda: torch.mm(left, right)))
