"""Are the gradients still right? A method's gradients against those of its own rule with stored activations."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bdia.backprop import Step, Watcher, rng
from bdia.dial import WHOLE, Dial
from bdia.distributions import Gamma
from bdia.methods import Method, get
from bench import accumulation
from bench.accumulation import Part
from bench.attaching import Attached, attach
from bench.meters import MeterError, is_out_of_memory

if TYPE_CHECKING:
    from bench.workload import Workload

Gradients = Mapping[str, Tensor | None]
"""Gradient by parameter name; None where autograd reached the parameter with none."""
Pair = tuple[Tensor, Tensor]
"""A parameter's gradient and its reference."""


@dataclass(frozen=True)
class GradientReading:
    """How far a method's gradients are from its reference."""

    gradient_error: float | None
    """||g − r|| / ||r|| over all parameters together, in float64; 0.0 exactly where each is `torch.equal`."""
    message: str | None = None
    """Why there is no error to give, where there is none; what differs where it lies in no block, or where it is the
    forward already."""
    gradient_block: int | None = None
    """The highest block with a parameter whose gradient is not `torch.equal` to the reference's, as `reconstruction`
    numbers blocks: what lies above it is right. None where there is none."""
    by_block: Mapping[int, float | None] = field(default_factory=dict)
    """The same error over the parameters of one block, by its number; None where it is not finite, or there is nothing
    to relate it to. Empty where there is no reference."""


class Lasts(Watcher):
    """A watcher that remembers the last call of each block, by its name."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def stepped(self, call: int, step: Step) -> None:
        self.calls[step.name] = call


@dataclass(frozen=True)
class _Pass:
    """One forward and backward."""

    loss: float
    gradients: dict[str, Tensor | None]
    blocks: dict[str, int]
    """By parameter: the number of its block's last call. Those of no block are not among them."""


def measure_gradients(
    workload: Workload,
    method: str | Method,
    bits: int | None = None,
    *,
    seed: int,
    gamma: float | str | Gamma | None = None,
    verify: bool = False,
    dial: Dial = WHOLE,
) -> GradientReading:
    """Compares the backward of a step of `workload` under `method` with one under its twin, the same rule with stored
    activations: same weights, batch, parts of it and of the step, γ (by `seed`) and RNG state. Where the twin does not
    fit into memory there is nothing to compare with, which is no fault of the method.

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
            ours = _pass(workload, put_on(chosen, verify=verify, dial=dial), unguarded=not verify)
        try:
            with rng.restored(before, device):
                theirs = _pass(workload, put_on(chosen.twin(), dial=dial.stored))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            workload.model.zero_grad(set_to_none=True)
            return GradientReading(None, "the same rule with stored activations ran out of memory: no gradient error")
    reading = compare_gradients(ours.gradients, theirs.gradients, theirs.blocks)
    if reading.gradient_error and ours.loss != theirs.loss:
        forward = f"the forward differs from the reference's already: loss {ours.loss:.9g} against {theirs.loss:.9g}"
        return replace(reading, message=forward)
    return reading


def compare_gradients(
    gradients: Gradients, reference: Gradients, blocks: Mapping[str, int] | None = None
) -> GradientReading:
    """The relative L2 error of `gradients` against `reference`, over parameters of the same names. `blocks` has the
    block of each parameter that lies in one.

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
    return replace(_compare_pairs(pairs, blocks), by_block=_by_block(pairs, blocks or {}))


def _compare_pairs(pairs: Mapping[str, Pair], blocks: Mapping[str, int] | None) -> GradientReading:
    broken = [name for name, pair in pairs.items() if not all(bool(grad.isfinite().all()) for grad in pair)]
    if broken:
        some = f"{len(broken)} of {len(pairs)} parameters, the first {broken[0]}"
        return GradientReading(None, f"gradients are not finite in {some}")
    unequal = [name for name, pair in pairs.items() if not torch.equal(*pair)]
    if not unequal:
        return GradientReading(0.0)
    highest = max((blocks[name] for name in unequal if name in blocks), default=None) if blocks else None
    message = None
    if blocks is not None and highest is None:
        message = f"only gradients of no block differ, {len(unequal)} of them, the first {unequal[0]}"
    error = _relative(pairs.values())
    if error is None:
        return GradientReading(None, "the reference gradients are all 0, so there is no relative error", highest)
    return GradientReading(error, message, highest)


def _by_block(pairs: Mapping[str, Pair], blocks: Mapping[str, int]) -> dict[int, float | None]:
    held: dict[int, list[Pair]] = {}
    for name, pair in pairs.items():
        if name in blocks:
            held.setdefault(blocks[name], []).append(pair)
    return {block: _relative(of) for block, of in sorted(held.items())}


def _relative(pairs: Collection[Pair]) -> float | None:
    """||g − r|| / ||r|| over all pairs of g and r; 0.0 exactly where each is `torch.equal`, None where there is no
    finite one."""
    if all(torch.equal(*pair) and bool(pair[1].isfinite().all()) for pair in pairs):
        return 0.0
    scale = _norm(theirs.double() for _, theirs in pairs)
    error = _norm(ours.double() - theirs.double() for ours, theirs in pairs)
    return error / scale if scale and math.isfinite(scale) and math.isfinite(error) else None


def _norm(tensors: Iterable[Tensor]) -> float:
    """L2 over all elements of all tensors."""
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors))


def _pass(workload: Workload, attached: Attached, *, unguarded: bool = True) -> _Pass:
    """A forward and backward with a method on, which is taken off again."""
    lasts, model = Lasts(), workload.model
    model.zero_grad(set_to_none=True)
    with attached, attached.unguarded() if unguarded else contextlib.nullcontext():
        around, losses = (lambda: attached.observing(lasts)), []

        def note(part: Part, loss: Tensor) -> None:
            losses.append(part.share * float(loss.detach()))

        accumulation.backward(workload, workload.batch, around=around, forwarded=note)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return _Pass(sum(losses), gradients, _blocks_of(model, lasts.calls))


def _blocks_of(model: nn.Module, calls: Mapping[str, int]) -> dict[str, int]:
    """The block of each parameter, given the last call of each block; of a shared one, the highest."""
    modules, blocks = dict(model.named_modules()), dict[int, int]()
    for name, call in sorted(calls.items(), key=lambda item: item[1]):
        if name in modules:  # blocks may be given that are not in the model's tree
            blocks |= {id(parameter): call for parameter in modules[name].parameters()}
    return {name: blocks[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in blocks}


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
