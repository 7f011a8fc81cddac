"""What is answered where code asks for a value, of which a fake tensor has none: what it is in an ordinary step.

The engine asks whether anything was rebuilt wrongly (no) and how large the stream is (within range), the optimiser
which step it is at (the first), masks whether all of a batch is there (yes). Code that is not known to ask such things
alone gets no answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

aten: Final = torch.ops.aten

_ASKING: Final = frozenset({aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default})
_ALL: Final = frozenset({aten.all.default, aten.all.dim, aten.all.dims})
_TORCH: Final = f"{Path(torch.__file__).parent}/"
_KNOWN: Final = (f"{Path(__file__).parents[2] / 'bdia'}/", f"{Path(__file__).parents[1]}/", f"{_TORCH}optim/")
"""Code whose questions are known."""
_KNOWN_PARTS: Final = ("/site-packages/transformers/", "/site-packages/timm/")

_TRUE: Final = "_bdia_bench_is_true"
"""An attribute of tensors that are true: of conditions over all of something."""


class ValueAskedError(RuntimeError):
    """Code asks for the value of a tensor that has none."""


def asked(func: object) -> bool:
    """Whether the operator gives Python a value."""
    return func in _ASKING


def answer(func: object, args: tuple[Any, ...]) -> bool | int | float:
    """What it gives.

    Raises: ValueAskedError where it is not known what is asked.
    """
    tensor = args[0]
    if func is not aten.equal.default and isinstance(tensor, FakeTensor) and tensor.constant is not None:
        with _disable_current_modes():
            value: bool | int | float = tensor.constant.item()
        return bool(value) if func is aten.is_nonzero.default else value
    file, line = _asker()
    if not (file.startswith(_KNOWN) or any(part in file for part in _KNOWN_PARTS)):
        raise ValueAskedError(f"{Path(file).name}:{line} asks for a value")
    if func is aten.equal.default:
        return True
    if tensor.dtype == torch.bool or func is aten.is_nonzero.default:
        return hasattr(tensor, _TRUE)
    return 1.0 if tensor.is_floating_point() else 1


def remember(func: object, args: tuple[Any, ...], out: object) -> None:
    """Notes what will have to be answered of `out`. A count of what is true, compared with a number, is that of all."""
    if isinstance(out, FakeTensor) and (func in _ALL or (func is aten.eq.Scalar and _is_count(args[0]))):
        setattr(out, _TRUE, True)


def draws(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the operator would draw from torch's global generator."""
    if not _random(func) or kwargs.get("generator") is not None:
        return False
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    # An attention kernel says that it may draw, and does not where it drops nothing.
    return bool(given.get("dropout_p", 1.0)) and given.get("generator") is None


def draw() -> None:
    """Moves torch's global generator on, so that whoever compares its states sees that something was drawn."""
    with _disable_current_modes():
        torch.rand(1)


@cache
def _random(func: Callable[..., Any]) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())


def _is_count(tensor: Tensor) -> bool:
    return tensor.dim() == 0 and tensor.dtype == torch.int64


def _asker() -> tuple[str, int]:
    """The file and line of the innermost function that is none of torch's, but for its optimisers."""
    frame = sys._getframe(1)
    here = {__file__, str(Path(__file__).with_name("counter.py"))}
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if file not in here and (not file.startswith(_TORCH) or file.startswith(_KNOWN)):
            break
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def is_fake(tensor: Tensor) -> bool:
    """What to tell code that spares fake tensors a question which can be answered here."""
    return False
