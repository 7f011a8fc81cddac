"""The loss of a language model of `transformers`, its logits in chunks of tokens.

The model's forward stays its own. For as long as it runs, its output layer hands on what it was given, so that what the
model returns for logits is that; `bdia.chunked_cross_entropy` makes the loss of it and of the layer's weights. What a
model does to its logits beside, or to its loss, would be left out: one that does is refused.

Shapes: B samples, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bdia
from bench.errors import UnsupportedError, one_line
from bench.meters import is_out_of_memory
from bench.workload import Batch

UNLABELLED: Final = -100
"""The label that `transformers` leaves out of a loss."""
TOLERANCE: Final = 1e-5
"""How far, relatively, a loss may lie from the model's own."""
TRIED: Final = (1, 8)
"""Samples and tokens that a model is tried on."""


@dataclass(frozen=True)
class ChunkedLoss:
    """The loss in `chunks` parts of the tokens."""

    chunks: int
    shifted: bool
    """A causal model's labels are its inputs: a token's label is the next one's."""

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        """The mean cross-entropy of the batch's labels."""
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        if model.config.is_encoder_decoder:  # whose forward would have made them of the labels
            inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        head = model.get_output_embeddings()
        with _passing_on(head):
            hidden = model(**inputs).logits  # [B, T, D]
        return bdia.chunked_cross_entropy(
            hidden, head.weight, self.labels(batch), self.chunks, bias=head.bias, ignore_index=UNLABELLED
        )

    def labels(self, batch: Batch) -> Tensor:
        """The label of each token, [B, T]."""
        labels: Tensor = batch["labels"]
        return F.pad(labels, (0, 1), value=UNLABELLED)[:, 1:] if self.shifted else labels

    def check(self, name: str, model: nn.Module, batch: Batch) -> None:
        """Tries on a few tokens whether the loss is the model's own.

        Raises: UnsupportedError where it is not, with the reason.
        """
        few = {key: value[: TRIED[0], : TRIED[1]] for key, value in batch.items()}
        reason = _reason(self, model, few)
        if reason is not None:
            raise UnsupportedError(
                f"loss_chunks {self.chunks}: {name} {reason}, so its loss cannot be taken in chunks; "
                "leave --loss-chunks out"
            )


def _reason(loss: ChunkedLoss, model: Any, batch: Batch) -> str | None:
    """What stands against it; None where the loss is as the model's own."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return f"has a {type(head).__name__} for an output layer, and no linear one"
    made: list[Tensor] = []
    hook = head.register_forward_hook(lambda layer, given, output: made.append(output))
    training = model.training
    model.eval()  # or dropout would make two losses of one
    try:
        with torch.no_grad():
            own = model(**batch)
            if len(made) != 1 or not torch.equal(own.logits, made[0]):
                return "does something to its logits after its output layer"
            ours = float(replace(loss, chunks=1)(model, batch))
    except Exception as error:  # whatever a model makes of it
        if is_out_of_memory(error):
            raise
        return f"does not run without its output layer ({one_line(error)[:100]})"
    finally:
        hook.remove()
        model.train(training)
    if abs(ours - float(own.loss)) > TOLERANCE * abs(float(own.loss)):
        return f"has another loss than cross-entropy: {float(own.loss):.6g} and not {ours:.6g}"
    return None


@contextmanager
def _passing_on(head: nn.Linear) -> Iterator[None]:
    """Inside, the layer returns what it is given."""
    vars(head)["forward"] = _as_given
    try:
        yield
    finally:
        del vars(head)["forward"]


def _as_given(hidden: Tensor) -> Tensor:
    return hidden
