"""Would a method be exact on this model: every block run twice, as the engine would, and what training would hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor

import bdia
from bdia.errors import BdiaError
from bdia.methods import Method
from bdia.quantize import Headroom
from bench import accumulation
from bench.accumulation import Part
from bench.attaching import attach
from bench.examination import BlockFinding, Examination
from bench.meters.loss import tightest

if TYPE_CHECKING:
    from bench.workload import Workload


def measure_rehearsal(
    workload: Workload, method: Method, bits: int | None = None, *, seed: int, gamma: str | None = None
) -> Examination:
    """Examines `workload` at the weights as they are: the losses, the blocks, and what a training forward holds, of
    several the first.

    Everything starts from the same RNG state, `seed`'s. Weights stay as they are, and there are no gradients.
    """
    parameters = list(workload.model.parameters())
    torch.manual_seed(seed)
    with torch.no_grad():
        plain = accumulation.mean_loss(workload)
    found = Examination(
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_dtype=str(parameters[0].dtype).removeprefix("torch."),
        loss_plain=_finite(plain),
    )
    first = accumulation.parts(workload, workload.batch)[0].batch
    held: list[tuple[int, int]] = []
    headrooms: list[Headroom | None] = []
    given: dict[str, Any] = {} if bits is None else {"bits": bits}
    try:
        torch.manual_seed(seed)
        rehearsal = bdia.rehearse(
            workload.model, lambda: workload.loss(workload.model, first), method=method, seed=seed,
            gamma=gamma, blocks=workload.blocks, **given,
        )  # fmt: skip
        torch.manual_seed(seed)
        handle = attach(workload, method, seed=seed, bits=bits, gamma=gamma)
        assert isinstance(handle, bdia.Handle)
        with handle, handle.unguarded():

            def look(part: Part, loss: Tensor) -> None:
                held.append((handle.side_bytes, handle.rng_bytes))
                headrooms.append(handle.headroom)

            with_method = accumulation.mean_loss(workload, forwarded=look)
    except BdiaError as error:
        return msgspec.structs.replace(found, obstacle=" ".join(str(error).split()))
    headroom = tightest(headrooms)
    return msgspec.structs.replace(
        found,
        chains=rehearsal.chains,
        blocks=tuple(map(_block, rehearsal.blocks)),
        loss_method=_finite(with_method),
        side_bytes=held[0][0],
        rng_bytes=held[0][1],
        max_abs=None if headroom is None else _finite(headroom.max_abs),
        largest_bits=None if headroom is None else headroom.largest_bits,
        exact=None if headroom is None else headroom.exact,
    )


def _block(one: bdia.BlockRehearsal) -> BlockFinding:
    difference = _finite(one.max_abs_difference)
    return BlockFinding(one.name, one.stable, one.differing, one.elements, difference, one.reason)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
