"""Puts a method onto a workload, the same way for every measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bdia
from bdia.dial import WHOLE, Dial
from bdia.distributions import Gamma
from bdia.methods import Method
from bench import resolve

if TYPE_CHECKING:
    from bench.case import Plan
    from bench.workload import Workload


def attach(
    workload: Workload,
    method: str | Method,
    *,
    seed: int,
    bits: int | None = None,
    gamma: float | str | Gamma | None = None,
    verify: bool = False,
    dial: Dial = WHOLE,
) -> bdia.Handle:
    """`bdia.attach` to the workload's blocks; `bits` and `gamma` are None for a method without them.

    Raises: whatever `bdia.attach` does.
    """
    given: dict[str, Any] = {} if bits is None else {"bits": bits}
    return bdia.attach(
        workload.model, method, seed=seed, gamma=gamma, blocks=workload.blocks, verify=verify, keep=dial.keep,
        micro_batches=dial.micro_batches, **given,
    )  # fmt: skip


def attach_planned(workload: Workload, plan: Plan, *, twin: bool = False) -> bdia.Handle:
    """The plan's method on the workload, or its stored twin, of which there is nothing to verify.

    Raises: whatever `bdia.attach` does; UsageError for a method that is none.
    """
    case, method = plan.case, resolve.method(plan.case.method)
    chosen, verify, dial = (method.twin(), False, case.dial.stored) if twin else (method, plan.verify, case.dial)
    return attach(workload, chosen, seed=case.seed, bits=case.bits, gamma=case.gamma, verify=verify, dial=dial)
