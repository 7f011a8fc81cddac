"""How well the backward rebuilt what the forward did not keep: x_k against x_k, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bdia.backprop import Index, Watcher
from bdia.dial import WHOLE, Dial
from bdia.distributions import Gamma
from bdia.methods import Method, get
from bench import accumulation
from bench.attaching import attach
from bench.record import BlockError

if TYPE_CHECKING:
    from bench.workload import Workload


@dataclass(frozen=True)
class ReconstructionReading:
    """One forward and backward, seen block by block."""

    reconstruction: list[BlockError]
    """One entry per block input that was rebuilt, in order of the blocks; of several forwards, the worst of each."""
    bit_exact: bool | None
    """Every input of a block that did not keep its graph was rebuilt, each with `torch.equal`; None where all did."""
    missing: tuple[int, ...]
    """Blocks whose input the backward should have rebuilt, and did not."""


@dataclass
class Observer(Watcher):
    """Keeps a copy of each x_k of the forward, and compares the rebuilt x_k with it.

    The engine hands over x_0 … x_{N-1}, the blocks' inputs. x_0 … x_{N-2} are rebuilt; x_{N-1} and x_N are what
    the backward starts from, so that the error of block N-1 is trivially 0. It is reported with the others. An
    encoder-decoder has two such chains, and its blocks are numbered through, in the order they run.
    """

    errors: dict[int, BlockError] = field(default_factory=dict)
    _forwarded: dict[int, Tensor] = field(default_factory=dict)
    _equal: dict[int, bool] = field(default_factory=dict)
    _parts: dict[int, Tensor] = field(default_factory=dict)  # x_k of micro-batches, those not there yet NaN
    _lacking: dict[int, int] = field(default_factory=dict)  # and how many of its elements that are

    def forwarded(self, call: int, x: Tensor) -> None:
        """Takes x_k [B, …] as it entered block k = `call`."""
        self._forwarded[call] = x.detach().clone()

    def spared(self, call: int) -> None:
        """Block `call` keeps its graph, so that there is nothing to compare."""
        del self._forwarded[call]

    def rebuilt(self, call: int, x: Tensor, index: Index) -> None:
        """Compares x_k [B, …] as the backward rebuilt it, once all its parts are there."""
        expected = self._forwarded[call]
        if index:
            whole = self._parts.setdefault(call, torch.full_like(expected, math.nan))
            whole[index] = x
            self._lacking[call] = self._lacking.get(call, expected.numel()) - x.numel()
            if self._lacking[call]:
                return
            x = self._parts.pop(call)
        self.errors[call] = block_error(call, expected, x)
        self._equal[call] = torch.equal(expected, x)

    @property
    def missing(self) -> tuple[int, ...]:
        """Blocks that went forward and were not rebuilt."""
        return tuple(sorted(self._forwarded.keys() - self.errors.keys()))

    @property
    def bit_exact(self) -> bool | None:
        """Every block that went forward without its graph was rebuilt, each with `torch.equal`; None of no block."""
        return not self.missing and all(self._equal.values()) if self._forwarded else None


def block_error(block: int, expected: Tensor, rebuilt: Tensor) -> BlockError:
    """The error of `rebuilt` [B, …] against `expected` [B, …], computed in float64.

    Errors that are not finite are None. `mismatched` goes by `!=`, so NaN counts and -0.0 against 0.0 does not.
    """
    error = rebuilt.double() - expected.double()
    rms = _rms(error)
    scale = _rms(expected.double())
    return BlockError(
        block=block,
        max_abs_error=_finite(float(error.abs().max())),
        rms_error=_finite(rms),
        relative_error=0.0 if rms == 0.0 else _finite(rms / scale if scale else math.inf),
        mismatched=int((rebuilt != expected).sum()),
    )


def measure_reconstruction(
    workload: Workload,
    method: str | Method,
    bits: int | None = None,
    *,
    seed: int,
    gamma: float | str | Gamma | None = None,
    verify: bool = False,
    dial: Dial = WHOLE,
) -> ReconstructionReading:
    """Runs forward and backward of a step of `workload` with a reversible `method`, and compares what it rebuilt.

    Guards are off, since an error beyond the exact range is to be measured and not raised, unless `verify` asks for
    the strictest of them. Weights stay as they are; gradients are None afterwards.

    Raises: ValueError for a method that rebuilds nothing; ReconstructionError for what `verify` finds.
    """
    chosen = get(method) if isinstance(method, str) else method
    if not chosen.reversible:
        raise ValueError(f"{chosen.name} rebuilds no activations: expected a reversible method")
    observers: list[Observer] = []

    def observing() -> AbstractContextManager[object]:
        observers.append(Observer())
        return handle.observing(observers[-1])

    with (
        attach(workload, chosen, bits=bits, gamma=gamma, seed=seed, verify=verify, dial=dial) as handle,
        nullcontext() if verify else handle.unguarded(),
    ):
        accumulation.backward(workload, workload.batch, around=observing)
    workload.model.zero_grad(set_to_none=True)
    return ReconstructionReading(
        reconstruction=worst([observer.errors for observer in observers]),
        bit_exact=_all_exact([observer.bit_exact for observer in observers]),
        missing=tuple(sorted({block for observer in observers for block in observer.missing})),
    )


def worst(parts: Sequence[Mapping[int, BlockError]]) -> list[BlockError]:
    """Of each block the largest errors of any of a step's forwards, and all that is mismatched, in order of the
    blocks."""
    blocks: dict[int, list[BlockError]] = {}
    for part in parts:
        for block, error in part.items():
            blocks.setdefault(block, []).append(error)
    return [
        BlockError(
            block=block,
            max_abs_error=_largest(error.max_abs_error for error in errors),
            rms_error=_largest(error.rms_error for error in errors),
            relative_error=_largest(error.relative_error for error in errors),
            mismatched=sum(error.mismatched for error in errors),
        )
        for block, errors in sorted(blocks.items())
    ]


def _largest(errors: Iterable[float | None]) -> float | None:
    """None, which is not finite, is larger than any."""
    held = list(errors)
    return None if None in held else max(error for error in held if error is not None)


def _all_exact(exact: Sequence[bool | None]) -> bool | None:
    known = [one for one in exact if one is not None]
    return all(known) if known else None


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
