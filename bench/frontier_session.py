"""From what was asked of `frontier` to what it came to: the limit, the methods, the directory, and what to do about
Ctrl-C. Imports no torch."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from bench import axes, frontier, frontier_run, models, probe, session, suite
from bench.case import Case, Plan
from bench.environment import Environment
from bench.errors import UsageError
from bench.frontier_events import FrontierEvent, Summary
from bench.frontier_run import Settings
from bench.limits import MEMORY, Limit
from bench.models import ModelSpec
from bench.session import THREADS
from bench.store import Run

_SLACK_BYTES: Final = 2 * 2**30
"""What a process may have beside the memory that is measured, and as much again: libraries, scratch, the profiler."""


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as the suite does not say it."""

    suite: str
    axes: Mapping[str, str]
    arguments: Sequence[str]
    over: str = "batch"
    memory: Limit | None = None
    """None for all of the card's."""
    step: int | None = None
    most: int | None = None
    data: str | None = None
    out: Path | None = None
    timeout_seconds: float | None = None
    rounds: int | None = None
    warmup: int | None = None
    resume: bool = False


@dataclass(frozen=True)
class Session:
    """A frontier that can start: nothing is wrong with what was asked for, and nothing has been written yet."""

    request: Request
    suite: suite.Suite
    environment: Environment
    plans: Sequence[Plan]
    limit: Limit
    directory: Path

    def claimed(self) -> Session:
        """This session in a directory of its own.

        Raises: UsageError where none can be created.
        """
        return self if self.request.out is not None else replace(self, directory=session.claim(self.directory))

    def measure(self, on_event: Callable[[FrontierEvent], None], on_message: Callable[[str], None]) -> Summary:
        """Looks for what is not known yet. `on_message` hears of lines of the results that had to be left out.

        Raises: UsageError where the directory will not do, or memory does not depend on what is looked for;
        RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
        """
        return session.in_store(
            self.directory,
            self._run(),
            lambda store: frontier_run.run(self.plans, store, self.settings(), on_event),
            resume=self.request.resume,
            on_message=on_message,
            so_far=lambda store: f"{len(store.records())} probes are in {self.directory}",
        )

    def settings(self) -> Settings:
        """How to look for it."""
        request, own = self.request, self.suite
        on_card = self.environment.device == "cuda"
        held = not on_card and sys.platform == "linux"
        over = request.over
        return Settings(
            suite=_name(own),
            over=over,
            step=request.step or frontier.STEPS[over],
            most=request.most or axes.LARGEST,
            limit=self.limit.size,
            limit_text=self.limit.text,
            rounds=request.rounds or own.rounds,
            warmup=request.warmup or own.warmup,
            environment=session.basis(self.environment),
            on_card=on_card,
            process_limit=min(self.environment.memory_bytes, 2 * self.limit.size + _SLACK_BYTES) if held else None,
            timeout_seconds=request.timeout_seconds,
            threads=THREADS,
        )

    def _run(self) -> Run:
        over = self.request.over
        return Run(
            suite=_name(self.suite), title=f"The largest {over} that fits {self.limit.text}",
            question=f"How large may {over} be within {self.limit.text}, and how fast is a step there?",
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), arguments=list(self.request.arguments),
            environment=msgspec.to_builtins(self.environment),
        )  # fmt: skip


def prepare(request: Request) -> Session:
    """Everything that can go wrong before anything is measured or written.

    Raises: UsageError; ProbeError where torch does not import; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
    """
    with session.preparing():
        return _prepare(request)


def _name(own: suite.Suite) -> str:
    """What the run is a run of: no suite, so that `run` does not go on with it."""
    return f"frontier of {own.name}"


def _prepare(request: Request) -> Session:
    over = request.over
    if over not in frontier.OVERS:
        raise UsageError(f"--over {over!r}{axes.suggest(over, frontier.OVERS)}")
    step = request.step or frontier.STEPS[over]
    if request.most is not None and request.most < step:
        raise UsageError(f"--most {request.most}: the first {over} to try is {step}; give as much, or a smaller --step")
    if request.out is None and request.resume:
        raise UsageError("--resume goes on with a run: name its directory with --out")
    for name, why in ((over, f"--over {over} looks for it"), ("train_steps", "memory does not depend on it")):
        if name in request.axes:
            raise UsageError(f"{axes.get(name).option} {request.axes[name]}: {why}; leave it out")
    chosen = suite.load(request.suite, replaced=(*request.axes, over))
    overrides, device = session.parsed(request.axes)
    environment = probe.probe(device, threads=THREADS)
    limit = _limit(request.memory, environment)
    introduced = probe.introduce(chosen.models(overrides))
    plans = _plans(chosen, overrides, request, environment.device, introduced)
    default = Path("results") / f"frontier-{over}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Session(request, chosen, environment, plans, limit, request.out or default)


def _limit(asked: Limit | None, environment: Environment) -> Limit:
    """The limit to hold steps to: what was asked for, or all of the card.

    Raises: UsageError where there is none, or more than there is memory.
    """
    if environment.device == "cuda":
        there, whose = environment.gpu_memory_bytes, environment.gpu_name or "the card"
        if asked is None:
            if there is None:
                raise UsageError(f"{MEMORY}: how much memory {whose} has is not known; say so, as in {MEMORY} 24GiB")
            return Limit(whose, there)
    else:
        there, whose = environment.memory_bytes, "this machine"
        if asked is None:
            raise UsageError(
                f"{MEMORY}: a CPU has no memory of its own that a step must fit into; say how much it may take, as in "
                f"{MEMORY} 512MiB"
            )
    if there is not None and asked.size > there:
        raise UsageError(f"{MEMORY} {asked.text}: {whose} has {there / 2**30:.1f} GiB; give less")
    return asked


def _plans(
    chosen: suite.Suite,
    overrides: Mapping[str, Sequence[axes.AxisValue]],
    request: Request,
    device: str,
    introduced: Mapping[str, ModelSpec],
) -> list[Plan]:
    """A plan for each method and its settings, at some value of what is looked for."""
    over = request.over
    for spec in introduced.values():
        if over == "depth" and spec.fixed:
            raise UsageError(
                f"--over depth: {spec.name} is a checkpoint of {spec.defaults.get('depth')} blocks; take --over batch"
            )
    step = request.step or frontier.STEPS[over]
    for name in map(str, overrides.get("model") or chosen.own("model")):
        factor = models.factor(name, over)
        if step % factor:
            raise UsageError(f"--over {over}: of {name} a multiple of {factor}; take --step {factor}")
    # No setting of a method is too much for the largest there can be; of tokens, there must be as many in the data.
    value = frontier.STEPS[over] if over == "seq" else axes.LARGEST - axes.LARGEST % step
    try:
        plans = chosen.plans({**overrides, over: (value,)}, device, request.data, introduced)
    except UsageError as error:
        if f"has no {over}" in str(error):
            named = ", ".join(map(str, overrides.get("model", ()))) or f"the model of {chosen.file}"
            raise UsageError(f"--over {over}: {named} has no {over}; take --over batch or depth") from error
        raise
    found: dict[Case, Plan] = {}
    for plan in plans:
        if "memory" not in plan.measure and plan.unsupported is None:
            continue
        case = msgspec.structs.replace(plan.case, train_steps=0)
        unseeded = msgspec.structs.replace(case, seed=0)  # memory does not depend on it
        found.setdefault(unseeded, msgspec.structs.replace(plan, case=case))
    if not found:
        raise UsageError(
            f"{chosen.file}: it measures no memory, which is what --over {over} goes by; take another suite"
        )
    return list(found.values())
