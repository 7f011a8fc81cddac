"""The doctor's look at a model before anyone trains: can a method be attached, and would every block come back.

The examination itself is a child's work (`bench.meters.rehearsal`); here is what it is asked, what it answers, and
what that means. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

import msgspec

from bdia import distributions
from bench import axes, models, peers, points, probe, resolve, supervise
from bench.case import Case, Plan
from bench.doctor import Finding
from bench.errors import EXIT_FAILED_CASE, BenchError, UsageError
from bench.protocol import Event, Finished, Job
from bench.words import counted

METHOD: Final = "bdia"
"""The method that is looked at unless another is given."""
NAMED: Final = 3
"""Names of blocks that are told one by one, at most; of more, the ends."""


class ExaminationError(BenchError):
    """The model could not be built, or the child process died over it."""

    exit_code = EXIT_FAILED_CASE


class BlockFinding(msgspec.Struct, frozen=True):
    """One block that ran twice from the same x and the same state, as the engine runs it."""

    name: str
    stable: bool
    """Both runs gave the same y, bit for bit."""
    differing: int
    elements: int
    """Elements of y, of which `differing` were not the same."""
    max_abs_difference: float | None
    """None where it is not finite."""
    reason: str | None


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What a child found out about a model and a method."""

    parameters: int
    parameter_dtype: str
    loss_plain: float | None
    """Loss of the measured batch under the plain transformer, in training mode; None where it is not finite."""
    obstacle: str | None = None
    """Why the method cannot be attached. What follows is then empty."""
    chains: tuple[tuple[str, ...], ...] = ()
    """The names of the blocks in the order they run, a chain each."""
    blocks: tuple[BlockFinding, ...] = ()
    loss_method: float | None = None
    side_bytes: int = 0
    """Side information that a training forward holds at its end."""
    rng_bytes: int = 0
    max_abs: float | None = None
    """Largest |x| of the stream; None for a method that does not quantise."""
    largest_bits: int | None = None
    exact: bool | None = None
    """Whether the stream stayed within the exact range of fp32 at this l."""


def plan(given: Mapping[str, str], data: str | None, *, threads: int) -> Plan:
    """The one case that was asked for, from axes as text.

    Raises: UsageError without a model, for axes of several values, and for what `bench.points.plan` refuses;
    ProbeError where torch does not import.
    """
    if "model" not in given:
        lone = ", ".join(f"{axes.get(name).option} {text}" for name, text in given.items()) or f"--data {data}"
        raise UsageError(
            f"{lone}: expected a model beside it; name one with --model, or leave it out to look at the machine"
        )
    point = {name: _one_value(name, text) for name, text in given.items()}
    named = str(point["model"])
    device = probe.probe(cast("probe.Asked", point.pop("device", "auto")), threads=threads).device
    introduced = probe.introduce([named] if models.get(named).foreign else [])
    asked = points.plan(
        {"method": METHOD, **point}, frozenset(), device=device, path=data, where="doctor", introduced=introduced
    )
    if isinstance(resolve.method(asked.case.method), peers.Peer):
        raise UsageError(f"--method {asked.case.method}: doctor looks at bdia's own methods; measure a peer with `run`")
    if asked.unsupported is not None:
        raise UsageError(f"doctor: {asked.unsupported}")
    return asked


def examine(asked: Plan, *, threads: int) -> Examination:
    """Has a child process look at the model.

    Raises: ExaminationError where it cannot be built, or the child dies.
    """
    answers: list[Finished] = []

    def hear(event: Event) -> None:
        if isinstance(event, Finished):
            answers.append(event)

    job = Job(kind="examine", members=(asked,), rounds=0, warmup=0, threads=threads, events=-1)
    end = supervise.run(job, hear, timeout_seconds=None)
    failure = end if not answers else answers[0]
    if failure.status != "ok" or not answers:
        said = failure.message or "the child process ended without an answer"
        raise ExaminationError(said if asked.case.model in said else f"{asked.case.model}: {said}")
    return msgspec.convert(answers[0].fields, Examination)


def findings(case: Case, found: Examination) -> Iterator[Finding]:
    """What the examination means, a finding at a time. All is well where none is `broken`."""
    method = resolve.method(case.method)
    yield Finding("model", f"{case.model}, {found.parameters:,} parameters in {found.parameter_dtype}")
    if found.obstacle is not None:
        yield Finding("method", f"{case.method} cannot be attached: {found.obstacle}", "broken")
        return
    settings = [f"{name} = {value}" for name, value in (("l", case.bits), ("γ", case.gamma)) if value is not None]
    yield Finding("method", ", ".join([f"{case.method} can be attached", *settings]))
    for names in found.chains:
        yield Finding("chain", f"{counted(len(names), 'block')}: {_listed(names)}")
    yield from _stability(found.blocks)
    if found.exact is not None:
        yield _headroom(case, found)
    if method.reversible and method.quantised:
        yield from _side_information(case, found)
    yield Finding("RNG states", "of blocks that draw" if found.rng_bytes else "none: no block draws",
                  size_bytes=found.rng_bytes or None)  # fmt: skip
    yield _losses(case, found)


def _one_value(name: str, text: str) -> axes.AxisValue:
    values = axes.parse(name, text)
    if len(values) > 1:
        raise UsageError(
            f"{axes.get(name).option} {text!r}: {len(values)} values, and doctor looks at one case; give one"
        )
    return values[0]


def _stability(blocks: Sequence[BlockFinding]) -> Iterator[Finding]:
    """How many blocks come back bit for bit; of the others, those of one reason together."""
    stable = sum(block.stable for block in blocks)
    if stable:
        yield Finding("bit-stable", f"{stable} of {counted(len(blocks), 'block')}, run twice as the engine would")
    reasons: dict[str, list[BlockFinding]] = {}
    for block in blocks:
        if not block.stable:
            reasons.setdefault(block.reason or "the second run gave another y", []).append(block)
    for reason, those in reasons.items():
        worst = max(those, key=lambda block: (block.max_abs_difference is None, block.max_abs_difference or 0.0))
        by = "an amount that is not finite" if worst.max_abs_difference is None else f"{worst.max_abs_difference:.3g}"
        text = f"{_listed([block.name for block in those])}: {reason}"
        extent = f"in {worst.name} {worst.differing:,} of {worst.elements:,} elements differ, by at most {by}"
        yield Finding("not bit-stable", text, "broken", extent)


def _headroom(case: Case, found: Examination) -> Finding:
    reach = "" if found.max_abs is None else f"max|x| is {found.max_abs:.4g}: "
    largest = f"l = {found.largest_bits}" if found.largest_bits is not None else "no l"
    if found.exact:
        text = f"{reach}exact at l = {case.bits}, and up to {largest}"
        return Finding("headroom", text, hint="at these weights; the stream grows in training")
    cure = f"take -l {found.largest_bits}, or" if found.largest_bits is not None else "train with"
    text = f"{reach}beyond the exact range of fp32 at l = {case.bits}; {largest} is the largest within it"
    return Finding("headroom", text, "broken", f'{cure} on_overflow="store", which keeps what cannot be rebuilt')


def _side_information(case: Case, found: Examination) -> Iterator[Finding]:
    """What eq. 20 costs: m bits an activation for |γ| = 2^-m, but for the first block of a chain (19)."""
    m = distributions.side_bits(distributions.parse(case.gamma))
    yield Finding("side bits", f"{m} an activation, held by a training step", size_bytes=found.side_bytes)
    paying = sum(len(names) - 1 for names in found.chains)
    if paying:
        yield Finding("  a block", "on average", size_bytes=found.side_bytes // paying)


def _losses(case: Case, found: Examination) -> Finding:
    plain, ours = found.loss_plain, found.loss_method
    if plain is None or ours is None:
        return Finding("loss", f"not finite, plain or with {case.method}", "broken", "look at the model and its data")
    text = f"{plain:.5g} as a plain transformer, {ours:.5g} with {case.method} ({ours - plain:+.2g})"
    differs = ours != plain and case.gamma is not None
    return Finding(
        "loss", text, hint="another function than the plain one; a smaller γ is nearer to it" if differs else None
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{names[0]}, {names[1]} … {names[-1]}"
