"""One call of one block, as a function of x alone: the rest of its arguments bound, its other outputs set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bdia import snapshots
from bdia.backprop.cut import Cut
from bdia.errors import TapeError
from bdia.outputs import hidden, with_hidden

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Work:
    """y = work(x) for one call of `forward(x, *args, **kwargs)` of `module`.

    `x` arrives in the stream's dtype. A block that computes in another one (`block_dtype`, of a model with bf16
    parameters) gets x cast, and its h = y - cast(x) is added to the uncast x, so that the stream keeps its bits.
    `block_dtype` None leaves x and y as they are.
    """

    def __init__(
        self,
        name: str,
        number: int | None,
        module: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        block_dtype: torch.dtype | None,
        *,
        follows: bool,
    ) -> None:
        self.name = name
        self.number = number
        """Of the call, for a watcher; None where nobody watches."""
        self.module = module
        self.follows = follows
        """x is what the call before it returned, with the same values: a rerun of that leads on to this one."""
        self.y_dtype: torch.dtype | None = None
        """Of y as the block returned it."""
        self._forward = forward
        self._first: Arguments | None = (args, kwargs)
        """What the first run is given; None once it has run."""
        self._again: Arguments | None = None
        """What later runs are given copies of."""
        self._block_dtype = block_dtype
        self._versions: list[int] | None = None
        self._outputs: Any = None
        self._given: tuple[Arguments, int] | None = None
        """What a part's first run is given, and how many tensors that holds, to see whether the block wrote there."""

    def __call__(self, x: Tensor) -> Tensor:
        """The block's y, in x's dtype. The first call sets all that the block returned aside for `take_outputs`."""
        self._check_versions()
        first, self._first = self._first, None
        args, kwargs = snapshots.copied(self._again) if first is None else first
        inner = x if self._block_dtype is None else x.to(self._block_dtype)
        outputs = self._forward(inner, *args, **kwargs)
        y = hidden(outputs, self.name)
        if y.shape != x.shape:
            raise TapeError(
                f"{self.name} turned x of shape {tuple(x.shape)} into {tuple(y.shape)}: a residual block returns "
                f"the shape it was given; leave this block out with blocks="
            )
        if first is not None:
            self._outputs, self.y_dtype = outputs, y.dtype
        if self._block_dtype is None:
            return y
        if inner.dtype != x.dtype:
            y = x + (y.to(x.dtype) - inner.to(x.dtype))
        return y.to(x.dtype)

    @property
    def arguments(self) -> list[Tensor]:
        """The tensors that the first run is given beside x; none once it has run."""
        return snapshots.tensors_in(self._first)

    def take_outputs(self) -> Any:
        """All that the block returned in its first call; later calls, in the backward, keep nothing."""
        outputs, self._outputs = self._outputs, None
        return outputs

    def outputs_require_grad(self) -> bool:
        """Whether anything that the block returned in its first call, x aside or not, is part of the graph."""
        return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(self._outputs))

    def isolate(self) -> None:
        """Before the first run: caches of its own for it, and a snapshot of all its arguments for those after it. A
        second time does nothing."""
        if self._again is not None:
            return
        self._set_apart()
        self._again = snapshots.copied(self._first)

    def cut(self, cut: Cut) -> list[Work]:
        """The same call for each part of a batch, with a part of what holds samples among its arguments."""
        self._set_apart()
        first, self._first = self._first, None
        known: dict[int, tuple[Tensor, ...]] = {}

        def part_of(number: int) -> Callable[[Tensor], Tensor]:
            def pick(tensor: Tensor) -> Tensor:
                if id(tensor) not in known:
                    known[id(tensor)] = cut.argument(self.name, tensor)
                return known[id(tensor)][number]

            return pick

        works = []
        for number, samples in enumerate(cut.samples):
            given = snapshots.copied(first, part_of(number))
            name = f"{self.name}, samples {samples}"
            work = Work(
                name, self.number, self.module, self._forward, given[0], given[1], self._block_dtype,
                follows=self.follows,
            )  # fmt: skip
            work._given = given, len(snapshots.tensors_in(given))
            works.append(work)
        return works

    def gather(self, works: Sequence[Work], cut: Cut, y: Tensor) -> None:
        """Takes what the parts have returned, once each has run; y is theirs put together.

        Raises: TapeError where that cannot be put together, or a block has written into what it was given.
        """
        self.y_dtype = works[0].y_dtype
        for work in works:
            assert work._given is not None
            (given, held), work._given = work._given, None
            if len(snapshots.tensors_in(given)) != held:
                raise TapeError(
                    f"{self.name} writes tensors into what it is called with, which micro_batches cannot put together: "
                    f"use micro_batches=1"
                )
        self._outputs = cut.together(self.name, [with_hidden(work.take_outputs(), y) for work in works])

    def _set_apart(self) -> None:
        """Gives the first run caches of its own."""
        assert self._first is not None
        args, kwargs = self._first
        self._first = (
            tuple(snapshots.alone(value) for value in args),
            {name: snapshots.alone(value) for name, value in kwargs.items()},
        )

    def rerunnable(self) -> Work:
        """The same call, holding its tensors without their graphs, to be run again in the backward.

        Values and `requires_grad` are what a rerun needs; a graph held here would be a reference cycle through
        autograd, which no collector sees.
        """
        again = Work(
            self.name, self.number, self.module, self._forward, (), {}, self._block_dtype, follows=self.follows
        )
        self.isolate()
        again._first, again._again = None, snapshots.copied(self._again, _without_graph)
        again._versions = [tensor._version for tensor in again._tensors()]
        self._again = None
        return again

    def _tensors(self) -> list[Tensor]:
        return [tensor for tensor in snapshots.tensors_in(self._again) if not tensor.is_inference()]

    def _check_versions(self) -> None:
        if self._versions is None:
            return
        if [tensor._version for tensor in self._tensors()] != self._versions:
            raise TapeError(
                f"an argument of {self.name} was changed in place between forward and backward: "
                f"pass a copy (tensor.clone()) to the block"
            )


def _without_graph(tensor: Tensor) -> Tensor:
    if tensor.is_leaf:
        return tensor
    return tensor.detach().requires_grad_(tensor.requires_grad)
