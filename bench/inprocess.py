"""Measuring one's own training step in this process, as in a test: `bench.measure`.

assert bench.measure(workload, "bdia").activation_bytes <= 82 * 2**20
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

import bdia
from bdia.backprop import rng
from bdia.distributions import Gamma
from bdia.methods import STORED, Method
from bench import resolve
from bench.builders.function import checked
from bench.meters.gradients import measure_gradients
from bench.meters.loss import Glance
from bench.meters.memory import measure_memory
from bench.meters.reconstruction import measure_reconstruction
from bench.record import BlockError
from bench.snapshot import Snapshot
from bench.workload import Workload


@dataclass(frozen=True)
class Result:
    """What was measured, under the names of `bench.record.Record`; None where a method has no such thing. What NVML and
    the system say of a process is left out: it would be of the whole test run."""

    method: str
    bits: int | None
    static_bytes: int
    activation_bytes: int
    peak_bytes: int
    saved_bytes: int
    side_bytes: int | None
    rng_bytes: int | None
    reserved_bytes: int | None
    blocks: int
    stream_elements: int | None
    loss: float
    """Of the method's own forward at the weights as they are."""
    reconstruction: tuple[BlockError, ...] | None
    bit_exact: bool | None
    gradient_error: float | None
    message: str | None
    """Why there is no gradient error, where there should be one."""


def measure(
    workload: Workload,
    method: str | Method = "bdia",
    *,
    bits: int = 9,
    gamma: float | str | Gamma | None = None,
    seed: int = 0,
) -> Result:
    """Measures `workload` under `method`: memory, reconstruction, gradients.

    Takes four optimiser steps and a few forwards; afterwards weights, buffers, gradients, the optimiser's state, modes
    and torch's RNG states are as they were. The root of the model is put into training mode meanwhile.

    Bytes are those of `bdia-bench run`, but for `static_bytes` and with it `peak_bytes` on a GPU, where what the
    process holds beside the workload counts too.

    Args:
        method: a name of `bdia-bench list`, `FILE.py:NAME`, or a `bdia.methods.Method`.
        bits: l of eq. 17; no matter to methods that do not quantise.
        gamma: the distribution of γ, as `bdia.attach` takes it; no matter to methods that draw none.
        seed: of γ, and of torch's generator before each forward.

    Raises: whatever `bdia.attach` or the workload raises, HeadroomError beyond the exact range among it; UsageError for
    a workload that will not do; MeterError where memory cannot be known exactly.
    """
    chosen = resolve.method(method) if isinstance(method, str) else method
    options = _Options(seed, bits if chosen.quantised else None, gamma if chosen.draws_gamma else None)
    device = workload.device
    before = rng.state_of(device)
    snapshot = Snapshot(workload.model, workload.optimizer)
    try:
        with rng.restored(before, device):
            return _measure(checked(workload, "workload", device, seed=seed), chosen, options, snapshot)
    finally:
        snapshot.everything()


@dataclass(frozen=True)
class _Options:
    """What is asked of a method; None where it has no use for it."""

    seed: int
    bits: int | None
    gamma: float | str | Gamma | None


def _measure(workload: Workload, method: Method, options: _Options, snapshot: Snapshot) -> Result:
    seed, bits, gamma = options.seed, options.bits, options.gamma
    glance = Glance()
    quantised: dict[str, Any] = {} if bits is None else {"bits": bits}
    with bdia.attach(workload.model, method, gamma=gamma, seed=seed, blocks=workload.blocks, **quantised) as handle:
        torch.manual_seed(seed)
        with handle.observing(glance), torch.no_grad():
            loss = float(workload.loss(workload.model, workload.batch))
        blocks = sum(map(len, handle.chains))
        torch.manual_seed(seed)
        memory = measure_memory(workload, handle, workload.device)
    snapshot.weights()
    rebuilt = gradients = None
    if method.reversible:
        torch.manual_seed(seed)
        rebuilt = measure_reconstruction(workload, method, bits, seed=seed, gamma=gamma)
        snapshot.weights()
    if method.strategy != STORED:
        torch.manual_seed(seed)
        gradients = measure_gradients(workload, method, bits, seed=seed, gamma=gamma)
    return Result(
        method=method.name,
        bits=bits,
        static_bytes=memory.static_bytes,
        activation_bytes=memory.activation_bytes,
        peak_bytes=memory.peak_bytes,
        saved_bytes=memory.saved_bytes,
        side_bytes=memory.side_bytes,
        rng_bytes=memory.rng_bytes,
        reserved_bytes=memory.reserved_bytes,
        blocks=blocks,
        stream_elements=glance.elements,
        loss=loss,
        reconstruction=None if rebuilt is None else tuple(rebuilt.reconstruction),
        bit_exact=None if rebuilt is None else rebuilt.bit_exact,
        gradient_error=None if gradients is None else gradients.gradient_error,
        message=None if gradients is None else gradients.message,
    )
