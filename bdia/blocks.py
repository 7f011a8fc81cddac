"""Finds the chains of residual blocks in a model, the modules that run them, and where their samples lie.

A list of blocks is a ModuleList or Sequential whose items are all of one class, or all say that they are blocks. Lists
inside a block are its own business, with one exception: an outer list whose items have weights of different shapes is
one of stages, as in Swin, and each stage has a list of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from bdia.errors import AttachError

Chains = list[list[nn.Module]]

_BLOCK_CLASSES = ("TransformerEncoderLayer", "TransformerDecoderLayer", "GradientCheckpointingLayer")
"""Classes of residual blocks, by name: torch's own, and what Hugging Face's blocks derive from."""


def find_chains(model: nn.Module) -> Chains:
    """The lists of blocks in `model`, each a chain: one for most models, two for an encoder-decoder, one a stage.

    Lists of blocks that say what they are, by their class or in a Hugging Face model's `_no_split_modules`, are all
    taken. Where none does, it is the longest list, and with it those of the same model's other stages.

    Raises: AttachError where there is none, or several are as long.
    """
    says_block = _block_teller(model)
    lists = list(_outermost_lists([model], says_block))
    named = [found.blocks for found in lists if all(map(says_block, found.blocks))]
    if named:
        return named
    longest = max((len(found.blocks) for found in lists), default=0)
    candidates = [found for found in lists if len(found.blocks) == longest]
    if not candidates:
        raise AttachError(
            f"found no list of blocks in {type(model).__name__}: name them with blocks=, in the order they run"
        )
    stages = candidates[0].stages
    if stages is not None and all(found.stages is stages for found in candidates):
        return [found.blocks for found in lists if found.stages is stages]
    if len(candidates) == 1:
        return [candidates[0].blocks]
    names = {id(module): name for name, module in model.named_modules()}
    first = ", ".join(f"{names[id(found.blocks[0])]} …" for found in candidates)
    raise AttachError(
        f"found {len(candidates)} lists of {longest} blocks in {type(model).__name__} ({first}): name one with "
        f"blocks=, or several with blocks=[[…], […]], a chain each"
    )


def given_chains(model: nn.Module, blocks: Iterable[nn.Module | Sequence[nn.Module]]) -> Chains:
    """The chains named by `blocks`: one list of modules, or a list of such lists.

    Raises: AttachError where they are empty, of something else, or not part of `model`.
    """
    if not isinstance(blocks, Iterable):
        raise AttachError(f"blocks= is a {type(blocks).__name__}: expected a list of modules, in the order they run")
    blocks = list(blocks)
    lists = [item for item in blocks if isinstance(item, nn.ModuleList | list | tuple)]
    alone = [item for item in blocks if isinstance(item, nn.Module) and not isinstance(item, nn.ModuleList)]
    if len(lists) + len(alone) < len(blocks) or (lists and alone):
        raise AttachError("blocks= holds something else: expected modules, or several lists of modules, a chain each")
    chains = [list(item) for item in lists] if lists else [alone]
    inside = {id(module) for module in model.modules()}
    for chain in chains:
        if not chain:
            raise AttachError("blocks is empty: give the residual blocks in the order they run")
        if not {id(block) for block in chain} <= inside:
            raise AttachError(f"blocks= names modules that are not part of {type(model).__name__}: take them from it")
        own = {id(block) for block in chain}
        within = next((b for b in chain for part in b.modules() if part is not b and id(part) in own), None)
        if within is not None:
            raise AttachError(
                f"blocks= names a {type(within).__name__} and a module inside of it: a chain runs one after the other; "
                f"name the outer ones, or the inner ones"
            )
    shared = {id(block) for chain in chains for block in chain}
    if sum(len({id(block) for block in chain}) for chain in chains) > len(shared):
        raise AttachError("a block is in two chains: each chain runs by itself, so name it in one of them")
    return chains


def owners(model: nn.Module, chain: Sequence[nn.Module]) -> list[nn.Module]:
    """The modules whose forward may run the chain, the innermost first.

    That is the innermost module that holds all blocks and has a forward. Where it is a Sequential, which either runs
    itself or is gone through by the module around it, the next one outwards is too.
    """
    wanted = {id(block) for block in chain}
    holders = [
        module
        for module in model.modules()
        if type(module).forward is not nn.Module.forward  # a ModuleList, or a mere holder of parts, has none
        and id(module) not in wanted
        and wanted <= {id(inner) for inner in module.modules()}
    ]
    holders.sort(key=lambda module: sum(1 for _ in module.modules()))
    if not holders:
        raise AttachError(
            f"no module of {type(model).__name__} runs {type(chain[0]).__name__} in its forward: attach to the model "
            f"that holds the blocks"
        )
    last = next((at for at, module in enumerate(holders) if not isinstance(module, nn.Sequential)), len(holders) - 1)
    return holders[: last + 1]


def batch_dim(chain: Sequence[nn.Module]) -> tuple[int, int]:
    """Along which dimension of x its samples lie, and how many dimensions x has at least.

    Torch's own layers say so: with `batch_first=False` x is [T, B, D]. Elsewhere it is the first.

    Raises: AttachError for other blocks that hold torch's attention with `batch_first=False`: they may be given x as
    [T, B, D], or transpose it themselves.
    """
    layer = next((unwrapped(block) for block in chain), None)
    attentions = [part for block in chain for part in block.modules() if isinstance(part, nn.MultiheadAttention)]
    if isinstance(layer, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        return (0 if layer.self_attn.batch_first else 1), 3
    if any(not attention.batch_first for attention in attentions):
        raise AttachError(
            f"{type(layer).__name__} holds an nn.MultiheadAttention with batch_first=False, so its x may be [T, B, D] "
            f"or [B, T, D], and γ is drawn per sample: say where samples lie with batch_dim=1 or batch_dim=0"
        )
    return 0, 3 if attentions else 1


@dataclass(frozen=True)
class _Found:
    """A list of blocks, and the outer list of stages that it lies in, if any."""

    blocks: list[nn.Module]
    stages: nn.Module | None


def _outermost_lists(
    modules: Iterable[nn.Module], says_block: Callable[[nn.Module], bool], stages: nn.Module | None = None
) -> Iterator[_Found]:
    for child in dict.fromkeys(modules):
        items = list(child.children()) if isinstance(child, nn.ModuleList | nn.Sequential) else []
        alike = len({type(unwrapped(item)) for item in items}) == 1 and any(True for _ in items[0].children())
        if not (alike or (items and all(map(says_block, items)))):  # hybrids have blocks of several classes
            yield from _outermost_lists(child.children(), says_block, stages)
        elif _are_stages(items):
            yield from _outermost_lists(items, says_block, child)
        else:
            yield _Found(items, stages)


def unwrapped(block: nn.Module) -> nn.Module:
    """The block itself, of one that `torch.compile(block)` has wrapped."""
    inner = getattr(block, "_orig_mod", block)
    return inner if isinstance(inner, nn.Module) else block


def _are_stages(blocks: list[nn.Module]) -> bool:
    """Whether weights of one name differ in shape from item to item."""
    shapes: dict[str, tuple[int, ...]] = {}
    return any(
        shapes.setdefault(name, tuple(weight.shape)) != tuple(weight.shape)
        for block in blocks
        for name, weight in unwrapped(block).named_parameters()
    )


def _block_teller(model: nn.Module) -> Callable[[nn.Module], bool]:
    """What tells whether a module of `model` says that it is a block."""
    unsplit = {name for part in model.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    known = {*_BLOCK_CLASSES, *unsplit}
    return lambda block: any(base.__name__ in known for base in type(unwrapped(block)).__mro__)
