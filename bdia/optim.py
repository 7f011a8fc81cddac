"""SET-Adam, the optimiser of the paper's experiments: Adam with step sizes that differ less within a tensor.

    optimizer = bdia.SetAdam(model.parameters(), lr=1e-4)

Source: G. Zhang, "On Suppressing Range of Adaptive Stepsizes of Adam to Improve Generalisation Performance",
arXiv 2302.01029; the hyperparameters that are the defaults are the paper's for BDIA.

Shapes: d elements a parameter tensor, of any shape; every statistic is of one tensor, the paper's "layer".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, _default_to_fused_or_foreach

TRANSLATION = 0.5
"""τ, the part of the least denominator that all of a tensor's are lowered by."""


class SetAdam(Optimizer):
    """SET-Adam. With m and v as in Adam, for each parameter tensor of d elements, at step t:

        ṽ = v · (Σv)² / (d · Σv²)           scaled down by cos² of the angle between v and a constant vector
        w = √(ṽ / (1 − β₂ᵗ) + ε)            ε embedded under the root
        w̃ = w − ½ · min w                   translated down
        θ ← θ − lr / (1 − β₁ᵗ) · m / w̃

    A tensor of equal |gradients| takes steps twice as long as Adam's, and a scalar always does: its w̃ is w/2.

    Weight decay is decoupled, as AdamW's: θ ← (1 − lr · weight_decay) · θ first. A tensor without a gradient in a step
    is left alone; one whose gradients have all been 0 stays as it is. A gradient that is not finite makes all of its
    tensor NaN, not just its own element as in Adam.

    Each step waits for the device once for each device and number format: the three statistics of all tensors go to the
    host together, and the scalars that follow from them are worked out there in double precision. So it cannot be
    captured in a CUDA graph. While it runs it needs one value more for each element: of one tensor at a time, or with
    foreach of all of them.

    Args:
        params: parameters, or groups of them as dicts with options of their own, as in any optimiser of torch.
        lr: learning rate; a tensor of one element is read at each step.
        betas: decay of m and of v.
        eps: ε, under the root: its square root is what compares with Adam's.
        weight_decay: decoupled, times lr.
        foreach: handle many tensors in one call, or one after the other; None chooses as torch's optimisers do, foreach
            on a GPU. Both compute the same.
        maximize: ascend rather than descend.

    Raises: ValueError for an option out of its range; `step` raises RuntimeError for sparse gradients, complex or
    sharded parameters, and while a CUDA graph is being captured.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-18,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for index, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step. `closure`, where given, evaluates the model again and returns the loss, which is returned."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("SetAdam does not support CUDA graph capture")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            tensors = [self._of(parameter) for parameter in group["params"] if parameter.grad is not None]
            if not tensors:
                continue
            foreach = group["foreach"]
            if foreach is None:
                _, foreach = _default_to_fused_or_foreach([one.parameter for one in tensors], differentiable=False)
            # A tensor rather than a number, which would be made into one for each of these, all on the CPU.
            torch._foreach_add_([one.step for one in tensors], torch.tensor(1.0), alpha=1.0)
            tensors = [one for one in tensors if one.parameter.numel()]  # an empty one has no minimum
            if foreach:
                for alike in _by_format(tensors):
                    _step_many(alike, group)
            else:
                for one in tensors:
                    _step_one(one, group)
        return loss

    def _of(self, parameter: Tensor) -> _Tensors:
        grad = parameter.grad
        assert grad is not None
        if grad.is_sparse:
            raise RuntimeError("SetAdam does not support sparse gradients")
        if torch.is_complex(parameter):
            raise RuntimeError("SetAdam does not support complex parameters")
        if type(parameter).__name__ == "DTensor":  # a shard's statistics are not its tensor's
            raise RuntimeError("SetAdam does not support sharded parameters (DTensor)")
        state = self.state[parameter]
        if not state:
            # On the CPU, wherever the parameter is, as in torch's optimisers: it is only read there.
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return _Tensors(parameter, grad, state["exp_avg"], state["exp_avg_sq"], state["step"])


@dataclass(frozen=True)
class _Tensors:
    """A parameter with what belongs to it, all but `step` of its shape."""

    parameter: Tensor
    grad: Tensor
    m: Tensor
    v: Tensor
    step: Tensor


@dataclass(frozen=True)
class _Scalars:
    """What is left of the formula once a tensor's statistics are known. With c = (Σv)² / (d·Σv²·(1 − β₂ᵗ)),

        w = √(c·v + ε) = √c · √(v + ε/c), so that θ −= lr/(1 − β₁ᵗ)/√c · m / (√(v + ε/c) − ½·√(min v + ε/c)):

    one pass less over d elements, and min w at no cost, the root being monotone.
    """

    shift: float
    """ε/c."""
    lowered: float
    """½·√(min v + ε/c)."""
    size: float
    """lr/(1 − β₁ᵗ)/√c."""


def _step_one(one: _Tensors, group: dict[str, Any]) -> None:
    beta1, beta2 = group["betas"]
    lr = float(group["lr"])
    grad = -one.grad if group["maximize"] else one.grad
    if group["weight_decay"] != 0:
        one.parameter.mul_(1 - lr * group["weight_decay"])
    one.m.lerp_(grad, 1 - beta1)
    one.v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    (scalars,) = _scalars([one], group, lr)
    w = one.v.add(scalars.shift).sqrt_().sub_(scalars.lowered)
    one.parameter.addcdiv_(one.m, w, value=-scalars.size)


def _step_many(tensors: Sequence[_Tensors], group: dict[str, Any]) -> None:
    """`_step_one` for tensors on one device in one number format, each operation for all of them in one call."""
    beta1, beta2 = group["betas"]
    lr = float(group["lr"])
    parameters, m, v = ([getattr(one, name) for one in tensors] for name in ("parameter", "m", "v"))
    grads: Any = [one.grad for one in tensors]
    if group["maximize"]:
        grads = torch._foreach_neg(grads)
    if group["weight_decay"] != 0:
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
    torch._foreach_lerp_(m, grads, 1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, grads, grads, value=1 - beta2)
    del grads
    scalars = _scalars(tensors, group, lr)
    w: Any = torch._foreach_add(v, [one.shift for one in scalars])
    torch._foreach_sqrt_(w)
    torch._foreach_sub_(w, [one.lowered for one in scalars])
    torch._foreach_addcdiv_(parameters, m, w, [-one.size for one in scalars])


def _by_format(tensors: Sequence[_Tensors]) -> Iterator[list[_Tensors]]:
    """Those on one device in one number format together."""
    alike: dict[object, list[_Tensors]] = {}
    for one in tensors:
        alike.setdefault((one.parameter.device, one.parameter.dtype), []).append(one)
    yield from alike.values()


def _scalars(tensors: Sequence[_Tensors], group: dict[str, Any], lr: float) -> list[_Scalars]:
    """Of each tensor, in double precision, from statistics of all of them that are fetched from the device at once."""
    beta1, beta2 = group["betas"]
    made = []
    for one, (total, norm, least) in zip(tensors, _statistics([one.v for one in tensors]), strict=True):
        step = one.step.item()
        c = _flatness(one.v, total, norm) / (1 - beta2**step)
        shift = group["eps"] / c
        made.append(_Scalars(shift, TRANSLATION * math.sqrt(least + shift), lr / (1 - beta1**step) / math.sqrt(c)))
    return made


def _flatness(v: Tensor, total: float, norm: float) -> float:
    """(Σv)² / (d·Σv²), 1/d … 1, of v ≥ 0 with the given sum and Euclidean norm; 1 where v is 0.

    Where squares of v leave the range of its format, v is scaled first: in fp32, those of gradients under 1e-9 or so.
    """
    if total == 0:
        return 1.0
    count = v.numel()
    if norm**2 < 1e3 * count * torch.finfo(_accumulated_in(v)).tiny or math.isinf(norm):
        scaled = v.double() / v.max()
        total, norm = scaled.sum().item(), torch.linalg.vector_norm(scaled).item()
    return (total / norm) ** 2 / count


def _statistics(v: list[Tensor]) -> list[list[float]]:
    """Σv, √Σv² and min v of each tensor, all on one device and of one number format."""
    return _statistics_of_each(v) if v[0].device.type == "cpu" else _statistics_of_all(v)


def _statistics_of_each(v: list[Tensor]) -> list[list[float]]:
    """By the quickest kernels of a CPU."""
    dtype = _accumulated_in(v[0])
    return [
        [one.sum(dtype=dtype).item(), torch.linalg.vector_norm(one, dtype=dtype).item(), one.min().item()] for one in v
    ]


def _statistics_of_all(v: list[Tensor]) -> list[list[float]]:
    """By those that a GPU has for many tensors at once: Σv is a norm, as v ≥ 0, and the minimum a maximum of −v."""
    dtype = _accumulated_in(v[0])
    totals, norms = torch._foreach_norm(v, 1, dtype=dtype), torch._foreach_norm(v, 2, dtype=dtype)
    highest = torch._foreach_max(torch._foreach_neg(v))
    every = torch.stack([torch.stack(totals), torch.stack(norms), -torch.stack(highest).to(dtype)])
    found: list[list[float]] = every.t().tolist()
    return found


def _accumulated_in(v: Tensor) -> torch.dtype:
    """16 bits have too few digits for a sum."""
    return torch.float32 if v.dtype.itemsize < 4 else v.dtype
