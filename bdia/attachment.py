"""Puts a method onto the blocks of an existing model, in place, and takes it off again.

Only `forward` of the blocks, and of the module that loops over them, is replaced on the instances. Parameter names,
`state_dict`, hooks and the model's own code stay as they are. What replaces it is a bound method of a class of this
module, never a closure, so that `deepcopy` and pickle see through it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from bdia.backprop import Watcher
from bdia.chain import Chain
from bdia.errors import AttachError, MethodError, TapeError
from bdia.gamma import GammaSource
from bdia.methods import Method, get
from bdia.quantize import Headroom


def attach(
    model: nn.Module,
    method: str | Method = "bdia",
    *,
    bits: int = 9,
    seed: int | None = None,
    blocks: Sequence[nn.Module] | None = None,
) -> Handle:
    """Trains the residual blocks of `model` with `method`, until `detach()`.

    In training mode the blocks follow the method's update rule; in eval mode the model is the plain transformer (11),
    with or without gradients.

    Args:
        model: any module whose forward passes x through a list of residual blocks, x₊ = block(x).
        method: a name of `bdia.methods.METHODS`, or a `Method`.
        bits: l of eq. 17, 1 to 23; no matter to methods that do not quantise.
        seed: fixes the γ of each forward counted from attaching, apart from torch's global generator. None takes
            torch's seed.
        blocks: the blocks in the order they run. None finds the one list of blocks in the model.

    Raises:
        MethodError: unknown method, an impossible pair of rule and strategy, or l out of range.
        AttachError: no list of blocks, more than one, or blocks that have a method attached already.
    """
    chosen = get(method) if isinstance(method, str) else method
    rule = chosen.make_rule(bits)
    strategy = chosen.make_strategy()
    if chosen.reversible and not rule.reversible:
        raise MethodError(f"{chosen.name}: its rule has no inverse; use strategy 'stored' or 'checkpoint' with it")
    found = _find_blocks(model) if blocks is None else list(blocks)
    if not found:
        raise AttachError("blocks is empty: give the residual blocks in the order they run")
    owner = _find_owner(model, found)
    taken = next((m for m in (owner, *found) if isinstance(_own_forward(m), _Bound)), None)
    if taken is not None:
        raise AttachError(f"{type(taken).__name__} has a method attached already: detach() it first")
    chain = Chain(len(found), rule, strategy, GammaSource(seed))
    names = {id(module): name for name, module in model.named_modules()}
    patches = [_Patch(owner, AttachedOwner(owner, chain).forward)]
    for block in dict.fromkeys(found):
        label = names.get(id(block), type(block).__name__)
        patches.append(_Patch(block, AttachedBlock(block, owner, chain, label).forward))
    return Handle(chain, patches)


class Handle:
    """A method attached to a model. A context manager: leaving it detaches."""

    def __init__(self, chain: Chain, patches: list[_Patch]) -> None:
        self._chain = chain
        self._patches = patches

    def detach(self) -> None:
        """Gives the modules their own `forward` back. A second call does nothing."""
        while self._patches:
            self._patches[-1].remove()
            self._patches.pop()

    @property
    def side_bytes(self) -> int:
        """Bytes of side information (eq. 20), as held at the end of the last forward."""
        return self._chain.summary.side_bytes

    @property
    def rng_bytes(self) -> int:
        """Bytes of RNG states, as held at the end of the last forward."""
        return self._chain.summary.rng_bytes

    @property
    def headroom(self) -> Headroom | None:
        """How much of the exact range the last forward used; None for a rule that does not quantise."""
        return self._chain.summary.headroom

    @contextlib.contextmanager
    def observing(self, watcher: Watcher) -> Iterator[None]:
        """Shows `watcher` every x_k of the forwards begun inside, as made and as rebuilt."""
        self._chain.watcher, before = watcher, self._chain.watcher
        try:
            yield
        finally:
            self._chain.watcher = before

    @contextlib.contextmanager
    def unguarded(self) -> Iterator[None]:
        """Leaves out the range guard and the checksum in the forwards begun inside: to measure an error, never to
        train."""
        self._chain.guarded, before = False, self._chain.guarded
        try:
            yield
        finally:
            self._chain.guarded = before

    def state_dict(self) -> dict[str, int]:
        """What it takes to draw the same γ again: the seed, and the forwards counted."""
        return self._chain.gamma.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on drawing γ where `state` was taken."""
        self._chain.gamma.load_state_dict(state)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


class _Bound:
    """Holds a module whose forward it stands in for. `own` is a forward set on the instance before, if any."""

    def __init__(self, module: nn.Module, chain: Chain) -> None:
        self.module = module
        self.chain = chain
        self.own = _instance_forward(module)

    def original(self, *args: Any, **kwargs: Any) -> Any:
        """The module's forward as it was before attaching."""
        if self.own is not None:
            return self.own(*args, **kwargs)
        return type(self.module).forward(self.module, *args, **kwargs)


# A compiler that traced the engine would compile a forward whose rerun it has not seen, and no bit would hold. Blocks
# may be compiled on their own: then one compiled block serves forward and rerun.
_not_compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = torch.compiler.disable


class AttachedOwner(_Bound):
    """Stands in for the forward of the module that loops over the blocks: the beginning and end of a chain."""

    @_not_compiled
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.module.training:
            return self.original(*args, **kwargs)
        if self.chain.rule.chained and _inside_a_backward():
            raise TapeError(
                f"the forward of {type(self.module).__name__} was run again inside a backward, where it would draw "
                f"other γ: remove the checkpoint around it, or detach() the inner of two attached models"
            )
        passage = self.chain.open()
        try:
            outputs = self.original(*args, **kwargs)
        finally:
            self.chain.drop(passage)
        self.chain.close(passage)
        return outputs


class AttachedBlock(_Bound):
    """Stands in for the forward of one block."""

    def __init__(self, module: nn.Module, owner: nn.Module, chain: Chain, name: str) -> None:
        super().__init__(module, chain)
        self.owner = owner
        self.name = name

    @_not_compiled
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        passage = self.chain.current
        if passage is None:
            if self.owner.training and _inside_a_backward():
                raise TapeError(
                    f"{self.name} was run again inside a backward by a checkpoint of the model's own: turn the model's "
                    f"gradient checkpointing off"
                )
            if self.owner.training:
                raise TapeError(
                    f"{self.name} was called outside the forward of {type(self.owner).__name__}, so it has no place "
                    f"in a chain: call the whole model, detach(), or switch to eval()"
                )
            return self.original(*args, **kwargs)
        x, args, kwargs = _split(self.name, args, kwargs)
        return passage.call(self.name, self.module, self.original, x, args, kwargs)


class _Patch:
    """One replaced forward."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._module = module
        self._before = _instance_forward(module)
        self._forward = forward
        module.__dict__["forward"] = forward

    def remove(self) -> None:
        if _instance_forward(self._module) != self._forward:
            raise AttachError(
                f"the forward of {type(self._module).__name__} was replaced after attaching: undo that first, or it "
                f"would be lost"
            )
        if self._before is None:
            self._module.__dict__.pop("forward", None)
        else:
            self._module.__dict__["forward"] = self._before


def _inside_a_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def _instance_forward(module: nn.Module) -> Callable[..., Any] | None:
    return module.__dict__.get("forward")


def _own_forward(module: nn.Module) -> object:
    return getattr(_instance_forward(module), "__self__", None)


def _split(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """x, and the arguments without it."""
    if args and isinstance(args[0], Tensor):
        return args[0], args[1:], kwargs
    raise TapeError(f"{name} was called without a tensor as its first argument: expected block(x, …)")


def _find_blocks(model: nn.Module) -> list[nn.Module]:
    """The one list of blocks: the longest ModuleList or Sequential whose items are all of one class."""
    lists = [
        list(module)
        for module in model.modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential))
        and len({type(item) for item in module}) == 1
        and any(True for _ in next(iter(module)).children())
    ]
    longest = max(map(len, lists), default=0)
    found = [blocks for blocks in lists if len(blocks) == longest]
    if len(found) != 1:
        what = "no list" if not found else f"{len(found)} lists of equal length"
        raise AttachError(f"found {what} of blocks in {type(model).__name__}: name them with blocks=")
    return found[0]


def _find_owner(model: nn.Module, blocks: Sequence[nn.Module]) -> nn.Module:
    """The module whose forward loops over the blocks: the innermost that holds them all and has a forward."""
    wanted = {id(block) for block in blocks}
    holders = [
        module
        for module in model.modules()
        if type(module).forward is not nn.Module.forward  # a ModuleList, or a mere holder of parts, has none
        and id(module) not in wanted
        and wanted <= {id(inner) for inner in module.modules()}
    ]
    if not holders:
        raise AttachError(f"blocks= names modules that are not part of {type(model).__name__}: take them from it")
    return min(holders, key=lambda module: sum(1 for _ in module.modules()))
