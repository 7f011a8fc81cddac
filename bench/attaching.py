"""Puts a method onto a workload, the same way for every measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bdia
from bdia.distributions import Gamma
from bdia.methods import Method

if TYPE_CHECKING:
    from bench.workload import Workload


def attach(
    workload: Workload,
    method: str | Method,
    *,
    seed: int,
    bits: int | None = None,
    gamma: float | str | Gamma | None = None,
    verify: bool = False,
) -> bdia.Handle:
    """`bdia.attach` to the workload's blocks; `bits` and `gamma` are None for a method without them.

    Raises: whatever `bdia.attach` does.
    """
    given: dict[str, Any] = {} if bits is None else {"bits": bits}
    return bdia.attach(
        workload.model, method, seed=seed, gamma=gamma, blocks=workload.blocks, verify=verify, **given
    )  # fmt: skip
