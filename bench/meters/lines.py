"""Which line of Python asked for what: each call of torch's, with the innermost line outside torch that made it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from torch._C._autograd import _get_sequence_nr
from torch.overrides import TorchFunctionMode

from bench.meters.trace import Running, at_line

_TORCH: Final = str(Path(torch.__file__).parent)
_NOT_MEANT: Final = (_TORCH, __file__)
_PROFILER: Final = "torch._ops.profiler"
_ENGINE: Final = (torch.autograd.backward, torch.autograd.grad)


class Lines(TorchFunctionMode):
    """Within it, a trace's allocations have their lines.

    Operators of a backward are C++, called from no line: theirs is that of the forward's operator that they belong to.
    It only looks on: what is called is called as it would have been, but for what is compiled (see `noting`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_node: dict[int, str] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == _PROFILER:  # a range of ours, which must not begin inside another
            return func(*args, **given)
        if func in _ENGINE:
            with self, _unasked():
                return func(*args, **given)
        line, first = _calling_line(), _get_sequence_nr()
        with at_line(line):
            result = func(*args, **given)
        for number in range(first, _get_sequence_nr()):
            self._of_node.setdefault(number, line)  # calls inside this one have been here before
        return result

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Lines are noted inside. What torch.compile compiles runs as it is written: compiled code has no lines, and
        the compiler would trace this mode, and compile it in."""
        with self._written(), self:
            yield

    @staticmethod
    def _written() -> AbstractContextManager[object]:
        return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()

    def of(self, line: str | None, running: Sequence[Running]) -> str | None:
        """The line of an allocation: its own or, in a backward, its node's."""
        if line is None and running and running[-1][0] == "node":
            return self._of_node.get(running[-1][1])
        return line


def has_compiled() -> bool:
    """Whether torch.compile has compiled anything in this process."""
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and dynamo.utils.counters["frames"]["ok"] > 0


def _calling_line() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_MEANT):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@contextmanager
def _unasked() -> Iterator[None]:
    """Inside, autograd does not ask for a mode before it begins. A mode is off while it answers; so that it sees what
    blocks run again in a backward, it is on again, and must not be asked a second time."""
    autograd: Any = torch.autograd
    asks = autograd.has_torch_function
    autograd.has_torch_function = lambda tensors: False
    try:
        yield
    finally:
        autograd.has_torch_function = asks
