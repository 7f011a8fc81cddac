"""What a block was called with: which argument is x, and what among the others cannot be trained with a chain."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from bdia.blocks import unwrapped
from bdia.errors import TapeError

_PACKED = ("cu_seqlens", "cu_seq_lens", "cu_seqlens_q", "cu_seq_lens_q", "cu_seqlens_k", "cu_seq_lens_k", "seq_idx")
"""Arguments that say where one sample ends and the next begins within a row, by the names in use."""


def first_parameter(module: nn.Module) -> str | None:
    """The name of the first parameter of a module's forward, under which x may come as a keyword."""
    parameters = list(inspect.signature(type(unwrapped(module)).forward).parameters.values())[1:]
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return parameters[0].name if parameters and parameters[0].kind is keyword else None


def split(
    name: str, parameter: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, tuple[Any, ...], dict[str, Any]]:
    """x, and the arguments of the block called `name` without it; `parameter` is x's name as a keyword.

    Raises: TapeError where there is no x.
    """
    if args and isinstance(args[0], Tensor):
        return args[0], args[1:], kwargs
    if not args and parameter is not None and isinstance(kwargs.get(parameter), Tensor):
        others = {key: value for key, value in kwargs.items() if key != parameter}
        return kwargs[parameter], (), others
    expected = "block(x, …)" if parameter is None else f"block(x, …) or block({parameter}=x, …)"
    raise TapeError(f"{name} was called without a tensor as its first argument: expected {expected}")


def refuse_packed(name: str, x: Tensor, kwargs: dict[str, Any]) -> None:
    """Refuses several samples packed into one row: γ is drawn per sample, and they could not be told apart.

    Raises: TapeError.
    """
    if x.is_nested:
        found = "a nested tensor"
    else:
        found = next((f"packed samples ({key})" for key in _PACKED if kwargs.get(key) is not None), "")
        positions = kwargs.get("position_ids")
        if isinstance(positions, Tensor) and positions.dim() == 2 and _begin_again(positions):
            found = "packed samples (position_ids begin again within a row)"
    if found:
        raise TapeError(
            f"{name} was given {found}: γ is drawn per sample, and each needs a row of its own; pad the batch instead "
            f"of packing it, or use a method that draws no γ, such as 'checkpoint'"
        )


def _begin_again(positions: Tensor) -> bool:
    """Whether a row of [B, T] counts up, falls back to 0 and counts up again, as no padding on either side does. Waits
    for the device."""
    first, second, third, fourth = (positions[:, at : positions.shape[1] - 3 + at] for at in range(4))
    return bool(((second == first + 1) & (third == 0) & (fourth == 1)).any())


def refuse_replica(name: str, x: Tensor, module: nn.Module) -> None:
    """Refuses a replica that DataParallel made of an attached model on another card: it shares the forward that was put
    in, which runs the original's weights.

    Raises: TapeError.
    """
    weight = next(module.parameters(), None)
    if weight is not None and x.is_cuda and weight.is_cuda and x.device != weight.device:
        raise TapeError(
            f"{name} was given x on {x.device}, and its weights are on {weight.device}, as in a replica that "
            f"DataParallel makes: use DistributedDataParallel, one process a card, or detach()"
        )
