"""Which sizes a case can have: why one that a sweep asks for cannot be, as far as that is known before anything runs,
and how small one could be. Imports no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from bdia.methods import Method
from bench import gamma, models, peers
from bench.case import Case


class Obstacle(NamedTuple):
    """What stands in the way."""

    axis: str | None
    """The axis whose value it is; None where it is no value but this machine, which lacks something."""
    reason: str
    """Why, and what to do about it."""


def find(method: Method, case: Case) -> Obstacle | None:
    """What keeps `case`, whose method is `method`, from being measured; None where nothing does."""
    if isinstance(method, peers.Peer) and (found := peers.obstacle(method, case)):
        return Obstacle(*found)
    if method.needs not in (None, case.device):
        reason = f"device {case.device}: {method.name} moves what is saved into CPU memory, where it is already; "
        return Obstacle(None, reason + f"take --device {method.needs}")
    if case.gamma is not None and (unsuitable := gamma.obstacle(method, case.gamma)):
        return Obstacle("gamma", unsuitable)
    if case.keep and case.depth is not None and case.keep > case.depth:
        reason = f"keep {case.keep}: there are {case.depth} blocks; take --keep {case.depth} or fewer"
        return Obstacle("keep", reason)
    return _parts(case)


def _parts(case: Case) -> Obstacle | None:
    """What has fewer rows than it is to be cut into."""
    samples = case.batch
    if samples is not None and case.accumulate > samples:
        reason = f"a batch of {samples} has no {case.accumulate} parts; take --accumulate {samples} or fewer"
        return Obstacle("accumulate", f"accumulate {case.accumulate}: {reason}")
    fewest = None if samples is None else samples // case.accumulate
    of = f"a batch of {samples}" if case.accumulate == 1 else f"a batch of {samples} in {case.accumulate} parts"
    count = case.micro_batches
    spec = models.of_table(case.model)
    if count is not None and count > 1 and spec is not None and spec.mixes_samples:
        reason = f"{case.model} normalises over the batch, and would over parts of it; take --micro-batches 1"
        return Obstacle("micro_batches", f"micro_batches {count}: {reason}")
    if count is not None and fewest is not None and count > fewest:
        reason = f"{of} has no {count} parts" if case.accumulate == 1 else f"{of} has no {count} in each"
        return Obstacle("micro_batches", f"micro_batches {count}: {reason}; take --micro-batches {fewest} or fewer")
    chunks = case.loss_chunks
    if chunks > 1 and models.get(case.model).own_loss:
        reason = f"the loss of {case.model} is its own; have it call bdia.chunked_cross_entropy, without --loss-chunks"
        return Obstacle("loss_chunks", f"loss_chunks {chunks}: {reason}")
    if fewest is not None and case.seq is not None and chunks > fewest * case.seq:
        tokens = fewest * case.seq
        reason = f"{of} has {tokens} tokens" if case.accumulate == 1 else f"{of} has {tokens} tokens in each"
        return Obstacle("loss_chunks", f"loss_chunks {chunks}: {reason}; take --loss-chunks {tokens} or fewer")
    return None


def apart(case: Case) -> int:
    """How far apart depths lie at which every stage has an even number of blocks: some methods take them in pairs."""
    return 2 * models.factor(case.model, "depth")


def smallest(method: Method, case: Case, axis: Literal["depth", "batch"]) -> int:
    """The smallest value of `axis` with which `case`, in whose way nothing stands, can be: a batch of as many samples
    as it is cut into parts, as many blocks as are kept, stages of as many blocks each."""
    given, factor = getattr(case, axis) or 1, models.factor(case.model, axis)
    sizes = range(factor, given, factor)
    return next((size for size in sizes if find(method, msgspec.structs.replace(case, **{axis: size})) is None), given)
