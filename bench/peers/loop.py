"""Puts a library's sequence in the place of a model's own loop over its blocks, without a change to the model's code.

Block 0's forward runs the whole sequence; the forwards of the others, which the model's loop goes on to call, hand on
what they are given. The sequence's functions hold the model's blocks themselves, so parameters and their names stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bdia import snapshots
from bdia.arguments import first_parameter, split
from bdia.attached import Patch, class_forward, instance_forward
from bdia.outputs import with_hidden
from bench.errors import UnsupportedError
from bench.peers.equations import Stack
from bench.peers.functions import Call, Forward, Residual, Watching, Whole, halves, has_halves

Sequencer = Callable[[Sequence[Residual]], Stack]


class Loop:
    """One chain of blocks, run by a library's sequence until it is taken off."""

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        names: Sequence[str],
        sequencer: Sequencer,
        watching: Watching,
        undo: ExitStack,
        *,
        in_pairs: bool,
    ) -> None:
        """`in_pairs` asks for two functions a step: a block's halves where they are known, else two blocks'. `undo`
        gives the blocks their own forwards back.

        Raises: UnsupportedError for blocks that are one module, or that cannot be paired.
        """
        if len({id(block) for block in blocks}) < len(blocks):
            raise UnsupportedError(f"{names[0]} … run one module several times, and a library's sequence runs it once")
        self._halved = in_pairs and all(map(has_halves, blocks))
        if in_pairs and not self._halved and len(blocks) % 2:
            raise UnsupportedError(f"depth {len(blocks)}: {names[0]} … are coupled in pairs; take an even depth")
        self._blocks = list(blocks)
        self._names = list(names)
        self._sequencer = sequencer
        self._watching = watching
        self._forwards = [original_forward(block) for block in blocks]
        self._parameter = first_parameter(blocks[0])
        self._given: list[Any] = []
        self._next = 0
        self._handed: Tensor | None = None
        self._outputs: list[Any] = []
        for number, block in enumerate(blocks):
            replace_forward(block, _Place(self, number), undo)

    def call(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the model's loop gets for its call of block `number`: of each, what the sequence makes of all of them.

        Raises: UnsupportedError where the model does something between its blocks, or calls them with arguments that
        differ or that gradients must reach.
        """
        name = self._names[number]
        x, args, kwargs = split(name, self._parameter, args, kwargs)
        given, structure = pytree.tree_flatten((args, kwargs))
        if number == 0:
            self._begin(x, args, kwargs, given)
            self._given, self._structure = given, structure
        elif number != self._next or x is not self._handed:
            raise UnsupportedError(f"{name} is not given what {self._names[number - 1]} returned: a sequence in their "
                                   f"place can neither leave a block out nor do what lies between two")  # fmt: skip
        elif structure != self._structure or not all(map(_same, given, self._given)):
            raise UnsupportedError(f"{name} is called with other arguments than {self._names[0]}: a sequence in their "
                                   f"place has one set for all")  # fmt: skip
        assert self._handed is not None
        handed, outputs, self._next = self._handed, self._outputs[number], number + 1
        if self._next == len(self._blocks):
            self._handed, self._given, self._outputs, self._next = None, [], [], 0
        return handed if outputs is None else with_hidden(outputs, handed)

    def _begin(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], given: Sequence[Any]) -> None:
        """Runs the sequence, made anew for each forward, as two may be open before either backward."""
        if any(isinstance(one, Tensor) and one.requires_grad for one in given):
            raise UnsupportedError(f"{self._names[0]} is called with a tensor beside x that gradients must reach, and "
                                   f"the libraries lead them to x alone")  # fmt: skip
        alone = tuple(map(snapshots.alone, args)), {name: snapshots.alone(value) for name, value in kwargs.items()}
        watcher = self._watching.watcher
        calls = [
            Call(name, block, own, *alone, self._watching.next(), watcher)
            for name, block, own in zip(self._names, self._blocks, self._forwards, strict=True)
        ]
        wholes = [] if self._halved else [Whole(call) for call in calls]
        functions: list[Residual] = [*wholes] or [half for call in calls for half in halves(call)]
        with nullcontext() if watcher is None else watcher.working(None):
            self._handed = self._sequencer(functions)(x)
        self._outputs = [whole.outputs for whole in wholes] or [None] * len(calls)


class _Place:
    """Stands in for one block's forward."""

    def __init__(self, loop: Loop, number: int) -> None:
        self._loop = loop
        self._number = number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._loop.call(self._number, args, kwargs)


def original_forward(module: nn.Module) -> Forward:
    """The forward that the module has as it is."""
    return instance_forward(module) or class_forward(module)


def replace_forward(module: nn.Module, forward: Forward, undo: ExitStack) -> None:
    """Puts `forward` on the instance; `undo` leaves it as it was, with or without one of its own."""
    undo.callback(Patch(module, forward).remove)


def _same(one: Any, other: Any) -> bool:
    return one is other or (not isinstance(one, Tensor) and type(one) is type(other) and bool(one == other))
