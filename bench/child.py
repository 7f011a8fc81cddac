"""What a child process does with its job: builds the workload, runs the meters, says what they read.

A member that fails is an event as well, with what was measured until then.
"""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import torch
from torch import Tensor

import bdia
from bdia.errors import HeadroomError, ReconstructionError
from bench import limits, resolve
from bench.attaching import attach
from bench.case import Case, Plan
from bench.errors import BenchError
from bench.meters import is_out_of_memory, throughput
from bench.meters.gradients import measure_gradients
from bench.meters.loss import measure_loss
from bench.meters.memory import measure_memory, run_step
from bench.meters.reconstruction import measure_reconstruction
from bench.meters.rehearsal import measure_rehearsal
from bench.meters.sites import measure_sites
from bench.protocol import Event, Finished, Job, Kind, Measured, Started
from bench.record import Status
from bench.workload import Workload, build, train

Fields = dict[str, Any]
"""Fields of `Record` by name."""

COMPUTE_DTYPES = {"fp32": "float32", "bf16-amp": "bfloat16", "bf16": "bfloat16"}


def work(line: bytes) -> None:
    """Does the job in `line` and writes an event as each member begins and ends."""
    job = msgspec.json.decode(line, type=Job)

    def tell(event: Event) -> None:
        os.write(job.events, msgspec.json.encode(event) + b"\n")

    torch.set_num_threads(job.threads)
    if job.memory_limit is not None:
        limits.apply(job.memory_limit)
    if job.kind == "time":
        _time(job, tell)
        return
    # What deterministic kernels need of cuBLAS, before its first call: the gradients of two methods are compared bit
    # for bit. The size is the one that torch takes on Hopper anyway.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for member, plan in enumerate(job.members):
        tell(Started(member))
        tell(_ANSWERS[job.kind](plan) if job.kind in _ANSWERS else _measure(member, plan, tell))
        gc.collect()


def _time(job: Job, tell: Callable[[Event], None]) -> None:
    """Paired rounds of all members on one model. Weights play no part in time, so nothing is trained first, and every
    step begins at the same ones: a method whose gradients have gone wrong must not spoil the others' weights."""
    case = job.members[0].case
    try:
        workload = build(case)
    except Exception as error:  # no member can be timed on a model that cannot be built
        for member in range(len(job.members)):
            tell(Finished(member, {}, *diagnosis(error)))
        return
    # Kept on the CPU, so that they take no memory from the methods on a GPU.
    weights = [parameter.detach().to("cpu", copy=True) for parameter in workload.model.parameters()]

    def put_on(member: int) -> Callable[[], AbstractContextManager[object]]:
        def attach() -> AbstractContextManager[object]:
            tell(Started(member))
            _rewind(workload, weights)
            return _attach(workload, job.members[member])

        return attach

    members = [throughput.Member(str(member), put_on(member)) for member in range(len(job.members))]
    sync = torch.cuda.synchronize if case.device == "cuda" else _nothing
    try:
        seconds = throughput.measure_rounds(
            members, lambda: run_step(workload), rounds=job.rounds, warmup=job.warmup, sync=sync
        )
    except throughput.MemberError as failure:
        status, message = diagnosis(failure.__cause__ or failure)
        tell(Finished(int(failure.member), {}, status, message))
        return
    rounds_id = uuid.uuid4().hex
    for name, steps in seconds.items():
        fields = _facts(workload, case)
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


def _measure(member: int, plan: Plan, tell: Callable[[Event], None]) -> Finished:
    """Everything but time. Memory comes first, in a process that has done nothing yet; it takes steps and does not
    depend on the weights, so what does depend on them is measured on a workload built anew."""
    fields: Fields = {}
    unsupported: str | None = None
    note: str | None = None
    wrong: tuple[Status, str] | None = None
    at = ""

    def begin(doing: str) -> None:
        nonlocal at
        if fields:  # what is there already is safe now, and a failure has something to be told from
            at = f"while {doing}: "
            tell(Measured(member, fields, doing))

    try:
        if "memory" in plan.measure:
            try:
                unsupported = _memory(plan, fields)
            except ReconstructionError as error:  # how wrong, and from which block down, is measured all the same
                wrong = diagnosis(error)
            gc.collect()
        beyond, note = _correctness(plan, fields, begin)
        unsupported = unsupported or beyond
    except Exception as error:  # whatever a model or a method raises is a row
        status, message = diagnosis(error)
        return Finished(member, fields, status, message if status == "unsupported" else at + message)
    if wrong is not None:
        return Finished(member, fields, *wrong)
    if unsupported is not None:
        return Finished(member, fields, "unsupported", unsupported)
    return Finished(member, fields, "ok", note)


def _memory(plan: Plan, fields: Fields) -> str | None:
    """Adds the memory fields. Beyond the exact range it says so, and the bytes are measured without the guard."""
    try:
        _read_memory(plan, fields, guarded=True)
    except HeadroomError as error:
        message = str(error)
    else:
        return None
    gc.collect()
    _read_memory(plan, fields, guarded=False)
    return message


def _read_memory(plan: Plan, fields: Fields, *, guarded: bool) -> None:
    workload = build(plan.case)
    with _attach(workload, plan) as handle, nullcontext() if guarded else handle.unguarded():
        reading = measure_memory(workload, handle, workload.device)
    fields.update(vars(reading))


def _correctness(plan: Plan, fields: Fields, begin: Callable[[str], None]) -> tuple[str | None, str | None]:
    """Adds what depends on the weights, at initial ones or after training. `begin` hears what comes next.

    Returns why the case is unsupported, and a note on what could not be given, or None for each.
    """
    case, method = plan.case, resolve.method(plan.case.method)
    begin("training" if case.train_steps else "measuring the loss")
    workload = _trained(plan)
    fields.update(_facts(workload, case))
    unsupported, note = _look(workload, plan, fields)
    # Beyond the exact range the error is measured, so there is nothing to hold it to.
    verify = plan.verify and unsupported is None
    options: dict[str, Any] = {"seed": case.seed, "gamma": case.gamma, "verify": verify}
    if "reconstruction" in plan.measure:
        begin("measuring reconstruction")
        torch.manual_seed(case.seed)
        reading = measure_reconstruction(workload, method, case.bits, **options)
        fields["reconstruction"] = msgspec.to_builtins(reading.reconstruction)
        fields["bit_exact"] = reading.bit_exact
        if reading.missing:
            note = note or f"{len(reading.missing)} blocks were not rebuilt, the first {reading.missing[0]}"
    if "gradients" in plan.measure:
        begin("measuring gradients")
        torch.manual_seed(case.seed)
        gradients = measure_gradients(workload, method, case.bits, **options)
        fields["gradient_error"], fields["gradient_block"] = gradients.gradient_error, gradients.gradient_block
        note = note or gradients.message
    return unsupported, note


def _trained(plan: Plan) -> Workload:
    """The workload at the weights of the case."""
    workload = build(plan.case)
    if plan.case.train_steps:
        # The stored twin's gradients are exact for every rule, so a method is not measured on weights that its
        # own wrong gradients have spoilt.
        with _attach(workload, plan, twin=True) as handle, handle.unguarded():
            train(workload, plan.case.train_steps)
    return workload


def _examine(plan: Plan) -> Finished:
    """What the doctor asks."""
    case = plan.case
    try:
        found = measure_rehearsal(
            _trained(plan), resolve.method(case.method), case.bits, seed=case.seed, gamma=case.gamma
        )
    except Exception as error:  # whatever a model raises is one line to the doctor
        return Finished(0, {}, *diagnosis(error))
    return Finished(0, msgspec.to_builtins(found))


def _stacks(plan: Plan) -> Finished:
    """What `explain --stacks` asks."""
    case = plan.case
    try:
        found = measure_sites(
            build(case), resolve.method(case.method), case.bits, seed=case.seed, gamma=case.gamma, verify=plan.verify
        )
    except Exception as error:  # whatever a model or a method raises is one line
        return Finished(0, {}, *diagnosis(error))
    return Finished(0, msgspec.to_builtins(found))


_ANSWERS: Mapping[Kind, Callable[[Plan], Finished]] = {"examine": _examine, "stacks": _stacks}
"""The jobs that are asked of one member."""


def _look(workload: Workload, plan: Plan, fields: Fields) -> tuple[str | None, str | None]:
    """Adds what one forward tells: the losses, the format of the stream, its rounding and the headroom. Returns why the
    case is unsupported, and a note on the rounding, or None for each."""
    case = plan.case
    torch.manual_seed(case.seed)
    reading = measure_loss(workload, resolve.method(case.method), case.bits, seed=case.seed, gamma=case.gamma)
    fields["loss"] = fields["loss_method"] = reading.loss_method
    fields["loss_plain"] = reading.loss_plain
    fields["stream_dtype"], fields["stream_elements"] = reading.stream_dtype, reading.stream_elements
    fields["blocks"] = reading.blocks
    rounding, note = reading.rounding, None
    if rounding is not None:
        fields["rounding_error"], fields["rounding_block"] = rounding.rounding_error, rounding.rounding_block
        note = rounding.message
    headroom = reading.headroom
    if headroom is None:
        return None, note
    fields["max_abs"], fields["largest_bits"] = headroom.max_abs, headroom.largest_bits
    if headroom.exact:
        return None, note
    largest = headroom.largest_bits
    would_do = "no l would stay in it" if largest is None else f"l = {largest} is the largest that stays in it"
    beyond = (
        f"l = {case.bits} leaves the exact range of fp32 at block {headroom.block}, as the stream reaches "
        f"{headroom.max_abs:.4g}; {would_do}"
    )
    return beyond, note


def _facts(workload: Workload, case: Case) -> Fields:
    """The sizes of the workload."""
    parameters = list(workload.model.parameters())
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "samples": workload.samples,
        "tokens": workload.tokens,
        "parameter_dtype": str(parameters[0].dtype).removeprefix("torch."),
        "compute_dtype": COMPUTE_DTYPES[case.dtype],
    }


def _attach(workload: Workload, plan: Plan, *, twin: bool = False) -> bdia.Handle:
    """The plan's method on the workload, or its stored twin, of which there is nothing to verify."""
    case, method = plan.case, resolve.method(plan.case.method)
    chosen, verify = (method.twin(), False) if twin else (method, plan.verify)
    return attach(workload, chosen, seed=case.seed, bits=case.bits, gamma=case.gamma, verify=verify)


def _nothing() -> None:
    """What there is to wait for on a CPU."""


def diagnosis(error: BaseException) -> tuple[Status, str]:
    """The status that an exception stands for, and one line about it."""
    text = " ".join(str(error).split())
    if isinstance(error, HeadroomError):
        return "unsupported", text
    if is_out_of_memory(error):
        start = max(text.find("can't allocate memory"), 0)
        return "oom", text[start:].split(" GPU ")[0] or "out of memory"
    if isinstance(error, bdia.BdiaError | BenchError):
        return "error", text
    return "error", f"{type(error).__name__}: {text}"[:400]
