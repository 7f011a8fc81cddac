"""Cross-entropy over a large vocabulary without all of its logits.

Shapes: n tokens, D width, V vocabulary, m tokens of one chunk.

Logits outweigh everything else in a small language model: [n, V] in fp32, three times over in a backward. Here a chunk
of tokens at a time has them, first in the forward, for the loss, and again in the backward, for the gradients; what is
kept between the two is one number a token. Taking the gradients in the forward already would spare the second product
and need as much memory at its peak, but they would be of a loss that nobody has scaled yet, which 16 bits do not bear.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Reduction = Literal["mean", "sum"]


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunks: int,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """`F.cross_entropy(F.linear(hidden, weight, bias), targets)` in `chunks` parts of the tokens, in the memory of one.

    Value and gradients are those of the whole but for the order in which sums are taken. In 16 bits, logits become fp32
    before the loss, and the gradient of `weight` is summed over the chunks in fp32. Under autocast the products are
    taken in its dtype. There is a first derivative, no second.

    Args:
        hidden: what the output layer is given, [..., D].
        weight: of the output layer, [V, D]; it may be tied to the embedding, or frozen.
        targets: the right tokens [...], one for each row of `hidden`.
        chunks: into how many parts of the tokens, which differ by a token at most; with 1, it is torch's own function.
        bias: of the output layer, [V].
        ignore_index: a target with this value takes no part in the loss.
        reduction: `mean` over the tokens that take part, or `sum`.

    Raises: ValueError for shapes that do not fit, fewer than one chunk, another reduction.
    """
    _check(hidden, weight, targets, chunks, bias, reduction)
    rows, labels = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if chunks == 1:
        logits = _widened(F.linear(rows, weight, bias))
        return F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction=reduction)
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    loss = cast("Any", _Chunked).apply(rows, weight, bias, labels, chunks, ignore_index, reduction, dtype)
    return cast("Tensor", loss)


class _Chunked(torch.autograd.Function):
    """The loss [] of hidden [n, D], weight [V, D], bias [V] and targets [n]."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        chunks: int,
        ignore_index: int,
        reduction: Reduction,
        dtype: torch.dtype | None,
    ) -> Tensor:
        ignored = targets == ignore_index  # [n]
        labels = targets.masked_fill(ignored, 0)
        losses, normalisers = [], []
        with torch.autocast(hidden.device.type, enabled=False):
            head = _head(weight, bias, dtype)
            for part in _parts(hidden.shape[0], chunks):
                logits = _widened(F.linear(_cast(hidden[part], dtype), *head))  # [m, V]
                right = logits.gather(1, labels[part, None]).squeeze(1)  # [m]
                normaliser = _log_sum_exp(logits)
                losses.append(normaliser - right)
                normalisers.append(normaliser)
                del logits
            normaliser = torch.cat(normalisers)
            loss = torch.cat(losses).masked_fill(ignored, 0.0).sum()
            count = (~ignored).sum() if reduction == "mean" else None
        ctx.save_for_backward(hidden, weight, bias, targets, normaliser, count)
        ctx.chunks, ctx.ignore_index, ctx.dtype = chunks, ignore_index, dtype
        return loss if count is None else loss / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normaliser, count = ctx.saved_tensors
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        ignored = targets == ctx.ignore_index
        labels = targets.masked_fill(ignored, 0)
        factors = torch.where(ignored, 0.0, grad if count is None else grad / count)[:, None]  # [n, 1]
        grad_hidden = torch.empty_like(hidden) if of_hidden else None
        weight_sum, bias_sum = _Sum(), _Sum()
        with torch.autocast(hidden.device.type, enabled=False):
            head = _head(weight, bias, ctx.dtype)
            for part in _parts(hidden.shape[0], ctx.chunks):
                rows = _cast(hidden[part], ctx.dtype)
                logits = _widened(F.linear(rows, *head))  # [m, V]
                # ∂L/∂logits = (softmax − one-hot) · factor, in the place of the logits
                logits.sub_(normaliser[part, None]).exp_()
                logits[torch.arange(len(rows), device=rows.device), labels[part]] -= 1.0
                grads = logits.mul_(factors[part]).to(rows.dtype)
                del logits
                if grad_hidden is not None:
                    grad_hidden[part] = grads @ head[0]
                if of_weight:
                    weight_sum.add_product(grads, rows)
                if of_bias:
                    bias_sum.add(grads.sum(0))
                del grads
        return grad_hidden, weight_sum.total(weight), bias_sum.total(bias), None, None, None, None, None


class _Sum:
    """A gradient summed over chunks: each chunk's share is as exact as one product of the whole, and their sum is not
    to lose in 16 bits what that has."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None

    def add_product(self, grads: Tensor, rows: Tensor) -> None:
        """Adds gradsᵀ·rows, [V, D]."""
        if self._sum is not None and self._sum.dtype == rows.dtype:
            self._sum.addmm_(grads.T, rows)
        else:
            self.add(grads.T @ rows)

    def add(self, share: Tensor) -> None:
        """Adds one chunk's share."""
        if self._sum is None:
            self._sum = _widened(share)
        else:
            self._sum.add_(share)

    def total(self, like: Tensor | None) -> Tensor | None:
        """The sum in the dtype of what it is the gradient of; None where nothing was added."""
        return None if self._sum is None or like is None else self._sum.to(like.dtype)


def _parts(tokens: int, chunks: int) -> Iterator[slice]:
    """Slices of `tokens` rows, the larger ones first; as many as there are tokens, of more chunks."""
    count = max(1, min(chunks, tokens))
    each, more = divmod(tokens, count)
    start = 0
    for chunk in range(count):
        stop = start + each + (chunk < more)
        yield slice(start, stop)
        start = stop


def _log_sum_exp(logits: Tensor) -> Tensor:
    """log Σ exp over each row, [m, V] → [m], in the place of the logits: `torch.logsumexp` would take as much again."""
    highest = logits.amax(1, keepdim=True)
    return logits.sub_(highest).exp_().sum(1).log_().add_(highest.squeeze(1))


def _widened(values: Tensor) -> Tensor:
    """16 bits as fp32; a cross-entropy in bf16 loses most of its digits."""
    return values.float() if values.dtype.itemsize < 4 else values


def _cast(values: Tensor, dtype: torch.dtype | None) -> Tensor:
    """As autocast would, which leaves float64 alone."""
    return values if dtype is None or values.dtype == torch.float64 else values.to(dtype)


def _head(weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None) -> tuple[Tensor, Tensor | None]:
    """The output layer, cast once for all chunks."""
    return _cast(weight, dtype), None if bias is None else _cast(bias, dtype)


def _check(
    hidden: Tensor, weight: Tensor, targets: Tensor, chunks: int, bias: Tensor | None, reduction: Reduction
) -> None:
    if chunks < 1:
        raise ValueError(f"chunks={chunks}: expected 1 or more parts of the tokens")
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction={reduction!r}: expected one of {', '.join(get_args(Reduction))}")
    if hidden.shape[:-1] != targets.shape:
        raise ValueError(
            f"hidden is {tuple(hidden.shape)} and targets {tuple(targets.shape)}: expected a target for each row of "
            f"hidden, {tuple(hidden.shape[:-1])}"
        )
    vocab = weight.shape[0]
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1] or (bias is not None and bias.shape != (vocab,)):
        beside = "" if bias is None else f", bias {tuple(bias.shape)}"
        raise ValueError(
            f"hidden is {tuple(hidden.shape)}, weight {tuple(weight.shape)}{beside}: expected [..., D], [V, D] and [V]"
        )
