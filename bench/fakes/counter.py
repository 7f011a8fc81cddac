"""Counts the storages of fake tensors as they come and go, as a CPU's allocator would have seen them.

A mode for torch's dispatcher, below autograd: every operator passes through it, and what is new among its outputs has
been allocated. A weak reference to each storage says when it is released.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from bdia.storages import address, storages
from bench.fakes import answers, kernels
from bench.fakes.ledger import Ledger
from bench.fakes.outputs import Outputs, flat

aten: Final = torch.ops.aten

_DEVICE: Final = torch.ops.prim.device.default
_WRAPPERS: Final = ("_compile.py", "eval_frame.py")
"""Files of torch whose functions stand between a call and the mode."""


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what happens inside. To be entered above `mode`."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = Ledger()
        self._outputs = Outputs(mode)
        self._alive: dict[int, weakref.ref[Any]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard against it costs a share of every call

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Notes the storages of `tensors`, unless they are known."""
        for tensor in tensors:
            for storage in storages(tensor):
                self.sized(storage)

    def sized(self, storage: torch.UntypedStorage, *, anew: bool = False) -> None:
        """Notes how large `storage` is, where that is new or it has been allocated `anew`, as large as before."""
        key, nbytes = address(storage), storage.nbytes()
        if nbytes != self.ledger.held(key) or anew:
            if key not in self._alive:
                self._hold(storage, key)
            self.ledger.allocated(key, nbytes)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        if func.namespace == "prim":  # questions about a tensor, asked before autograd is done with it
            return func(*args, **kwargs)
        self.ledger.settle()
        given = flat((args, tuple(kwargs.values())))
        fakes = [tensor for tensor in given if isinstance(tensor, FakeTensor)]
        if given and not fakes and func is not aten.lift_fresh.default:
            # States of generators, batches as they are read: there are values, so they are computed with.
            with _disable_current_modes():
                out = func(*args, **kwargs)
            self.count(flat(out))
            return out
        if answers.asked(func):
            return answers.answer(func, args)
        if _made_of_others(func):  # made of others, which are what a CPU would run
            with self:
                return func.decompose(*args, **kwargs)
        if answers.draws(func, args, kwargs):
            answers.draw()
        scratch = kernels.scratch_bytes(func, args, kwargs)
        out = self._outputs.of(func, args, kwargs)
        answers.remember(func, args, out)
        if func is aten.add.Tensor and _by_engine():
            self._sum(given, out)
        elif scratch:
            with self.ledger.taken(scratch.before):
                self.count(flat(out))
            with self.ledger.taken(scratch.after):
                pass
        else:
            self.count(flat(out))
        self.ledger.scalars.look(func, args, out)
        return out

    def _sum(self, given: list[Tensor], out: Tensor) -> None:
        """Two gradients of one tensor are added. Where nobody else holds the first, real tensors are added in place,
        and fake ones never: a sum whose first term is released at once has taken that term's place. Of a view, such as
        a transposed product, another holds the memory: the tensor it is a view of."""
        if given[0]._is_view() or out.layout is not torch.strided:
            self.count([out])
            return
        (storage,), (term,) = storages(out), storages(given[0])
        key = address(storage)
        self._hold(storage, key)
        self.ledger.allocated_or_taken(key, storage.nbytes(), address(term))

    def _hold(self, storage: torch.UntypedStorage, key: int) -> None:
        def released(_: object) -> None:
            del self._alive[key]
            self.ledger.released(key)

        self._alive[key] = weakref.ref(storage, released)


@cache
def _made_of_others(func: Any) -> bool:
    """Whether a CPU has no kernel of its own for it."""
    own = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CPU")
    return func.namespace == "aten" and not own and bool(func._can_decompose())


def _by_engine() -> bool:
    """Whether autograd's engine itself has called the operator, and no Python."""
    if torch._C._current_graph_task_id() == -1:
        return False
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.endswith(_WRAPPERS):
        frame = frame.f_back
    return frame.f_code.co_name == "_engine_run_backward"
