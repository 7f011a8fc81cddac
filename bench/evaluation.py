"""How good a model is on what was held out: loss and accuracy over batches, in eval mode.

Shapes: B samples, T tokens, K classes or vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import UsageError


@dataclass(frozen=True)
class Evaluation:
    """Means over every prediction of all batches: an image's class, or a token."""

    loss: float
    """Cross-entropy in nats; not finite where the model's is not."""
    accuracy: float
    """The part, 0 … 1, whose likeliest answer is the right one."""
    predictions: int


def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, amp: bool = False) -> Evaluation:
    """Loss and accuracy of `model` over `batches` of inputs and targets, such as `held_out` gives.

    The model answers `model(inputs, targets)` with logits [B, K] or [B, T, K] and their mean loss, as the bench's own
    do. Batches are put where its parameters are, pixels in their format. It runs in eval mode, where an attached method
    computes what it computes at inference, and without gradients; then each module is put back into its mode. Batches
    of unequal size count by their predictions. Nothing is drawn from any random generator.

    Args:
        amp: run under bf16 autocast, as `bf16-amp` trains.

    Raises: UsageError where there is no batch; whatever the model raises.
    """
    parameter = next(model.parameters())
    device = parameter.device
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    count = 0
    with _in_eval_mode(model), torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        for inputs, targets in batches:
            placed = inputs.to(device, parameter.dtype if inputs.is_floating_point() else inputs.dtype)
            wanted = targets.to(device)
            logits, loss = model(placed, wanted)
            # Sums stay on the device until the end: reading one of a batch's would wait for it.
            loss_sum += loss.double() * wanted.numel()
            right += (logits.argmax(-1) == wanted).sum()
            count += wanted.numel()
    if count == 0:
        raise UsageError("no batch to evaluate on: expected one at least")
    return Evaluation(loss=loss_sum.item() / count, accuracy=right.item() / count, predictions=count)


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    # One by one, as a part may be in another mode than the whole: a frozen one that is kept in eval.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
