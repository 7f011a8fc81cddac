"""Right answers of a model that gives each sample a class, seen from outside its loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from bench import batches
from bench.batches import Batch


@contextlib.contextmanager
def outputs_of(model: nn.Module) -> Iterator[list[Any]]:
    """What the model returns in the forwards inside."""
    seen: list[Any] = []
    hook = model.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs))
    try:
        yield seen
    finally:
        hook.remove()


def right(outputs: Sequence[Any], batch: Batch) -> int | None:
    """How many samples the one forward gave their own class: its logits are [B, K], and the batch ends with labels [B].
    None where it has no such logits, or no such labels."""
    logits = next(batches.tensors(outputs), None)
    given = list(batches.tensors(batch))
    labels: Tensor = given[-1]
    if logits is None or logits.dim() != 2 or labels.dim() != 1 or labels.is_floating_point():
        return None
    if len(given) < 2 or len(logits) != len(labels):
        return None
    return int((logits.argmax(-1) == labels).sum())
