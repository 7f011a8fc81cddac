"""Are the gradients still right? A method's gradients against those of its own rule with stored activations."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import bdia
from bdia.backprop import rng
from bdia.distributions import Gamma
from bdia.methods import Method, get
from bench.attaching import attach
from bench.meters import MeterError, is_out_of_memory

if TYPE_CHECKING:
    from bench.workload import Workload

Gradients = Mapping[str, Tensor | None]
"""Gradient by parameter name; None where autograd reached the parameter with none."""


@dataclass(frozen=True)
class GradientReading:
    """How far a method's gradients are from its reference."""

    gradient_error: float | None
    """||g − r|| / ||r|| over all parameters together, in float64; 0.0 exactly where each is `torch.equal`."""
    message: str | None
    """Why there is no error to give, where there is none."""


def measure_gradients(
    workload: Workload,
    method: str | Method,
    bits: int | None = None,
    *,
    seed: int,
    gamma: float | str | Gamma | None = None,
    verify: bool = False,
) -> GradientReading:
    """Compares one backward of `workload` under `method` with one under its twin, the same rule with stored
    activations: same weights, batch, γ (by `seed`) and RNG state. Where the twin does not fit into memory there is
    nothing to compare with, which is no fault of the method.

    Guards are off, since an error beyond the exact range is to be measured and not raised, unless `verify` asks for
    the strictest of them. Weights and RNG state stay as they are; gradients are None afterwards.

    Raises: MeterError where only one of the two gave some parameter a gradient; ReconstructionError for what `verify`
    finds.
    """
    chosen = get(method) if isinstance(method, str) else method
    device = workload.device
    before = rng.state_of(device)
    put_on = functools.partial(attach, workload, bits=bits, gamma=gamma, seed=seed)
    with _repeatable(device):
        with rng.restored(before, device):
            gradients = _gradients(workload, put_on(chosen, verify=verify), unguarded=not verify)
        try:
            with rng.restored(before, device):
                reference = _gradients(workload, put_on(chosen.twin()))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            workload.model.zero_grad(set_to_none=True)
            return GradientReading(None, "the same rule with stored activations ran out of memory: no gradient error")
    return compare_gradients(gradients, reference)


def compare_gradients(gradients: Gradients, reference: Gradients) -> GradientReading:
    """The relative L2 error of `gradients` against `reference`, over parameters of the same names.

    Raises: MeterError where only one of the two has a gradient.
    """
    lone = [name for name in reference if (gradients[name] is None) != (reference[name] is None)]
    if lone:
        raise MeterError(
            f"{len(lone)} parameters have a gradient under the method or its reference only, the first {lone[0]}"
        )
    pairs = {
        name: (ours, theirs)
        for name, theirs in reference.items()
        if theirs is not None and (ours := gradients[name]) is not None
    }
    broken = [name for name, pair in pairs.items() if not all(bool(grad.isfinite().all()) for grad in pair)]
    if broken:
        some = f"{len(broken)} of {len(pairs)} parameters, the first {broken[0]}"
        return GradientReading(None, f"gradients are not finite in {some}")
    if all(torch.equal(ours, theirs) for ours, theirs in pairs.values()):
        return GradientReading(0.0, None)
    error = _norm(ours.double() - theirs.double() for ours, theirs in pairs.values())
    scale = _norm(theirs.double() for _, theirs in pairs.values())
    if scale == 0.0:
        return GradientReading(None, "the reference gradients are all 0, so there is no relative error")
    return GradientReading(error / scale, None)


def _norm(tensors: Iterable[Tensor]) -> float:
    """L2 over all elements of all tensors."""
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))


def _gradients(workload: Workload, attached: bdia.Handle, *, unguarded: bool = True) -> dict[str, Tensor | None]:
    """Gradients by parameter with a method on, which is taken off again."""
    workload.model.zero_grad(set_to_none=True)
    with attached, attached.unguarded() if unguarded else contextlib.nullcontext():
        torch.autograd.backward(workload.loss(workload.model, workload.batch))
    gradients = {name: parameter.grad for name, parameter in workload.model.named_parameters()}
    workload.model.zero_grad(set_to_none=True)
    return gradients


@contextlib.contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """On CUDA, only kernels that add in a fixed order: attention's backward, for one, is otherwise not the same twice,
    and its noise would pass for an error of the method. (`warn_only` would not do: attention takes it as leave to be
    nondeterministic.) cuBLAS wants CUBLAS_WORKSPACE_CONFIG set before its first call; see `bench.child`."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
