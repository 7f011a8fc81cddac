"""What the runner and its child processes say to each other: one job down, events up, a JSON line each.

Imports no torch.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bench.case import Plan
from bench.curves import Point
from bench.record import Status

Kind = Literal["time", "measure", "examine", "stacks", "probe", "confirm", "train", "predict", "fit"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do.

    `time`: paired, interleaved rounds of all members, which are of one group. `measure`: everything else, of
    each member in turn; memory only for a member that is alone, since it takes a fresh process. `examine`: what
    the doctor asks of one member, answered with the fields of `bench.examination.Examination`. `stacks`: what is alive
    at the peaks of one member, answered with the fields of `bench.stacks.Stacks`. `probe`: the memory of one member and
    nothing else. `confirm`: whether it stays within `step_limit` over a number of training steps. `train`: one member
    of an experiment, to the end of its recipe, with curves and checkpoints in `directory`. `predict`: the memory
    of each member, without running it at size. `fit`: how deep and how large a batch each could be within
    `limit_bytes`, answered with the fields of `bench.fit.Fit`.
    """

    kind: Kind
    members: tuple[Plan, ...]
    rounds: int
    warmup: int
    threads: int
    memory_limit: int | None = None
    """Bytes of private memory that the child may have."""
    limit_bytes: int | None = None
    """What is to be fitted into."""
    card_limit: int | None = None
    """Bytes of a CUDA card's memory that the child may have."""
    step_limit: int | None = None
    """Bytes that the steps of `confirm` are to stay within."""
    directory: str | None = None
    """The run's directory, for `train` to write to."""
    fingerprint: str | None = None
    """What the member of `train` rests on: a checkpoint of another is not gone on with."""
    events: int
    """File descriptor to write events to, so that what a model prints cannot spoil them."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """Member number `member` of the job begins; if the child dies now, it was this one."""

    member: int


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """What is measured of member number `member` so far, and what it is at now, such as `measuring gradients`: a
    child that dies over it takes nothing of it along."""

    member: int
    fields: dict[str, Any]
    doing: str


class Stepped(msgspec.Struct, frozen=True, tag="stepped"):
    """Member number `member` has taken so many optimiser steps, the first ones perhaps in an earlier process, and
    `points` were seen after them. They are in the run's curves already."""

    member: int
    step: int
    points: list[Point]


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """Member number `member` is done. `fields` are the fields of `Record` that were measured, by name; a member
    that failed may have some too."""

    member: int
    fields: dict[str, Any]
    status: Status = "ok"
    message: str | None = None


Event = Started | Measured | Stepped | Finished
