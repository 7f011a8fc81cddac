"""The level of torch's allocator over a stretch of code, exact to the byte, on a CPU and on CUDA alike.

On a CPU, torch keeps no running figure; `torch.profiler` with `profile_memory=True` reports each allocation and
release with the level after it. On CUDA the caching allocator keeps the level and its maximum itself.

What is counted, and what is not:
- CPU: the bytes asked for, without rounding. CUDA: the allocator's blocks, rounded up to 512 bytes.
- What does not come from torch's allocator is not seen: scratch of oneDNN and MKL, NumPy arrays, Python.
- CPU: the thread that opened the level, and what autograd does on its behalf. Other threads are not seen.
- CPU: the profiler does not report the release of memory allocated before it began. A stretch in which that
  happens raises `MeterError` when asked for.
"""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Protocol, Self, cast

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from bench.meters import MeterError
from bench.meters.trace import Event, Trace, Tracer, note

START = "start"
"""The mark that entering a level sets."""


class Level(ABC):
    """Follows the allocator's level between marks. Use as a context manager; ask after leaving it.

    The garbage collector runs once on entering and then not until the end, unless called, so that no cycle is
    freed at a moment that differs from run to run.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._at: list[int] = []  # bytes at mark i
        self._highest: list[int] = []  # highest bytes between mark i-1 and mark i, both included

    def __enter__(self) -> Self:
        self._collecting = gc.isenabled()
        gc.collect()
        gc.disable()
        try:
            self._begin()
            gc.freeze()  # collections inside look only at what was made inside
            self.mark(START)
        except BaseException:
            self._restore_collector()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end(failed=error is not None)
        finally:
            self._restore_collector()

    def mark(self, name: str) -> None:
        """Names this moment.

        Raises: ValueError where the name is taken.
        """
        if name in self._names:
            raise ValueError(f"mark {name!r} is already set: expected a new name")
        self._names.append(name)
        self._mark()
        note(moment_of(name))

    def change(self, first: str, last: str) -> int:
        """Bytes at `last` less bytes at `first`; negative where more was released than allocated.

        Raises: MeterError where the meter cannot know it (see the module's docstring).
        """
        i, j = self._stretch(first, last)
        return self._at[j] - self._at[i]

    def rise(self, first: str, last: str) -> int:
        """The highest bytes between the two marks less the bytes at `first`; never negative.

        Raises: MeterError where the meter cannot know it (see the module's docstring).
        """
        i, j = self._stretch(first, last)
        return max([self._at[i], *self._highest[i + 1 : j + 1]]) - self._at[i]

    @property
    @abstractmethod
    def trace(self) -> Trace:
        """What was allocated and released, and what was running then; to be asked for after leaving the level. Each
        mark is a moment of it, with the text of `moment_of`.

        Raises: MeterError where there is none.
        """

    def _stretch(self, first: str, last: str) -> tuple[int, int]:
        if not self._at:
            raise MeterError("a level has no figures before it ends: expected to be asked after leaving it")
        i, j = self._names.index(first), self._names.index(last)
        if j < i:
            raise ValueError(f"{last!r} comes before {first!r}: expected the marks in order of time")
        self._check(i, j)
        return i, j

    def _restore_collector(self) -> None:
        gc.unfreeze()
        if self._collecting:
            gc.enable()

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _mark(self) -> None: ...

    @abstractmethod
    def _end(self, *, failed: bool) -> None: ...

    @abstractmethod
    def _check(self, i: int, j: int) -> None:
        """Raises MeterError where the stretch from mark i to mark j is not exact."""


def moment_of(mark: str) -> str:
    """What a mark is called in the level's trace."""
    return f"mark {mark}"


def level(device: torch.device) -> Level:
    """The level of `device`'s allocator, not yet entered.

    Raises: MeterError for a device that is neither a CPU nor CUDA.
    """
    if device.type == "cpu":
        return CpuLevel()
    if device.type == "cuda":
        return CudaLevel(device)
    raise MeterError(f"no memory meter for device {device.type!r}: expected cpu or cuda")


class CudaLevel(Level):
    """Reads the caching allocator at each mark, synchronised, and restarts its maximum there."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def _begin(self) -> None:
        # The figures are the allocator's own, and do not hang on whether they can be traced as well.
        self._tracer = Tracer()
        self._untraced: Exception | None = None
        try:
            self._tracer.start()
        except Exception as error:
            self._untraced = error
        self._reset()

    def _mark(self) -> None:
        torch.cuda.synchronize(self._device)
        self._at.append(torch.cuda.memory_allocated(self._device))
        self._highest.append(torch.cuda.max_memory_allocated(self._device))
        self._reset()

    def _end(self, *, failed: bool) -> None:
        if self._untraced is None:
            try:
                self._tracer.stop()
            except Exception as error:
                self._untraced = error

    @property
    def trace(self) -> Trace:
        if self._untraced is not None:
            raise MeterError(f"the profiler did not trace: {self._untraced}") from self._untraced
        return self._tracer.read(self._device)

    def _check(self, i: int, j: int) -> None:
        pass

    def _reset(self) -> None:
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)


class CpuLevel(Level):
    """Reads the profiler's memory events once the level ends.

    A mark allocates one byte and keeps it, so that it stands among the events themselves: no clock of ours has
    to agree with the profiler's. Those bytes are taken off again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bookmarks: list[torch.Tensor] = []
        self._expired: list[frozenset[int]] = []  # of the older storages, those gone by mark i

    def _begin(self) -> None:
        self._older = _live_storages()
        self._tracer = Tracer()
        self._tracer.start()

    def _mark(self) -> None:
        gone = frozenset(pointer for pointer, (_, weak) in self._older.items() if weak.expired())
        self._expired.append(gone)
        self._bookmarks.append(torch.empty(1, dtype=torch.uint8, device="cpu"))

    def _end(self, *, failed: bool) -> None:
        self._tracer.stop()
        if not failed:
            found = self._tracer.read(torch.device("cpu"))
            events, bookmarks = found.events, [mark.data_ptr() for mark in self._bookmarks]
            self._at, self._highest = levels(events, bookmarks)
            last_use = {event.pointer: event for event in events if event.nbytes > 0}
            ours = {id(last_use[pointer]) for pointer in bookmarks}
            self._trace = Trace([event for event in events if id(event) not in ours], found.moments)
            first = {event.pointer: event.nbytes for event in reversed(events)}
            # Memory of an earlier session is known to the profiler, so its release is an event like any other;
            # one of another size would be of an address whose former owner went unseen.
            self._unseen = {at for at, (nbytes, _) in self._older.items() if first.get(at) != -nbytes}
        self._bookmarks.clear()
        del self._tracer

    @property
    def trace(self) -> Trace:
        return self._trace

    def _check(self, i: int, j: int) -> None:
        lost = (self._expired[j] - self._expired[i]) & self._unseen
        if lost:
            nbytes = sum(self._older[pointer][0] for pointer in lost)
            raise MeterError(
                f"{nbytes} bytes allocated before the level began were released between {self._names[i]!r} and "
                f"{self._names[j]!r}, which the profiler does not see: expected the level to begin before them"
            )


def levels(events: Sequence[Event], bookmarks: Sequence[int]) -> tuple[list[int], list[int]]:
    """The level at each mark, and the highest between it and the one before, in bytes relative to the first.

    `events` in order of time; `bookmarks` the address of each mark's one-byte block, never released.

    Raises: MeterError where a mark is missing or the events do not add up to the levels they report.
    """
    # An address may have been used and released before: the block that is still there was the last.
    last_use = {event.pointer: index for index, event in enumerate(events) if event.nbytes > 0}
    try:
        marks = [last_use[pointer] for pointer in bookmarks]
    except KeyError:
        raise MeterError("the profiler did not report a mark's allocation: its events are incomplete") from None
    first, last = marks[0], marks[-1]
    reported = events[last].level - events[first].level
    added = sum(event.nbytes for event in events[first + 1 : last + 1])
    if marks != sorted(marks) or reported != added:
        raise MeterError(f"the profiler's events add up to {added} bytes, but report a level of {reported}")
    base = events[first].level - 1
    at = [events[index].level - base - (k + 1) for k, index in enumerate(marks)]
    highest = [at[0]]
    for k, (before, after) in enumerate(pairwise(marks), start=1):
        between = [event.level - base - k for event in events[before + 1 : after]]
        highest.append(max([at[k - 1], at[k], *between]))
    return at, highest


class _Weak(Protocol):
    def expired(self) -> bool: ...


_weak_reference = cast("Callable[[torch.UntypedStorage], _Weak]", StorageWeakRef)


def _live_storages() -> dict[int, tuple[int, _Weak]]:
    """Address → (bytes, weak reference) of each CPU storage that Python holds."""
    found: dict[int, tuple[int, _Weak]] = {}
    for tensor in _live_tensors(gc.get_objects()):
        storage = tensor.untyped_storage()
        if storage.nbytes():
            found[storage.data_ptr()] = (storage.nbytes(), _weak_reference(storage))
    return found


def _live_tensors(objects: Iterable[object]) -> Iterable[torch.Tensor]:
    """The plain strided CPU tensors among `objects`; fake tensors and other subclasses hold no memory themselves."""
    for item in objects:
        if type(item) in (torch.Tensor, torch.nn.Parameter):
            tensor = cast("torch.Tensor", item)
            if tensor.device.type == "cpu" and tensor.layout is torch.strided:
                yield tensor
