"""What a kernel takes for itself while it runs, by running it: with zeros that lie as a case's tensors do, and of a few
samples.

Each allocation of a kernel lies on a line in the number of samples; which moment is the highest may change with it. So
the kernel is asked at two numbers, once for each shape, and the lines are drawn allocation by allocation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import accumulate
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from bench.meters.trace import Tracer

Kernel = Callable[..., Any]

_SAMPLES: Final = (2, 3)
"""Kernels of one sample are others."""


class _Lying(NamedTuple):
    """A tensor, as far as a kernel's workspace depends on it."""

    shape: tuple[int, ...]
    """Without its samples where it has some."""
    stride: tuple[int, ...]
    dtype: torch.dtype
    sampled: bool

    def zeros(self, samples: int) -> Tensor:
        """One that lies like it."""
        shape = (samples, *self.shape) if self.sampled else self.shape
        return torch.empty_strided(shape, self.stride, dtype=self.dtype).zero_()


def beside(kernel: Kernel, args: Sequence[object], kwargs: Mapping[str, object], sampled: frozenset[int | str]) -> int:
    """Bytes that `kernel` has beside its outputs at its highest moment. `sampled` are the arguments, by number or name,
    whose first side is the batch; the first is one of them."""
    first = cast("Tensor", args[0])
    batch = first.shape[0] if first.dim() else 1

    def lying(key: int | str, value: object) -> object:
        if not isinstance(value, Tensor):
            return tuple(value) if isinstance(value, list) else value
        many = key in sampled and value.dim() > 0 and value.shape[0] == batch
        return _Lying(tuple(value.shape[1:] if many else value.shape), value.stride(), value.dtype, many)

    given = tuple(lying(number, value) for number, value in enumerate(args))
    named = tuple((name, lying(name, value)) for name, value in sorted(kwargs.items()))

    def asked(samples: int) -> tuple[int, ...]:
        return _events(kernel, samples, given, named, torch.get_num_threads())

    if batch <= _SAMPLES[-1]:
        return highest(asked(batch))
    few, more = map(asked, _SAMPLES)
    beyond = Fraction(batch - _SAMPLES[-1], _SAMPLES[-1] - _SAMPLES[0])
    if len(few) == len(more):
        return highest(last + (last - first) * beyond for first, last in zip(few, more, strict=True))
    return round(highest(more) + (highest(more) - highest(few)) * beyond)


def highest(events: Iterable[int | Fraction]) -> int:
    """How far the level is at its highest above where it ends."""
    levels = list(accumulate(map(Fraction, events)))
    return round(max(levels) - levels[-1]) if levels else 0


@cache
def _events(
    kernel: Kernel, samples: int, given: tuple[object, ...], named: tuple[tuple[str, object], ...], threads: int
) -> tuple[int, ...]:
    """What is allocated, and released (less than 0), in order."""

    def made(value: object) -> object:
        return value.zeros(samples) if isinstance(value, _Lying) else value

    with _disable_current_modes(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        args, kwargs = [made(value) for value in given], {name: made(value) for name, value in named}
        return traced(lambda: kernel(*args, **kwargs))


def traced(run: Callable[[], object]) -> tuple[int, ...]:
    """What torch's allocator gives out on the CPU while `run` runs, and what it takes back (less than 0), in order;
    what `run` returns is still there at the end."""
    tracer = Tracer()
    tracer.start()
    try:
        kept = run()
    finally:
        tracer.stop()
    events = tracer.read(torch.device("cpu")).events
    del kept
    return tuple(event.nbytes for event in events)
