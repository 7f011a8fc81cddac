"""The job of a child that times: paired rounds of the members of a group, on one model."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import msgspec
import torch
from torch import Tensor

from bench.attaching import attach_planned
from bench.diagnosis import diagnosis
from bench.meters import throughput
from bench.meters.memory import run_step
from bench.protocol import Event, Finished, Job, Started
from bench.workload import Workload, build, facts


def time(job: Job, tell: Callable[[Event], None]) -> None:
    """Times all members, and tells of each as it begins and ends.

    Weights play no part in time, so nothing is trained first, and every step begins at the same ones: a method whose
    gradients have gone wrong must not spoil the others' weights.
    """
    case = job.members[0].case
    try:
        workload = build(msgspec.structs.replace(case, accumulate=1))  # in how many parts is each member's own
    except Exception as error:  # no member can be timed on a model that cannot be built
        for member in range(len(job.members)):
            tell(Finished(member, {}, *diagnosis(error)))
        return
    # Kept on the CPU, so that they take no memory from the methods on a GPU.
    weights = [parameter.detach().to("cpu", copy=True) for parameter in workload.model.parameters()]

    under_way = workload

    def put_on(member: int) -> Callable[[], AbstractContextManager[object]]:
        def attach() -> AbstractContextManager[object]:
            nonlocal under_way
            tell(Started(member))
            _rewind(workload, weights)
            plan = job.members[member]
            under_way = workload.accumulating(plan.case.accumulate)
            return attach_planned(under_way, plan)

        return attach

    members = [throughput.Member(str(member), put_on(member)) for member in range(len(job.members))]
    sync = torch.cuda.synchronize if case.device == "cuda" else _nothing
    try:
        seconds = throughput.measure_rounds(
            members, lambda: run_step(under_way), rounds=job.rounds, warmup=job.warmup, sync=sync
        )
    except throughput.MemberError as failure:
        status, message = diagnosis(failure.__cause__ or failure)
        tell(Finished(int(failure.member), {}, status, message))
        return
    rounds_id = uuid.uuid4().hex
    for name, steps in seconds.items():
        fields = facts(workload, case)
        fields["step_seconds"], fields["rounds_id"] = steps, rounds_id
        fields["samples_per_second"] = throughput.rate(steps, workload.samples)
        if workload.tokens is not None:
            fields["tokens_per_second"] = throughput.rate(steps, workload.tokens)
        tell(Finished(int(name), fields))


def _rewind(workload: Workload, weights: Sequence[Tensor]) -> None:
    """Puts the weights back, and the optimiser's state to zero, without allocating anything anew."""
    with torch.no_grad():
        for parameter, weight in zip(workload.model.parameters(), weights, strict=True):
            parameter.copy_(weight)
    for state in workload.optimizer.state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.zero_()


def _nothing() -> None:
    """What there is to wait for on a CPU."""
