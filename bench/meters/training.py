"""The highest level of memory over training, step after step, as a fresh process begins it."""

from __future__ import annotations

import torch

from bench import accumulation
from bench.meters.level import level
from bench.meters.memory import static_parts
from bench.workload import Workload


def measure_training(workload: Workload, device: torch.device, steps: int) -> int:
    """Trains `steps` steps on batches 1, 2, …, of which the first makes the optimiser's state. Returns the highest
    level in bytes, absolute: what `bench.meters.memory` calls `peak_bytes` of one step.

    Raises: MeterError where the level cannot be known exactly; whatever the workload raises.
    """
    torch.manual_seed(workload.seed)
    workload.model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        for step in range(1, steps + 1):
            _step(workload, step)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    highest = 0
    for step in range(1, steps + 1):
        held = static_parts(workload, device)
        if workload.batches(step) is not workload.batch:
            held.pop(("input", None), None)  # that of a step is made anew, and the measured one has no part in it
        # A level for each step: the trace of all of them at once would be many times a step's memory.
        with level(device) as meter:
            _step(workload, step)
            meter.mark("end")
        highest = max(highest, sum(held.values()) + meter.rise("start", "end"))
    return highest


def _step(workload: Workload, step: int) -> None:
    accumulation.backward(workload, workload.batches(step))
    workload.optimizer.step()
    workload.model.zero_grad(set_to_none=True)
