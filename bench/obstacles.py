"""Why a case that a sweep asks for cannot be, as far as that is known before anything runs. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from bdia.methods import Method
from bench import gamma, peers
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
    if case.gamma is not None and (reason := gamma.obstacle(method, case.gamma)):
        return Obstacle("gamma", reason)
    if case.keep and case.depth is not None and case.keep > case.depth:
        reason = f"keep {case.keep}: there are {case.depth} blocks; take --keep {case.depth} or fewer"
        return Obstacle("keep", reason)
    for axis, count in (("micro_batches", case.micro_batches), ("accumulate", case.accumulate)):
        if count is not None and case.batch is not None and count > case.batch:
            option = axis.replace("_", "-")
            reason = (
                f"{axis} {count}: a batch of {case.batch} has no {count} parts; take --{option} {case.batch} or fewer"
            )
            return Obstacle(axis, reason)
    return None
