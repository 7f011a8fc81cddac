"""Functions of the user's, `FILE.py:FUNCTION` or `pkg.mod:FUNCTION`: called with the case, they return a workload."""

from __future__ import annotations

import torch

from bench import models, resolve
from bench.builders.checked import CheckedLoss
from bench.case import Case
from bench.errors import UsageError, one_line
from bench.meters import is_out_of_memory
from bench.models import ModelSpec
from bench.workload import Workload, tensors


def introduce(name: str) -> ModelSpec:
    """What the parent knows already, once the file has run and the function is in it. It is not called."""
    resolve.workload(name)
    return models.get(name)


def build(case: Case) -> Workload:
    """What the function returns, checked, and in training mode.

    Raises: UsageError where it raises or returns anything but a `Workload`, where model or batch are not on the case's
    device, and for `bf16` where the model has no such parameters.
    """
    function = resolve.workload(case.model)
    try:
        found = function(case)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        raise UsageError(f"model {case.model!r} failed: {one_line(reason)}") from error
    if not isinstance(found, Workload):
        what = type(found).__name__
        raise UsageError(f"model {case.model!r}: the function returned a {what}; expected a bench.Workload")
    return checked(found, f"model {case.model!r}", torch.device(case.device), dtype=case.dtype, seed=case.seed)


def checked(workload: Workload, name: str, device: torch.device, *, dtype: str = "fp32", seed: int = 0) -> Workload:
    """`workload` with its root in training mode and a loss that is checked at each call; `name` begins the errors.

    Raises: UsageError where model or batch are not on `device`, or a `bf16` model has no such parameters.
    """
    model = workload.model
    for what, held in (("batch", tensors(workload.batch)), ("model", model.parameters())):
        elsewhere = next((one.device for one in held if one.device.type != device.type), None)
        if elsewhere is not None:
            raise UsageError(
                f"{name}: its {what} is on {elsewhere.type}; expected {device.type}: move both to where the case is"
            )
    if dtype == "bf16" and not any(parameter.dtype == torch.bfloat16 for parameter in model.parameters()):
        raise UsageError(f"{name}: no parameter is bfloat16; make them so for --dtype bf16, or leave it out")
    if not model.training:
        model.train()
    # A file that leaves the seed alone is to be seeded by the case like any other model.
    loss = CheckedLoss(name, workload.loss, device, amp=dtype == "bf16-amp")
    return Workload(
        model, workload.batch, loss, workload.optimizer, workload.blocks, samples=workload.samples,
        tokens=workload.tokens, batches=workload.batches, seed=seed,
    )  # fmt: skip
