"""Where tensors are fake: what is built and run inside has shapes and formats, and takes no memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from bdia import snapshots
from bench.case import Case
from bench.fakes import answers
from bench.fakes.counter import Counter
from bench.meters import trace
from bench.workload import Workload, build

_BY_TYPE: Final = frozenset({"momentumnet.exact_rep_pytorch"})
"""Modules that take for a tensor only what is of that very type."""


class _Torch:
    """What such a module has as `torch`: the same, with fake tensors as its tensors."""

    Tensor = FakeTensor

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextmanager
def world() -> Iterator[tuple[FakeTensorMode, Counter]]:
    """Inside, tensors are fake and counted. torch's global generator is afterwards as before."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    counter = Counter(mode)
    with ExitStack() as stack:
        _hear(counter, stack)
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        if "transformers" in sys.modules:
            _answer_masks(stack)
        for name in _BY_TYPE & sys.modules.keys():
            stack.enter_context(mock.patch.object(sys.modules[name], "torch", _Torch()))
        stack.enter_context(trace.kept_by(counter.ledger))
        stack.enter_context(mode)
        stack.enter_context(counter)
        yield mode, counter


def build_fake(case: Case, mode: FakeTensorMode) -> Workload:
    """The workload of `case`, of fake tensors; inside a `world`.

    Raises: what `build` raises; ValueError where the model holds real tensors.
    """
    found = build(case)
    held = [*found.model.named_parameters(), *found.model.named_buffers()]
    real = next((name for name, tensor in held if not isinstance(tensor, FakeTensor)), None)
    if real is not None:
        raise ValueError(f"{real} of its model was read from a file or made elsewhere")
    batch = snapshots.copied(found.batch, lambda part: part if isinstance(part, FakeTensor) else mode.from_tensor(part))
    return Workload(
        found.model, batch, found.loss, found.optimizer, found.blocks, samples=found.samples, tokens=found.tokens,
        seed=found.seed,
    ).accumulating(found.accumulate)  # fmt: skip


def _hear(counter: Counter, stack: ExitStack) -> None:
    """Has the counter hear of what no operator tells: states of generators, which are real, as C++ makes them; storages
    that are given another size; backwards that are begun in others."""
    state_of, resize = torch.random.get_rng_state, torch.UntypedStorage.resize_
    autograd: Any = torch.autograd
    run_backward = autograd._engine_run_backward

    def counted_state() -> Tensor:
        state = state_of()
        counter.count([state])
        return state

    def counted_resize(storage: torch.UntypedStorage, nbytes: int) -> Any:
        found = resize(storage, nbytes)
        if storage.device.type == "meta":
            counter.ledger.settle()
            counter.sized(storage, anew=True)
        return found

    def nested_backward(*args: Any, **kwargs: Any) -> Any:
        with counter.ledger.nested():
            return run_backward(*args, **kwargs)

    stack.callback(torch.random.set_rng_state, state_of())
    for holder, name, told in (
        (torch, "get_rng_state", counted_state),
        (torch.random, "get_rng_state", counted_state),
        (torch.UntypedStorage, "resize_", counted_resize),
        (autograd, "_engine_run_backward", nested_backward),
    ):
        stack.enter_context(mock.patch.object(holder, name, told))


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply`, which turns parameters of other kinds into new ones by a swap that fake tensors do not allow:
    a tensor that changes its format is replaced, and stays one where it is shared."""
    known: dict[int, tuple[Tensor, Tensor]] = {}
    for module in self.modules() if recurse else [self]:
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    if id(tensor) not in known:
                        known[id(tensor)] = (tensor, _applied(tensor, fn))
                    held[name] = known[id(tensor)][1]  # type: ignore[assignment]
    return self


def _applied(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad():
        new = fn(tensor)
    if (new.dtype, new.device) == (tensor.dtype, tensor.device):
        return tensor
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _answer_masks(stack: ExitStack) -> None:
    """transformers asks no fake tensor whether a mask is needed, and makes one; here the question has an answer."""
    library: Any = sys.modules.get("transformers.utils.import_utils")
    if library is not None and hasattr(library, "is_fake_tensor"):
        stack.enter_context(mock.patch.object(library, "is_fake_tensor", answers.is_fake))
