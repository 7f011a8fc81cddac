"""Puts a method onto the blocks of an existing model, in place, and takes it off again.

Only `forward` of the blocks, and of the modules that loop over them, is replaced on the instances. Parameter names,
`state_dict`, hooks and the model's own code stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from torch import nn

from bdia import distributions
from bdia.attached import Attached, AttachedBlock, AttachedOwner, Patch, beneath, instance_forward, restore
from bdia.blocks import find_chains, given_chains, owners
from bdia.chain import Chain, Layout
from bdia.dial import Dial
from bdia.distributions import Gamma
from bdia.errors import AttachError, MethodError
from bdia.gamma import GammaSource
from bdia.handle import Handle
from bdia.methods import Method
from bdia.options import (
    budget_of,
    check_choice,
    checked_method,
    inference_rule,
    layout_of,
    mixing_part,
    refuse_mixing_samples,
    refuse_tensor_parallel,
    rule_of,
)
from bdia.planner import Planner

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
    inference: Literal["plain", "quantised"] | float = "plain",
    keep: int = 0,
    micro_batches: int = 1,
    budget: int | str | None = None,
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
        inference: `plain` leaves eval mode as it is (11); `quantised` rounds the stream there too (22); a number from
            -1 to 1 keeps that γ there, the same for all blocks and samples (10). 0 is the plain transformer again.
        keep: so many of the last blocks keep their graph instead of being rerun in the backward: memory for speed, the
            same function and the same gradients, bit for bit.
        micro_batches: into how many parts the batch is cut inside each block, in forward, rerun and backward alike, so
            that the memory one block works in shrinks as many times. Blocks must treat samples apart from each other.
        budget: as `8GiB`, or in bytes: what the blocks may hold for the backward, in place of `keep` and
            `micro_batches`. The first forward that trains tries the blocks and takes what recomputes least within it;
            a larger x than before is planned for anew. Weights, their gradients, and what is outside the blocks (the
            logits, the loss) come on top.

    Raises:
        MethodError: unknown method, an impossible pair of rule and strategy, γ that cannot be reversed, l out of range,
            a budget that is no size, or that nothing could be chosen for.
        AttachError: no list of blocks, an ambiguous choice, or blocks that have a method attached already.
    """
    chosen = checked_method(model, method, {"seed": seed, "rank": rank})
    distribution = distributions.parse(gamma)
    rule = rule_of(chosen, bits, distribution, gamma_given=gamma is not None)
    strategy = chosen.make_strategy()
    strategy.begin(rule, blocks=0, checks="off", watcher=None)  # raises here and now where it cannot carry the rule
    dial = Dial(keep, micro_batches)
    check_choice("on_overflow", on_overflow, ("raise", "store"))
    evaluated_by = inference_rule(chosen, rule, bits, inference)
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
    limit = budget_of(budget, chosen, dial, chains)
    if dial.micro_batches > 1:
        refuse_mixing_samples(chains, names)
    kept = dial.kept_by([len(chain) for chain in chains])
    by_sample = rule.draws_gamma or dial.micro_batches > 1 or limit is not None
    made, patches = [], []
    for number, (blocks_of, around) in enumerate(zip(chains, running, strict=True)):
        labels = tuple(names.get(id(block), type(block).__name__) for block in blocks_of)
        chain = Chain(
            labels,
            rule,
            strategy,
            GammaSource(seed, distribution, number, rank),
            layout=layout_of(blocks_of, batch_dim) if by_sample else Layout(),
            inference=evaluated_by,
            stores_overflow=on_overflow == "store",
            verify=verify,
            keep=kept[number],
            micro_batches=dial.micro_batches,
        )
        made.append(chain)
        patches += [Patch(owner, AttachedOwner(owner, chain, outermost=owner is around[-1])) for owner in around]
        attached = {
            block: AttachedBlock(block, around[0], chain, label) for block, label in zip(blocks_of, labels, strict=True)
        }
        if limit is not None:
            chain.planner = Planner(
                limit, [attached[block] for block in blocks_of], divisible=mixing_part(chains) is None
            )
        patches += [Patch(block, forward) for block, forward in attached.items()]
    return Handle(made, patches)


def detach(model: nn.Module) -> None:
    """Takes off whatever is attached to `model`: of a copy or an unpickled model, which has no handle. A handle that
    there is has nothing left to detach then."""
    for module in model.modules():
        restore(module, beneath(instance_forward(module)))


def _refuse_taken(modules: Sequence[nn.Module]) -> None:
    taken = next((module for module in modules if isinstance(instance_forward(module), Attached)), None)
    if taken is not None:
        raise AttachError(
            f"{type(taken).__name__} has a method attached already: detach() it first, or bdia.detach(model)"
        )
