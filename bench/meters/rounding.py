"""Does the forward round as eqs. 18-21 say? Each step again in float64, by arithmetic of its own.

A Q_l that is wrong in the forward and in the backward alike rebuilds every bit and gives exact gradients, of another
function. So nothing here is the library's: v and the first term of (21) are computed anew from the states, γ and the
block's output, and what is left of x₊ is the rounding of v. The nearest multiple of 2^-l is at most half of it away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bdia import distributions
from bdia.backprop import Step, Watcher
from bdia.distributions import Gamma
from bdia.methods import Method
from bdia.updates import QuantisedBdia
from bench.meters import is_out_of_memory

OFF_GRID = 1.0
"""The error of an x that is no multiple of 2^-l, where it would be less: it was not rounded at all."""
PIECE: Final = 2**18
"""Elements of a step that are looked at together: a dozen of them in float64, 2 MiB each, however large x is."""


@dataclass(frozen=True)
class RoundingReading:
    """The rounding of one forward."""

    rounding_error: float | None
    """Largest |Q_l[v] − v| / 2^-l over all steps and elements: ½, and what fp32 adds to v. None where not finite."""
    rounding_block: int | None
    """The block of that step, as `reconstruction` numbers them: the first, of several."""
    message: str | None
    """Where a state first is no multiple of 2^-l, or why there is no error."""


class Rounding(Watcher):
    """Watches a forward with a rule of eqs. 18-21, of l = `bits` and γ drawn from `gamma`."""

    def __init__(self, bits: int, gamma: Gamma) -> None:
        self._bits = bits
        self._side_bits = distributions.side_bits(gamma)
        self._errors: dict[int, Tensor] = {}
        self._off_grid: dict[int, Tensor] = {}
        self._starved = False

    def stepped(self, call: int, step: Step) -> None:
        """Takes the step of block `call`. Nothing waits for the device. Where memory runs out over it, which the case
        itself had enough of, there is no error, and nothing further is looked at."""
        if self._starved:
            return
        try:
            largest, beside = self._look(step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._starved = True
            return
        if call in self._errors:  # in an earlier forward of the same step
            largest = torch.maximum(largest, self._errors[call])
            beside = beside | self._off_grid[call]
        self._errors[call], self._off_grid[call] = largest, beside

    def _look(self, step: Step) -> tuple[Tensor, Tensor]:
        """The error of one step, and whether it led off the grid."""
        before, x = step.before
        assert x is not None
        after = _last(step.after)
        errors, off = [], []
        for piece in _pieces(after.shape):
            # γ is [B, 1, …, 1].
            held = (None if one is None else one.expand(after.shape)[piece] for one in (before, step.gamma, step.given))
            error, beside = self._look_at(x[piece], step.y[piece], after[piece], *held)
            errors.append(error)
            off.append(beside)
        return torch.stack(errors).max(), torch.stack(off).any()

    def _look_at(
        self,
        stream: Tensor,
        y: Tensor,
        stream_after: Tensor,
        stream_before: Tensor | None,
        gamma: Tensor | None,
        given: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The same of a piece of it."""
        x, after = self._units(stream), self._units(stream_after)
        y = self._units(y)
        if stream_before is None:  # (19): x_1 = x_0 + Q_l[h]
            first, v = x, y - x
        else:  # (21): x₊ = Q_l[γ(x₋ + s·2^-l)] + Q_l[v]
            assert gamma is not None
            gamma = gamma.double()
            first = self._first(self._units(stream_before), gamma)
            v = (1 - gamma) * x + (1 + gamma) * (y - x)
        errors = [(after - first - v).abs()]
        grid = [after]
        if given is not None:  # (18): x_0 = Q_l[x_0]
            errors.append((x - self._units(given)).abs())
            grid.append(x)
        off = [values != values.round() for values in grid]
        largest = torch.stack([_largest(error, beside) for error, beside in zip(errors, off, strict=True)]).max()
        return largest, torch.stack([beside.any() for beside in off]).any()

    def reading(self) -> RoundingReading | None:
        """What was seen; None where no step was."""
        if self._starved:
            return RoundingReading(None, None, "its arithmetic in float64 ran out of memory: no rounding error")
        if not self._errors:
            return None
        calls = sorted(self._errors)
        errors = torch.stack([self._errors[call] for call in calls]).tolist()
        broken = [call for call, error in zip(calls, errors, strict=True) if not math.isfinite(error)]
        off = torch.stack([self._off_grid[call] for call in calls]).tolist()
        beside = [call for call, is_off in zip(calls, off, strict=True) if is_off and call not in broken]
        message = None
        if beside:
            message = f"x of block {beside[0]} is no multiple of 2^-{self._bits}: it is not rounded as eq. 17 says"
        if broken:
            return RoundingReading(None, broken[0], message)
        largest = max(errors)
        return RoundingReading(largest, calls[errors.index(largest)], message)

    def _first(self, before: Tensor, gamma: Tensor) -> Tensor:
        """The first term of (21), in units of 2^-l."""
        if self._side_bits is None:
            # No shift makes this product a multiple, so (21) rounds it as well; the product is one of fp32.
            return (gamma * before).float().double().round()
        modulus = 2**self._side_bits
        # A whole number of units but for an x₋ that is not on the grid; NaN has no integer, and shows in v.
        excess = before.nan_to_num().round().long().remainder(modulus)
        s = torch.where(2 * excess >= modulus, modulus - excess, -excess) if modulus > 1 else 0 * excess
        return gamma * (before + s)

    def _units(self, x: Tensor) -> Tensor:
        """x / 2^-l in float64: exact."""
        return x.double() * 2.0**self._bits


def watch(method: Method, bits: int | None, gamma: Gamma) -> Rounding | None:
    """A watcher for `method` where its rule is that of eqs. 18-21; None for another, which rounds otherwise or not."""
    if bits is None or not method.quantised:
        return None
    rule = type(method.make_rule(bits, gamma))
    # One that is derived from it, and takes its steps itself, takes others.
    if not issubclass(rule, QuantisedBdia) or rule.step is not QuantisedBdia.step:
        return None
    return Rounding(bits, gamma)


def _pieces(shape: torch.Size) -> Iterator[tuple[slice, ...]]:
    """Indices that cut a tensor of that shape along its longest dimension, into pieces of about `PIECE` elements."""
    longest = max(range(len(shape)), key=lambda dim: shape[dim], default=0)
    length = shape[longest] if shape else 1
    each = max(1, PIECE * length // max(1, shape.numel()))
    for start in range(0, max(1, length), each):
        yield (*(slice(None),) * longest, slice(start, start + each)) if shape else ()


def _largest(error: Tensor, off_grid: Tensor) -> Tensor:
    if not error.numel():
        return error.new_zeros(())
    return torch.where(off_grid, error.clamp_min(OFF_GRID), error).max()


def _last(state: tuple[Tensor | None, ...]) -> Tensor:
    x = state[-1]
    assert x is not None
    return x
