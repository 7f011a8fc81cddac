"""Measuring one's own training step in this process, as in a test: `bench.measure`.

assert bench.measure(workload, "bdia").activation_bytes <= 82 * 2**20
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bdia import distributions
from bdia.backprop import rng
from bdia.dial import Dial
from bdia.distributions import Gamma
from bdia.methods import STORED, Method
from bench import resolve
from bench.attaching import attach
from bench.builders.function import checked
from bench.meters.gradients import measure_gradients
from bench.meters.loss import measure_loss
from bench.meters.memory import measure_memory
from bench.meters.reconstruction import measure_reconstruction
from bench.parts import Parts
from bench.record import BlockError
from bench.snapshot import Snapshot
from bench.workload import Workload


@dataclass(frozen=True)
class Result:
    """What was measured, under the names of `bench.record.Record`; None where a method has no such thing. What NVML and
    the system say of a process is left out: it would be of the whole test run."""

    method: str
    bits: int | None
    gamma: str | None
    """The distribution of γ; None for a method that draws none."""
    static_bytes: int
    activation_bytes: int
    peak_bytes: int
    activation_parts: Parts | None
    """What `activation_bytes` is made of, by part and block (see `bench.parts`)."""
    peak_parts: Parts | None
    saved_bytes: int
    side_bytes: int | None
    rng_bytes: int | None
    reserved_bytes: int | None
    blocks: int
    stream_elements: int | None
    loss_plain: float
    """Training loss at the weights as they are, as a plain transformer."""
    loss_method: float
    """The same with the method: BDIA's is another function."""
    max_abs: float | None
    """Largest |x| of the stream in the forward; None where it is not quantised."""
    largest_bits: int | None
    """The largest l for which that forward would have been exact."""
    reconstruction: tuple[BlockError, ...] | None
    bit_exact: bool | None
    gradient_error: float | None
    gradient_block: int | None
    rounding_error: float | None
    rounding_block: int | None
    message: str | None
    """Why there is no gradient error, where there should be one, or what is wrong that no number tells."""


def measure(
    workload: Workload,
    method: str | Method = "bdia",
    *,
    bits: int = 9,
    gamma: float | str | Gamma | None = None,
    seed: int = 0,
    verify: bool = False,
    keep: int = 0,
    micro_batches: int = 1,
    accumulate: int = 1,
) -> Result:
    """Measures `workload` under `method`: memory, reconstruction, gradients, loss.

    Takes four optimiser steps and a few forwards; afterwards weights, buffers, gradients, the optimiser's state, modes
    and torch's RNG states are as they were. The root of the model is put into training mode meanwhile.

    Bytes are those of `bdia-bench run`, but for `static_bytes` and with it `peak_bytes` on a GPU, where what the
    process holds beside the workload counts too.

    Args:
        method: a name of `bdia-bench list`, `FILE.py:NAME`, or a `bdia.methods.Method`.
        bits: l of eq. 17; no matter to methods that do not quantise.
        gamma: the distribution of γ, as `bdia.attach` takes it; no matter to methods that draw none.
        seed: of γ, and of torch's generator before each forward.
        verify: compare every activation as it is rebuilt, as `bdia.attach` does; memory is measured with it.
        keep: so many of the last blocks keep their graph, as in `bdia.attach`.
        micro_batches: parts that the batch is cut into inside each block, as in `bdia.attach`.
        accumulate: parts that the batch is cut into along its samples, a forward and a backward each.

    Raises: whatever `bdia.attach` or the workload raises, HeadroomError beyond the exact range among it; UsageError for
    a workload that will not do; MeterError where memory cannot be known exactly.
    """
    chosen = resolve.method(method) if isinstance(method, str) else method
    options = _Options(
        seed=seed,
        bits=bits if chosen.quantised else None,
        gamma=distributions.parse(gamma) if chosen.draws_gamma else None,
        verify=verify,
        dial=Dial(keep, micro_batches),
    )
    device = workload.device
    before = rng.state_of(device)
    snapshot = Snapshot(workload.model, workload.optimizer)
    try:
        with rng.restored(before, device):
            step = checked(workload, "workload", device, seed=seed).accumulating(accumulate)
            return _measure(step, chosen, options, snapshot)
    finally:
        snapshot.everything()


@dataclass(frozen=True)
class _Options:
    """What is asked of a method; None where it has no use for it."""

    seed: int
    bits: int | None
    gamma: Gamma | None
    verify: bool
    dial: Dial


def _measure(workload: Workload, method: Method, options: _Options, snapshot: Snapshot) -> Result:
    asked: dict[str, Any] = vars(options)
    unverified = asked | {"verify": False}
    torch.manual_seed(options.seed)
    losses = measure_loss(workload, method, options.bits, seed=options.seed, gamma=options.gamma, dial=options.dial)
    snapshot.weights()
    torch.manual_seed(options.seed)
    with attach(workload, method, **asked) as handle:
        memory = measure_memory(workload, handle, workload.device)
    snapshot.weights()
    rebuilt = gradients = None
    if method.reversible:
        torch.manual_seed(options.seed)
        rebuilt = measure_reconstruction(workload, method, **unverified)
        snapshot.weights()
    if method.strategy != STORED:
        torch.manual_seed(options.seed)
        gradients = measure_gradients(workload, method, **unverified)
    rounding = losses.rounding
    notes = [reading.message for reading in (rounding, gradients) if reading is not None]
    return Result(
        method=method.name,
        bits=options.bits,
        gamma=None if options.gamma is None else str(options.gamma),
        static_bytes=memory.static_bytes,
        activation_bytes=memory.activation_bytes,
        peak_bytes=memory.peak_bytes,
        activation_parts=memory.activation_parts,
        peak_parts=memory.peak_parts,
        saved_bytes=memory.saved_bytes,
        side_bytes=memory.side_bytes,
        rng_bytes=memory.rng_bytes,
        reserved_bytes=memory.reserved_bytes,
        blocks=losses.blocks,
        stream_elements=losses.stream_elements,
        loss_plain=losses.loss_plain,
        loss_method=losses.loss_method,
        max_abs=None if losses.headroom is None else losses.headroom.max_abs,
        largest_bits=None if losses.headroom is None else losses.headroom.largest_bits,
        reconstruction=None if rebuilt is None else tuple(rebuilt.reconstruction) or None,
        bit_exact=None if rebuilt is None else rebuilt.bit_exact,
        gradient_error=None if gradients is None else gradients.gradient_error,
        gradient_block=None if gradients is None else gradients.gradient_block,
        rounding_error=None if rounding is None else rounding.rounding_error,
        rounding_block=None if rounding is None else rounding.rounding_block,
        message=next((note for note in notes if note is not None), None),
    )
