"""One call of one block, as a function of x alone: the rest of its arguments bound, its other outputs set aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bdia import caches
from bdia.errors import TapeError
from bdia.outputs import hidden


class Work:
    """y = work(x) for one call of `forward(x, *args, **kwargs)` of `module`.

    `x` arrives in the stream's dtype. A block that computes in another one (`block_dtype`, of a model with bf16
    parameters) gets x cast, and its h = y - cast(x) is added to the uncast x, so that the stream keeps its bits.
    """

    def __init__(
        self,
        name: str,
        number: int | None,
        module: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        block_dtype: torch.dtype,
    ) -> None:
        self.name = name
        self.number = number
        """Of the call, for a watcher; None where nobody watches."""
        self.module = module
        self._forward = forward
        self._args = args
        self._kwargs = kwargs
        self._block_dtype = block_dtype
        self._isolated = False
        self._versions: list[int] | None = None
        self._outputs: list[Any] | None = []

    def __call__(self, x: Tensor) -> Tensor:
        """The block's y, in x's dtype. The first call sets all that the block returned aside for `take_outputs`."""
        self._check_versions()
        inner = x.to(self._block_dtype)
        args, kwargs = (self._args, self._kwargs)
        if self._isolated:
            args, kwargs = _map_leaves(lambda leaf: leaf, (args, kwargs))
        outputs = self._forward(inner, *args, **kwargs)
        y = hidden(outputs, self.name)
        if y.shape != x.shape:
            raise TapeError(
                f"{self.name} turned x of shape {tuple(x.shape)} into {tuple(y.shape)}: a residual block returns "
                f"the shape it was given; leave this block out with blocks="
            )
        if inner.dtype != x.dtype:
            y = x + (y.to(x.dtype) - inner.to(x.dtype))
        if self._outputs is not None:
            self._outputs.append(outputs)
        return y.to(x.dtype)

    def take_outputs(self) -> Any:
        """All that the block returned in its first call; later calls, in the backward, keep nothing."""
        assert self._outputs, "take_outputs belongs after the first call"
        (outputs,) = self._outputs
        self._outputs = None
        return outputs

    def outputs_require_grad(self) -> bool:
        """Whether anything that the block returned in its first call, x aside or not, is part of the graph."""
        return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(self._outputs))

    def isolate(self) -> None:
        """From here on each run gets caches of its own, as they are now: a rerun must not find what this one adds."""

        def alone(leaf: Any) -> Any:
            if not caches.is_cache(leaf):
                return leaf
            return None if caches.is_empty(leaf) else caches.copied(leaf)

        self._args, self._kwargs = pytree.tree_map(alone, (self._args, self._kwargs), is_leaf=caches.is_cache)
        self._isolated = True

    def rerunnable(self) -> Work:
        """The same call, holding its tensors without their graphs, to be run again in the backward.

        Values and `requires_grad` are what a rerun needs; a graph held here would be a reference cycle through
        autograd, which no collector sees.
        """
        args, kwargs = _map_leaves(_without_graph, (self._args, self._kwargs))
        again = Work(self.name, self.number, self.module, self._forward, args, kwargs, self._block_dtype)
        again._isolated = self._isolated
        again._outputs = None
        again._versions = [tensor._version for tensor in again._tensors()]
        return again

    def _tensors(self) -> list[Tensor]:
        found: list[Tensor] = []
        for leaf in pytree.tree_leaves((self._args, self._kwargs), is_leaf=caches.is_cache):
            found += caches.tensors_in(leaf) if caches.is_cache(leaf) else [leaf] if isinstance(leaf, Tensor) else []
        return [tensor for tensor in found if not tensor.is_inference()]

    def _check_versions(self) -> None:
        if self._versions is None:
            return
        if [tensor._version for tensor in self._tensors()] != self._versions:
            raise TapeError(
                f"an argument of {self.name} was changed in place between forward and backward: "
                f"pass a copy (tensor.clone()) to the block"
            )


def _map_leaves(on_tensor: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """`tree` with new containers and copied caches, and `on_tensor` of each tensor in it."""

    def map_leaf(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return on_tensor(leaf)
        return caches.copied(leaf, on_tensor) if caches.is_cache(leaf) else leaf

    return pytree.tree_map(map_leaf, tree, is_leaf=caches.is_cache)


def _without_graph(tensor: Tensor) -> Tensor:
    if tensor.is_leaf:
        return tensor
    return tensor.detach().requires_grad_(tensor.requires_grad)
