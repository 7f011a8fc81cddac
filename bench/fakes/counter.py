"""Counts the storages of fake tensors as they come and go, as a CPU's allocator would have seen them.

A mode for torch's dispatcher, below autograd: every operator passes through it, and what is new among its outputs has
been allocated. A weak reference to each storage says when it is released. What is told is a `Trace` like the
profiler's, so that the same code says where the bytes are.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from bdia.storages import address, storages
from bench.fakes import answers, kernels
from bench.fakes.outputs import Outputs, flat
from bench.fakes.scalars import Scalars
from bench.meters.trace import Event, Kind, Moment, Running, Trace, with_node

aten: Final = torch.ops.aten

_SCRATCH: Final = -1
"""No address is negative."""
_DEVICE: Final = torch.ops.prim.device.default
_WRAPPERS: Final = ("_compile.py", "eval_frame.py")
"""Files of torch whose functions stand between a call and the mode."""


class _Sum(NamedTuple):
    """A sum that may stand in place of its first term."""

    term: int
    """The term's address."""
    key: int
    """Its own."""
    nbytes: int
    made_by: tuple[Running, ...]


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what happens inside. To be entered above `mode`."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._outputs = Outputs(mode)
        self.level = 0
        """Bytes alive that were allocated inside."""
        self.highest = 0
        """The highest level since this was last set."""
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._sizes: dict[int, int] = {}
        self._made_by: dict[int, tuple[Running, ...]] = {}
        self._pointers: dict[int, int] = {}
        self._numbers = itertools.count(1)
        self._recording = False
        self._events: list[Event] = []
        self._moments: list[Moment] = []
        self._time = 0
        self._running: tuple[Running, ...] = ()
        self._scalars = Scalars(self._allocated, self._released)
        self._late: _Sum | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard against it costs a share of every call

    def begin(self) -> None:
        """From here on there is a trace."""
        self._recording = True
        self._events, self._moments = [], []

    @property
    def trace(self) -> Trace:
        """What happened since `begin`."""
        return Trace(self._events, self._moments)

    def settle(self) -> None:
        """Takes into account what could not be known when it happened. Before the level is read."""
        self._scalars.settle()
        self._settle_late()

    def pointer(self, storage: torch.UntypedStorage) -> int:
        """What tells its allocation from all others of the trace; 0 where it was not counted."""
        return self._pointers.get(address(storage), 0)

    def note(self, text: str) -> None:
        """Marks this moment in the trace."""
        self.settle()
        if self._recording:
            self._moments.append(Moment(self._tick(), text))

    @contextmanager
    def running(self, kind: Kind, number: int) -> Iterator[None]:
        """What is allocated inside is allocated by this."""
        with self._inside((*self._now(), (kind, number))):
            yield

    @contextmanager
    def nested(self) -> Iterator[None]:
        """A backward runs inside, and it in whatever runs now: the node of another backward, it may be."""
        with self._inside(self._now()):
            yield

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Notes the storages of `tensors`, unless they are known."""
        for tensor in tensors:
            for storage in storages(tensor):
                self.sized(storage)

    def sized(self, storage: torch.UntypedStorage) -> None:
        """Notes how large `storage` is. Where it had another size, it has been allocated anew, and what it had was
        released then: a tensor that was resized, or whose memory was taken from it."""
        key, nbytes = address(storage), storage.nbytes()
        before = self._sizes.get(key, 0)
        if nbytes == before:
            return
        if key not in self._alive:
            self._hold(storage, key)
        self._sizes[key] = nbytes
        if before:
            with self._taken(nbytes):
                self._released(key, before)
        if nbytes:
            self._allocated(key, nbytes)

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
        self.settle()
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
            with self._taken(scratch.before):
                self.count(flat(out))
            with self._taken(scratch.after):
                pass
        else:
            self.count(flat(out))
        self._scalars.look(func, args, out)
        return out

    @contextmanager
    def _taken(self, nbytes: int) -> Iterator[None]:
        """What a kernel has for itself inside."""
        if nbytes:
            self._allocated(_SCRATCH, nbytes)
        yield
        if nbytes:
            self._released(_SCRATCH, nbytes)

    def _sum(self, given: list[Tensor], out: Tensor) -> None:
        """Two gradients of one tensor are added. Where nobody else holds the first, real tensors are added in place,
        and fake ones never: a sum whose first term is released at once has taken that term's place. Of a view, such as
        a transposed product, another holds the memory: the tensor it is a view of."""
        (storage,) = storages(out)
        key, nbytes = address(storage), storage.nbytes()
        self._hold(storage, key)
        (term,) = storages(given[0])
        if term.nbytes() == nbytes and not given[0]._is_view():
            self._late = _Sum(address(term), key, nbytes, self._now())
        else:
            self._allocated(key, nbytes)

    def _hold(self, storage: torch.UntypedStorage, key: int) -> None:
        def released(_: object) -> None:
            del self._alive[key]
            nbytes = self._sizes.pop(key)
            if nbytes:
                self._released(key, nbytes)

        self._alive[key] = weakref.ref(storage, released)
        self._sizes[key] = storage.nbytes()

    def _settle_late(self) -> None:
        if self._late is not None:
            (_, key, nbytes, made_by), self._late = self._late, None
            self._allocated(key, nbytes, made_by)

    def _allocated(self, key: int, nbytes: int, made_by: tuple[Running, ...] | None = None) -> None:
        self._settle_late()
        self._made_by[key] = self._now() if made_by is None else made_by
        self._pointers[key] = next(self._numbers)
        self._event(self._pointers[key], nbytes, self._made_by[key])
        self.highest = max(self.highest, self.level)

    def _released(self, key: int, nbytes: int) -> None:
        late, self._late = self._late, None
        if late is not None and late.term != key:
            self._allocated(late.key, late.nbytes, late.made_by)
            late = None
        made_by, pointer = self._made_by.pop(key), self._pointers.pop(key)
        if late is None:
            self._event(pointer, -nbytes, made_by)
        else:
            self._made_by[late.key], self._pointers[late.key] = made_by, pointer

    def _event(self, pointer: int, nbytes: int, made_by: tuple[Running, ...]) -> None:
        self.level += nbytes
        if self._recording:
            self._events.append(Event(self._tick(), pointer, nbytes, self.level, made_by))

    @contextmanager
    def _inside(self, running: tuple[Running, ...]) -> Iterator[None]:
        before, self._running = self._running, running
        try:
            yield
        finally:
            self._running = before

    def _now(self) -> tuple[Running, ...]:
        if torch._C._current_graph_task_id() == -1:
            return self._running
        now = with_node(self._running, cast("Any", torch._C._current_autograd_node())._sequence_nr())
        # A node that something runs inside of is further out than that.
        return self._running if now[-1:] and now[-1] in self._running else now

    def _tick(self) -> int:
        self._time += 1
        return self._time


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
