"""What a child process does with its job: builds the workload, runs the meters, says what they read.

A member that fails is an event as well, with what was measured until then.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from bdia.errors import HeadroomError, ReconstructionError
from bench import limits, resolve, timing
from bench.attaching import attach_planned
from bench.case import Plan
from bench.curves import Curves, Point
from bench.diagnosis import diagnosis
from bench.meters.gradients import measure_gradients
from bench.meters.loss import measure_loss
from bench.meters.memory import measure_memory
from bench.meters.reconstruction import measure_reconstruction
from bench.meters.rehearsal import measure_rehearsal
from bench.meters.sites import measure_sites
from bench.meters.training import measure_training
from bench.protocol import Event, Finished, Job, Kind, Measured, Started, Stepped
from bench.record import Status
from bench.training import folders, loop, trainee
from bench.words import counted
from bench.workload import Workload, build, facts, train

CONFIRMED_STEPS: Final = 20
"""Training steps that confirm that a case fits."""
Fields = dict[str, Any]
"""Fields of `Record` by name."""


def work(line: bytes) -> None:
    """Does the job in `line` and writes an event as each member begins and ends."""
    job = msgspec.json.decode(line, type=Job)

    def tell(event: Event) -> None:
        os.write(job.events, msgspec.json.encode(event) + b"\n")

    torch.set_num_threads(job.threads)
    if job.memory_limit is not None:
        limits.apply(job.memory_limit)
    if job.card_limit is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job.card_limit / total), 0)
    if job.kind == "time":
        timing.time(job, tell)
        return
    # What deterministic kernels need of cuBLAS, before its first call: the gradients of two methods are compared bit
    # for bit. The size is the one that torch takes on Hopper anyway.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for member, plan in enumerate(job.members):
        tell(Started(member))
        if job.kind in ("predict", "fit"):
            from bench import predicting  # what it imports, no measurement needs

            limit = job.limit_bytes
            tell(predicting.predict(member, plan) if limit is None else predicting.largest(member, plan, limit))
        elif job.kind == "confirm":
            tell(_confirm(plan, job.step_limit))
        elif job.kind == "train":
            tell(_train(member, plan, job, tell))
        else:
            tell(_ANSWERS[job.kind](plan) if job.kind in _ANSWERS else _measure(member, plan, tell))
        gc.collect()


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
    workload = _built(plan)
    with attach_planned(workload, plan) as handle, nullcontext() if guarded else handle.unguarded():
        reading = measure_memory(workload, handle, workload.device)
    fields.update(vars(reading), **facts(workload, plan.case))


def _built(plan: Plan) -> Workload:
    """The workload of the case or, where that is trained by a recipe, what the recipe trains."""
    if plan.training is None:
        return build(plan.case)
    return trainee.build(plan.case, plan.training.recipe).workload


def _correctness(plan: Plan, fields: Fields, begin: Callable[[str], None]) -> tuple[str | None, str | None]:
    """Adds what depends on the weights, at initial ones or after training. `begin` hears what comes next.

    Returns why the case is unsupported, and a note on what could not be given, or None for each.
    """
    case, method = plan.case, resolve.method(plan.case.method)
    begin("training" if case.train_steps else "measuring the loss")
    workload = _trained(plan)
    fields.update(facts(workload, case))
    unsupported, note = _look(workload, plan, fields)
    # Beyond the exact range the error is measured, so there is nothing to hold it to.
    verify = plan.verify and unsupported is None
    options: dict[str, Any] = {"seed": case.seed, "gamma": case.gamma, "verify": verify, "dial": case.dial}
    if "reconstruction" in plan.measure:
        begin("measuring reconstruction")
        torch.manual_seed(case.seed)
        reading = measure_reconstruction(workload, method, case.bits, **options)
        fields["reconstruction"] = msgspec.to_builtins(reading.reconstruction) or None
        fields["bit_exact"] = reading.bit_exact
        if reading.missing:
            note = note or f"not rebuilt: {counted(len(reading.missing), 'block')}, the first {reading.missing[0]}"
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
        with attach_planned(workload, plan, twin=True) as handle, handle.unguarded():
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
            build(case), resolve.method(case.method), case.bits, seed=case.seed, gamma=case.gamma, verify=plan.verify,
            dial=case.dial,
        )  # fmt: skip
    except Exception as error:  # whatever a model or a method raises is one line
        return Finished(0, {}, *diagnosis(error))
    return Finished(0, msgspec.to_builtins(found))


def _probe(plan: Plan) -> Finished:
    """What the frontier asks of a case: its memory."""
    fields: Fields = {}
    try:
        unsupported = _memory(plan, fields)
    except Exception as error:  # that it does not fit is one of the answers
        return Finished(0, fields, *diagnosis(error))
    return Finished(0, fields) if unsupported is None else Finished(0, fields, "unsupported", unsupported)


def _confirm(plan: Plan, limit: int | None) -> Finished:
    """And of the largest that fits: whether it does for as long as it trains."""
    try:
        workload = build(plan.case)
        with attach_planned(workload, plan):
            highest = measure_training(workload, workload.device, CONFIRMED_STEPS)
    except Exception as error:
        status, message = diagnosis(error)
        return Finished(0, {}, status, f"while training {CONFIRMED_STEPS} steps: {message}")
    if limit is not None and highest > limit:
        return Finished(0, {}, "oom", f"{CONFIRMED_STEPS} training steps take up to {highest} bytes")
    return Finished(0, {"confirmed_steps": CONFIRMED_STEPS})


def _train(member: int, plan: Plan, job: Job, tell: Callable[[Event], None]) -> Finished:
    """An arm of an experiment at one seed, to its end."""
    assert job.directory is not None
    assert job.fingerprint is not None
    steps = 0

    def hear(step: int, points: list[Point]) -> None:
        nonlocal steps
        steps = step
        tell(Stepped(member, step, points))

    try:
        with Curves(Path(job.directory)) as curves:
            place = folders.folder(Path(job.directory), plan.case)
            fields, note = loop.train(plan, place, curves, job.fingerprint, hear)
    except Exception as error:  # whatever a model or a method raises is a row
        status, message = diagnosis(error)
        return Finished(member, {"trained_steps": steps}, status, f"after {counted(steps, 'step')}: {message}")
    return Finished(member, fields, "ok", note)


_ANSWERS: Mapping[Kind, Callable[[Plan], Finished]] = {"examine": _examine, "stacks": _stacks, "probe": _probe}
"""The jobs that are asked of one member."""


def _look(workload: Workload, plan: Plan, fields: Fields) -> tuple[str | None, str | None]:
    """Adds what one forward tells: the losses, the format of the stream, its rounding and the headroom. Returns why the
    case is unsupported, and a note on the rounding, or None for each."""
    case = plan.case
    torch.manual_seed(case.seed)
    reading = measure_loss(
        workload, resolve.method(case.method), case.bits, seed=case.seed, gamma=case.gamma, dial=case.dial
    )
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
