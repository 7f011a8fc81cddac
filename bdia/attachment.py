"""Puts a method onto the blocks of an existing model, in place, and takes it off again.

Only `forward` of the blocks, and of the modules that loop over them, is replaced on the instances. Parameter names,
`state_dict`, hooks and the model's own code stay as they are. What replaces it is an object of a class of this module,
never a closure, so that `deepcopy` and pickle see through it; its signature is the forward's own, which trainers read.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from bdia import distributions
from bdia.arguments import first_parameter, split
from bdia.blocks import find_chains, given_chains, owners
from bdia.chain import Chain, Layout
from bdia.compiled import CompiledForward
from bdia.dial import Dial
from bdia.distributions import Gamma
from bdia.errors import AttachError, MethodError, TapeError
from bdia.gamma import GammaSource
from bdia.handle import Handle
from bdia.methods import Method
from bdia.options import (
    check_choice,
    checked_method,
    inference_rule,
    layout_of,
    refuse_mixing_samples,
    refuse_tensor_parallel,
    rule_of,
)

Blocks = Iterable[nn.Module | Sequence[nn.Module]]


def attach(
    model: nn.Module,
    method: str | Method = "bdia",
    *,
    bits: int = 9,
    gamma: float | str | Gamma | None = None,
    seed: int | None = None,
    rank: int | None = None,
    blocks: Blocks | None = None,
    batch_dim: int | None = None,
    verify: bool = False,
    on_overflow: Literal["raise", "store"] = "raise",
    inference: Literal["plain", "quantised"] = "plain",
    keep: int = 0,
    micro_batches: int = 1,
) -> Handle:
    """Trains the residual blocks of `model` with `method`, until `detach()`.

    In training mode the blocks follow the method's update rule; in eval mode the model is the plain transformer (11),
    with or without gradients, which is what BDIA is on average. Rules that are not (two-stream, momentum, leapfrog) are
    followed in eval mode too.

    Args:
        model: any module whose forward passes x through a list of residual blocks, x₊ = block(x).
        method: a name of `bdia.methods.METHODS`, or a `Method`.
        bits: l of eq. 17, 1 to 23; no matter to methods that do not quantise.
        gamma: the distribution of γ: None for ±½, a number g for ±g, a text such as `uniform:0.5`, or a
            `bdia.distributions.Gamma`. Exact reversal needs |γ| = 2^-m, and keeps m side bits an activation.
        seed: fixes the γ of each forward counted from attaching, apart from torch's global generator. None takes
            torch's seed.
        rank: which data-parallel replica this process is, so that each draws its own γ. None takes the process's own
            rank; under tensor or context parallelism, whose processes share their samples, it must be given.
        blocks: the blocks in the order they run, or several such lists, a chain each. None finds them: one list in
            most models, two in an encoder-decoder.
        batch_dim: along which dimension of x its samples lie. None takes the first, or what torch's own attention
            says where the blocks have one (`batch_first`).
        verify: remembers digests of every x and y, compares each as it is rebuilt, and where one differs names the
            block, the element, both values, and what was different. To find a fault: it waits for the device at each
            block, and keeps about 4·(T + D/B) bytes a sample and block.
        on_overflow: what to do with a forward that leaves the range in which fp32 is exact at this l. `raise` raises
            HeadroomError when it ends. `store` keeps the state before each such step as it is, stays exact, and counts
            the forwards in `Handle.overflows`; it waits for the device at each block.
        inference: `plain` leaves eval mode as it is (11); `quantised` rounds the stream there too (22).
        keep: so many of the last blocks keep their graph instead of being rerun in the backward: memory for speed, the
            same function and the same gradients, bit for bit.
        micro_batches: into how many parts the batch is cut inside each block, in forward, rerun and backward alike, so
            that the memory one block works in shrinks as many times. Blocks must treat samples apart from each other.

    Raises:
        MethodError: unknown method, an impossible pair of rule and strategy, γ that cannot be reversed, l out of range.
        AttachError: no list of blocks, an ambiguous choice, or blocks that have a method attached already.
    """
    chosen = checked_method(model, method, {"seed": seed, "rank": rank})
    distribution = distributions.parse(gamma)
    rule = rule_of(chosen, bits, distribution, gamma_given=gamma is not None)
    strategy = chosen.make_strategy()
    strategy.begin(rule, blocks=0, checks="off", watcher=None)  # raises here and now where it cannot carry the rule
    dial = Dial(keep, micro_batches)
    check_choice("on_overflow", on_overflow, ("raise", "store"))
    check_choice("inference", inference, ("plain", "quantised"))
    evaluated_by = inference_rule(chosen, rule, bits, quantised=inference == "quantised")
    if verify and not (chosen.reversible and rule.exact):
        raise MethodError(f"verify=True: {chosen.name} rebuilds nothing bit for bit; use it with method 'bdia'")
    chains = find_chains(model) if blocks is None else given_chains(model, blocks)
    if not chains:
        raise AttachError("blocks is empty: give the residual blocks in the order they run")
    if rule.draws_gamma and rank is None:
        refuse_tensor_parallel(model, chains)
    names = {id(module): name for name, module in model.named_modules()}
    running = [owners(model, chain) for chain in chains]
    _refuse_taken([module for chain, around in zip(chains, running, strict=True) for module in (*around, *chain)])
    if dial.micro_batches > 1:
        refuse_mixing_samples(chains, names)
    kept = dial.kept_by([len(chain) for chain in chains])
    made, patches = [], []
    for number, (blocks_of, around) in enumerate(zip(chains, running, strict=True)):
        labels = tuple(names.get(id(block), type(block).__name__) for block in blocks_of)
        chain = Chain(
            labels,
            rule,
            strategy,
            GammaSource(seed, distribution, number, rank),
            layout=layout_of(blocks_of, batch_dim) if rule.draws_gamma or dial.micro_batches > 1 else Layout(),
            inference=evaluated_by,
            stores_overflow=on_overflow == "store",
            verify=verify,
            keep=kept[number],
            micro_batches=dial.micro_batches,
        )
        made.append(chain)
        patches += [Patch(owner, AttachedOwner(owner, chain, outermost=owner is around[-1])) for owner in around]
        for block, label in dict(zip(blocks_of, labels, strict=True)).items():
            patches.append(Patch(block, AttachedBlock(block, around[0], chain, label)))
    return Handle(made, patches)


def detach(model: nn.Module) -> None:
    """Takes off whatever is attached to `model`: of a copy or an unpickled model, which has no handle. A handle that
    there is has nothing left to detach then."""
    for module in model.modules():
        _restore(module, _beneath(_instance_forward(module)))


class Attached:
    """Stands in for a module's forward. `own` is a forward that was set on the instance before, if any."""

    def __init__(self, module: nn.Module, chain: Chain) -> None:
        self.module = module
        self.chain = chain
        self.own = _instance_forward(module)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.original)

    @property
    def original(self) -> Callable[..., Any]:
        """The module's forward as it was before attaching."""
        return self.own if self.own is not None else types.MethodType(type(self.module).forward, self.module)


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
        self._before = _instance_forward(module)
        self._forward = forward
        module.__dict__["forward"] = forward

    def check(self) -> None:
        """Raises: AttachError where somebody else has replaced the forward since."""
        forward = _instance_forward(self._module)
        if _beneath(forward) is not _beneath(self._before):
            raise AttachError(
                f"the forward of {type(self._module).__name__} was replaced after attaching: undo that first, or it "
                f"would be lost"
            )

    def remove(self) -> None:
        """Gives the module its own forward back."""
        _restore(self._module, self._before)


def _beneath(forward: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """The forward under all that is attached: the owner of two chains has two on it."""
    while isinstance(forward, Attached):
        forward = forward.own
    return forward


def _restore(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    if forward is None:
        module.__dict__.pop("forward", None)
    else:
        module.__dict__["forward"] = forward


def _refuse_taken(modules: Sequence[nn.Module]) -> None:
    taken = next((module for module in modules if isinstance(_instance_forward(module), Attached)), None)
    if taken is not None:
        raise AttachError(
            f"{type(taken).__name__} has a method attached already: detach() it first, or bdia.detach(model)"
        )


def _inside_a_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)


def _instance_forward(module: nn.Module) -> Callable[..., Any] | None:
    return module.__dict__.get("forward")
