"""Selective checkpointing: torch's own (`create_selective_checkpoint_contexts`) on each block. What costs most to run
again, matrix products and attention kernels, is kept; the cheap rest is computed again.

More memory than `checkpoint`, which keeps a block's x only, and nearly the speed of storing everything.
"""

from __future__ import annotations

import functools
from typing import Any, cast

import torch.utils.checkpoint
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from bdia.backprop import Numbered
from bdia.backprop.checkpoint import Checkpoint
from bdia.backprop.checks import Checks
from bdia.backprop.work import Work
from bdia.updates import Rule

_aten = torch.ops.aten

KEPT = frozenset(
    operator.default
    for operator in (
        _aten.mm,
        _aten.addmm,
        _aten.bmm,
        _aten.baddbmm,
        _aten._scaled_dot_product_flash_attention,
        _aten._scaled_dot_product_efficient_attention,
        _aten._scaled_dot_product_cudnn_attention,
        _aten._scaled_dot_product_flash_attention_for_cpu,
        _aten._scaled_dot_product_fused_attention_overrideable,
    )
)
"""Whose results are kept: products, and each backend's attention."""


class Selective(Checkpoint):
    """Keeps each block's input and the results of its matrix products. Works with every rule. `rng_bytes` is not
    counted: torch keeps those states itself."""

    def begin(self, rule: Rule, *, blocks: int, checks: Checks, watcher: Numbered | None) -> Selective:
        return self

    def run(self, work: Work, x: Tensor, gamma: Tensor | None) -> Tensor:
        work.isolate()
        contexts = functools.partial(create_selective_checkpoint_contexts, policy)
        return cast("Tensor", torch.utils.checkpoint.checkpoint(work, x, use_reentrant=False, context_fn=contexts))


def policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """What torch is to do with the result of one operator.

    Attention that drops some of its probabilities is computed again: kept, it would draw nothing in the rerun, and all
    that the block draws after it would be drawn otherwise than in the forward.
    """
    if operator in KEPT and not _drops(operator, args, kwargs):
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _drops(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    place = next((place for place, given in enumerate(operator._schema.arguments) if given.name == "dropout_p"), None)
    if place is None:
        return False
    return bool(args[place] if place < len(args) else kwargs.get("dropout_p", 0.0))
