"""The memory of one training step: what the method keeps, what the step needs, and what holds them.

`peak_bytes` is of a step as people run it, `activation_bytes` of a forward and a backward between gradients that
stay allocated, so that it holds what the method controls and nothing else. `bench.meters.level` says which
memory is seen: torch's allocator, and not the scratch of oneDNN and MKL.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from bdia.backprop import Watcher
from bdia.storages import address, storages
from bench import accumulation, parts
from bench.accumulation import Around, Part
from bench.meters import nvml, rss
from bench.meters.breakdown import Peak, Survey
from bench.meters.level import Level, level, moment_of
from bench.meters.lines import Lines
from bench.meters.trace import Trace
from bench.parts import Flat, PartName, Parts
from bench.workload import Workload, tensors


class Held(Protocol):
    """What a method's handle tells of the last forward, bytes held at its end beside the activations, and what it shows
    of one as it happens."""

    @property
    def side_bytes(self) -> int | None: ...

    @property
    def rng_bytes(self) -> int | None: ...

    def observing(self, watcher: Watcher) -> AbstractContextManager[object]: ...


@dataclass(frozen=True)
class MemoryReading:
    """The memory fields of `bench.record.Record`, in bytes; None where there is no such figure, never 0.

    All but `rss_bytes` and `nvml_bytes` are the same from run to run.
    """

    static_bytes: int
    """Allocator level before the step, after a warm one. On a CPU the sum over the distinct storages of
    parameters, buffers, gradients, optimiser state and batch, as its allocator keeps no absolute figure; on
    CUDA the allocator's own, library workspaces included."""
    activation_bytes: int
    """Highest level over forward and backward with gradients kept allocated, less `static_bytes`."""
    peak_bytes: int
    """Highest level over a whole step that starts and ends without gradients, absolute: forward, loss,
    backward, optimiser, zero_grad(set_to_none=True)."""
    activation_parts: Parts | None
    """What `activation_bytes` is made of; adds up to it. None, as `peak_parts`, where it cannot be told."""
    peak_parts: Parts | None
    """What `peak_bytes` is made of; adds up to it."""
    saved_bytes: int
    """Level at the end of the forward, less `static_bytes`; of the first forward, where the step has several."""
    side_bytes: int | None
    rng_bytes: int | None
    reserved_bytes: int | None
    """What CUDA's allocator has reserved; None on a CPU."""
    nvml_bytes: int | None
    """NVML's figure for this process on this card; None on a CPU and where NVML has none."""
    rss_bytes: int | None
    """The process's high-water resident set, before the profiler's own bookkeeping can add to it."""


def measure_memory(workload: Workload, handle: Held, device: torch.device) -> MemoryReading:
    """Measures `workload` as it stands, with a method attached.

    Takes four optimiser steps, so weights and optimiser state are others afterwards: build anew before measuring
    anything that depends on them.

    Raises: MeterError where the level cannot be known exactly; whatever the workload raises.
    """
    survey = Survey()
    reading, meter, held = _measure(workload, handle, device, survey)
    try:
        return _broken_down(reading, survey, meter.trace, held)[0]
    except Exception as error:  # the figures are exact, whatever becomes of their breakdown
        warnings.warn(f"memory is not broken down: {type(error).__name__}: {error}", stacklevel=2)
        return reading


def measure_peaks(workload: Workload, handle: Held, device: torch.device) -> tuple[MemoryReading, Peak, Peak]:
    """The same, and what was alive at the highest moment of either stretch, each allocation with the Python line that
    made it. What is there before a step (parameters and so on) is in the reading's parts alone.

    Raises: as `measure_memory` does; MeterError as well where there is no trace.
    """
    survey = Survey(Lines())
    reading, meter, held = _measure(workload, handle, device, survey)
    return _broken_down(reading, survey, meter.trace, held)


def count_memory(workload: Workload, handle: Held, meter: Level, survey: Survey) -> MemoryReading:
    """The same of a workload made of fake tensors on a CPU, by a `meter` that sees those: nothing is computed, so no
    step has to be taken to warm up but the one that makes the optimiser's state.

    Raises: whatever the workload raises.
    """
    workload.model.zero_grad(set_to_none=True)
    reading, held = _read(workload, handle, torch.device("cpu"), survey, meter)
    return _broken_down(reading, survey, meter.trace, held)[0]


def _broken_down(reading: MemoryReading, survey: Survey, trace: Trace, held: Flat) -> tuple[MemoryReading, Peak, Peak]:
    """`reading` with its parts, and the peaks they are of. `held` is what a step begins with."""
    kept = survey.peak(trace, moment_of("static"), moment_of("backward end"))
    whole = survey.peak(trace, moment_of("step start"), moment_of("step end"))
    told = replace(
        reading,
        activation_parts=parts.packed(kept.parts(reading.activation_bytes)),
        peak_parts=parts.packed(held | whole.parts(reading.peak_bytes - sum(held.values()))),
    )
    return told, kept, whole


def _measure(
    workload: Workload, handle: Held, device: torch.device, survey: Survey
) -> tuple[MemoryReading, Level, Flat]:
    """The reading without its parts; the level, which has the trace; what a step begins with."""
    workload.model.zero_grad(set_to_none=True)
    # The first step makes the optimiser's state; only the second one's high-water RSS is a whole step's.
    run_step(workload)
    run_step(workload)
    resident = rss.high_water_bytes()
    meter = level(device)
    reading, held = _read(workload, handle, device, survey, meter)
    on_cuda = device.type == "cuda"
    reading = replace(
        reading,
        reserved_bytes=torch.cuda.memory_reserved(device) if on_cuda else None,
        nvml_bytes=nvml.process_bytes(cuda_uuid(device)) if on_cuda else None,
        rss_bytes=resident,
    )
    return reading, meter, held


def _read(
    workload: Workload, handle: Held, device: torch.device, survey: Survey, meter: Level
) -> tuple[MemoryReading, Flat]:
    """What the allocator tells of the steps that are measured; what a step begins with."""
    model, optimizer = workload.model, workload.optimizer
    held_bytes: list[int | None] = []

    def observing() -> AbstractContextManager[object]:
        return handle.observing(survey)

    def mark_first(part: Part, loss: torch.Tensor) -> None:
        if part.number == 0:
            meter.mark("forward end")
            held_bytes.extend((handle.side_bytes, handle.rng_bytes))

    with meter:
        # Warm again under the meter: what a step leaves behind for the next to release is known from here on.
        accumulation.backward(workload, workload.batch, around=observing)
        with survey.optimizing():
            optimizer.step()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        gc.collect()
        static = static_bytes(workload, device)
        meter.mark("static")
        with survey.lines:
            accumulation.backward(workload, workload.batch, around=observing, forwarded=mark_first)
        meter.mark("backward end")

        model.zero_grad(set_to_none=True)
        gc.collect()
        bare, held = static_bytes(workload, device), static_parts(workload, device)
        meter.mark("step start")
        with survey.lines:
            run_step(workload, survey, around=observing)
        meter.mark("step end")
    reading = MemoryReading(
        static_bytes=static,
        activation_bytes=meter.rise("static", "backward end"),
        peak_bytes=bare + meter.rise("step start", "step end"),
        activation_parts=None,
        peak_parts=None,
        saved_bytes=meter.change("static", "forward end"),
        side_bytes=held_bytes[0],
        rng_bytes=held_bytes[1],
        reserved_bytes=None,
        nvml_bytes=None,
        rss_bytes=None,
    )
    return reading, held


def run_step(workload: Workload, survey: Survey | None = None, *, around: Around = nullcontext) -> None:
    """One training step as people run it. Gradients are None before and after it. A `survey` is told of it, and entered
    by `around` for each forward and backward."""
    loss = accumulation.backward(workload, workload.batch, around=around)
    if survey is None:
        workload.optimizer.step()
    else:
        survey.gradients(parameter.grad for parameter in workload.model.parameters())
        with survey.optimizing():
            workload.optimizer.step()
    del loss  # which a loop as people write it keeps until here
    workload.model.zero_grad(set_to_none=True)


def static_bytes(workload: Workload, device: torch.device) -> int:
    """What is allocated on `device` between steps, absolute (see `MemoryReading.static_bytes`)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)
    return sum(static_parts(workload, device).values())


def static_parts(workload: Workload, device: torch.device) -> Flat:
    """What is known of it: a storage counts once and whole, however many tensors look into it."""
    found: dict[int, tuple[PartName, int]] = {}
    for part, tensor in _kept_tensors(workload):
        if tensor.device == device:
            for storage in storages(tensor):
                found.setdefault(address(storage), (part, storage.nbytes()))
    sums: Flat = {}
    for part, nbytes in found.values():
        sums[part, None] = sums.get((part, None), 0) + nbytes
    return sums


def _kept_tensors(workload: Workload) -> Iterator[tuple[PartName, torch.Tensor]]:
    for parameter in workload.model.parameters():
        yield "parameters", parameter
        if parameter.grad is not None:
            yield "gradients", parameter.grad
    for buffer in workload.model.buffers():
        yield "parameters", buffer
    for tensor in tensors(tuple(workload.optimizer.state.values())):
        yield "optimizer_state", tensor
    for tensor in tensors(workload.batch):
        yield "input", tensor


def cuda_uuid(device: torch.device) -> str:
    """The UUID of a CUDA device, which CUDA_VISIBLE_DEVICES does not renumber; without NVML's `GPU-`."""
    return str(torch.cuda.get_device_properties(device).uuid)
