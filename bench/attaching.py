"""Puts a method onto a workload, the same way for every measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bdia
from bdia.dial import WHOLE, Dial
from bdia.distributions import Gamma
from bdia.methods import Method
from bench import resolve
from bench.errors import UsageError
from bench.peers import Peer
from bench.peers import handle as peers

if TYPE_CHECKING:
    from bench.case import Plan
    from bench.workload import Workload

Attached = bdia.Handle | peers.PeerHandle
"""A method on a workload, until it is left or detached."""


def attach(
    workload: Workload,
    method: str | Method,
    *,
    seed: int,
    bits: int | None = None,
    gamma: float | str | Gamma | None = None,
    verify: bool = False,
    dial: Dial = WHOLE,
) -> Attached:
    """`bdia.attach` to the workload's blocks, or a peer in the place of their loop; `bits` and `gamma` are None for a
    method without them.

    Raises: whatever `bdia.attach` does; UnsupportedError for a peer that is not installed or cannot have this model,
    UsageError for one of which anything is asked that is the engine's to do.
    """
    if isinstance(method, Peer):
        if verify or dial != WHOLE:
            raise UsageError(f"{method.name}: verify, keep and micro_batches are of bdia's own methods; leave them out")
        return peers.attach(workload.model, method, workload.blocks)
    given: dict[str, Any] = {} if bits is None else {"bits": bits}
    return bdia.attach(
        workload.model, method, seed=seed, gamma=gamma, blocks=workload.blocks, verify=verify, keep=dial.keep,
        micro_batches=dial.micro_batches, **given,
    )  # fmt: skip


def attach_planned(workload: Workload, plan: Plan, *, twin: bool = False) -> Attached:
    """The plan's method on the workload, or its stored twin, of which there is nothing to verify.

    Raises: whatever `bdia.attach` does; UsageError for a method that is none.
    """
    case, method = plan.case, resolve.method(plan.case.method)
    chosen, verify, dial = (method.twin(), False, case.dial.stored) if twin else (method, plan.verify, case.dial)
    return attach(workload, chosen, seed=case.seed, bits=case.bits, gamma=case.gamma, verify=verify, dial=dial)
