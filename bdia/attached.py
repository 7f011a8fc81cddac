"""What stands in for the forward of a block, and of a module that loops over blocks, while a method is attached.

Objects of classes and never closures, so that `deepcopy` and pickle see through them; their signature is the forward's
own, which trainers read.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bdia.arguments import first_parameter, split
from bdia.chain import Chain
from bdia.compiled import CompiledForward
from bdia.errors import AttachError, TapeError


class Attached:
    """Stands in for a module's forward. `own` is a forward that was set on the instance before, if any."""

    def __init__(self, module: nn.Module, chain: Chain) -> None:
        self.module = module
        self.chain = chain
        self.own = instance_forward(module)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.original)

    @property
    def original(self) -> Callable[..., Any]:
        """The module's forward as it was before attaching."""
        return class_forward(self.module) if self.own is None else self.own


# A compiler that traced the engine would compile a forward whose rerun it has not seen, and no bit would hold. Blocks
# may be compiled on their own: then one compiled block serves forward and rerun.
_not_compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = torch.compiler.disable


class AttachedOwner(Attached):
    """Stands in for the forward of a module that may loop over the blocks: the beginning and end of a chain."""

    def __init__(self, module: nn.Module, chain: Chain, *, outermost: bool) -> None:
        super().__init__(module, chain)
        self.outermost = outermost

    @_not_compiled
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        training = self.module.training
        if not training and self.chain.inference is None:
            return self.original(*args, **kwargs)
        if training and self.chain.rule.chained and _inside_a_backward():
            raise TapeError(
                f"the forward of {type(self.module).__name__} was run again inside a backward, where it would draw "
                f"other γ: remove the checkpoint around it, or detach() the inner of two attached models"
            )
        passage = self.chain.open(training=training)
        try:
            outputs = self.original(*args, **kwargs)
        finally:
            self.chain.drop(passage)
        self.chain.close(passage)
        if training and self.outermost and not self.chain.called:
            raise TapeError(
                f"the forward of {type(self.module).__name__} called none of the blocks {self.chain.names[0]} … by "
                f"their forward, so the method has no effect: attach to the blocks that it does call, with blocks="
            )
        return outputs


class AttachedBlock(Attached):
    """Stands in for the forward of one block."""

    def __init__(self, module: nn.Module, owner: nn.Module, chain: Chain, name: str) -> None:
        super().__init__(module, chain)
        self.owner = owner
        self.name = name
        self._x = first_parameter(module)
        self._compiled = CompiledForward(module)

    @_not_compiled
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        passage = self.chain.current
        if passage is None:
            self._check_alone()
            return self._compiled(self.original)(*args, **kwargs)
        if self.owner.training and getattr(self.module, "gradient_checkpointing", False):
            raise TapeError(
                f"{self.name} has the model's own gradient checkpointing on, which would run it twice over: turn it "
                f"off (model.gradient_checkpointing_disable()), or detach()"
            )
        x, args, kwargs = split(self.name, self._x, args, kwargs)
        return passage.call(self.name, self.module, self._compiled(self.original), x, args, kwargs)

    def _check_alone(self) -> None:
        """Raises: TapeError for a block that trains outside a chain."""
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


class Patch:
    """One replaced forward."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._module = module
        self._before = instance_forward(module)
        self._forward = forward
        module.__dict__["forward"] = forward

    def check(self) -> None:
        """Raises: AttachError where somebody else has replaced the forward since."""
        forward = instance_forward(self._module)
        if beneath(forward) is not beneath(self._before):
            raise AttachError(
                f"the forward of {type(self._module).__name__} was replaced after attaching: undo that first, or it "
                f"would be lost"
            )

    def remove(self) -> None:
        """Gives the module its own forward back."""
        restore(self._module, self._before)


def beneath(forward: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """The forward under all that is attached: the owner of two chains has two on it."""
    while isinstance(forward, Attached):
        forward = forward.own
    return forward


def restore(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    if forward is None:
        module.__dict__.pop("forward", None)
    else:
        module.__dict__["forward"] = forward


def _inside_a_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def instance_forward(module: nn.Module) -> Callable[..., Any] | None:
    return module.__dict__.get("forward")


def class_forward(module: nn.Module) -> Callable[..., Any]:
    """The forward that the module has of its class, whatever was set on the instance."""
    return types.MethodType(type(module).forward, module)
