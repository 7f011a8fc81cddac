"""What a case would hold, counted on fake tensors."""

from __future__ import annotations

import importlib
import os
from typing import Any, NamedTuple

import msgspec
from torch import Tensor

from bench import resolve
from bench.attaching import attach_planned
from bench.case import Plan
from bench.fakes.level import FakeLevel
from bench.fakes.world import build_fake, world
from bench.meters.breakdown import Survey
from bench.meters.memory import MemoryReading, count_memory
from bench.meters.stream import Stream
from bench.meters.trace import Trace
from bench.models import get
from bench.peers import Peer
from bench.peers import handle as peers
from bench.workload import Workload, facts

Fields = dict[str, Any]
"""Fields of `Record` by name."""


class _Sized(Survey):
    """A survey that remembers what the stream is like."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()

    def forwarded(self, call: int, x: Tensor) -> None:
        self.stream.forwarded(call, x)
        super().forwarded(call, x)


class Counted(NamedTuple):
    """A step as it was counted."""

    workload: Workload
    reading: MemoryReading
    survey: _Sized
    trace: Trace
    chains: tuple[int, ...]
    """How many blocks each has."""


def count(plan: Plan) -> Fields:
    """The memory fields of `plan`'s record, and its sizes, as a CPU would have them. Nothing is computed, and no weight
    takes memory.

    Raises: whatever building or running the case raises, also for code that fake tensors do not satisfy.
    """
    found = counted(plan)
    held = {name: value for name, value in vars(found.reading).items() if value is not None}
    stream = found.survey.stream
    return {
        **held, **facts(found.workload, plan.case),
        "blocks": sum(found.chains), "stream_dtype": stream.dtype, "stream_elements": stream.elements,
    }  # fmt: skip


def counted(plan: Plan) -> Counted:
    """The same, and what it is told from.

    Raises: as `count` does.
    """
    case = msgspec.structs.replace(plan.case, device="cpu")
    if case.model.startswith("hf:"):  # before anything is fake, and without a network
        os.environ["HF_HUB_OFFLINE"] = "1"
        importlib.import_module("transformers.utils.import_utils")
    importlib.import_module(get(case.model).builder)
    method = resolve.method(case.method)
    if isinstance(method, Peer):
        peers.load(method)
    with world() as (mode, counter):
        workload = build_fake(case, mode)
        survey, level = _Sized(), FakeLevel(counter.ledger)
        with attach_planned(workload, msgspec.structs.replace(plan, case=case)) as handle:
            reading = count_memory(workload, handle, level, survey)
        chains = tuple(map(len, handle.chains))
    return Counted(workload, reading, survey, level.trace, chains)
