"""Why a case that a sweep asks for cannot be, as far as that is known before anything runs. Imports no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from bdia.methods import Method
from bench import gamma
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
    count = case.micro_batches
    if count is not None and case.batch is not None and count > case.batch:
        reason = f"micro_batches {count}: a batch of {case.batch} has no {count} parts; take {case.batch} or fewer"
        return Obstacle("micro_batches", reason)
    return None


def smallest(method: Method, case: Case, axis: Literal["depth", "batch"]) -> int:
    """The smallest value of `axis` with which `case`, in whose way nothing stands, can be: a batch of as many samples
    as it is cut into parts, as many blocks as are kept."""
    sizes = range(1, getattr(case, axis) or 1)
    return next(
        (size for size in sizes if find(method, msgspec.structs.replace(case, **{axis: size})) is None), sizes.stop
    )
