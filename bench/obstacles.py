"""Why a case that a sweep asks for cannot be, as far as that is known before anything runs. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from bdia.methods import Method
from bench import gamma, models
from bench.case import Case


class Obstacle(NamedTuple):
    """What stands in the way."""

    axis: str
    """The axis whose value it is."""
    reason: str
    """Why, and what to do about it."""


def find(method: Method, case: Case) -> Obstacle | None:
    """What keeps `case`, whose method is `method`, from being measured; None where nothing does."""
    if method.needs not in (None, case.device):
        reason = f"device {case.device}: {method.name} moves what is saved into CPU memory, where it is already; "
        return Obstacle("device", reason + f"take --device {method.needs}")
    if case.gamma is not None and (unsuitable := gamma.obstacle(method, case.gamma)):
        return Obstacle("gamma", unsuitable)
    if case.keep and case.depth is not None and case.keep > case.depth:
        reason = f"keep {case.keep}: there are {case.depth} blocks; take --keep {case.depth} or fewer"
        return Obstacle("keep", reason)
    samples = case.batch
    if samples is not None and case.accumulate > samples:
        reason = f"a batch of {samples} has no {case.accumulate} parts; take --accumulate {samples} or fewer"
        return Obstacle("accumulate", f"accumulate {case.accumulate}: {reason}")
    count = case.micro_batches
    if count is not None and samples is not None and count > samples // case.accumulate:
        fewest = samples // case.accumulate
        whole = f"a batch of {samples}"
        if case.accumulate > 1:
            whole = f"a part of {fewest} of {samples} samples, of {case.accumulate} accumulated,"
        reason = f"{whole} has no {count} parts; take --micro-batches {fewest} or fewer"
        return Obstacle("micro_batches", f"micro_batches {count}: {reason}")
    if case.loss_chunks > 1 and models.get(case.model).own_loss:
        reason = f"the loss of {case.model} is its own; have it call bdia.chunked_cross_entropy, without --loss-chunks"
        return Obstacle("loss_chunks", f"loss_chunks {case.loss_chunks}: {reason}")
    return None
