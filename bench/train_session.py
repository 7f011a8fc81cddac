"""From what was asked of `train` to what it came to: the experiment, its form, the directory, and what to do about
Ctrl-C. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bench import experiments, private, probe, session, starts, train_run, words
from bench.case import Plan
from bench.environment import Environment
from bench.errors import UsageError
from bench.events import Summary
from bench.experiments import Experiment, Form
from bench.session import THREADS
from bench.store import Run, Store
from bench.train_events import TrainEvent
from bench.train_run import Settings
from bench.training import folders


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as the experiment does not say it."""

    experiment: str
    """A name, or the path of a TOML file."""
    arguments: Sequence[str]
    """The command line after the program's name."""
    form: Form | None = None
    """None for `full` on a GPU, and `small` on a CPU, which would be at the full form for days."""
    seeds: int | None = None
    steps: int | None = None
    arms: str | None = None
    device: str | None = None
    data: str | None = None
    out: Path | None = None
    timeout_seconds: float | None = None
    resume: bool = False


@dataclass(frozen=True)
class Session:
    """A training run that can start: nothing is wrong with what was asked for, and nothing has been written yet."""

    request: Request
    experiment: Experiment
    form: Form
    environment: Environment
    plans: Sequence[Plan]
    directory: Path

    @property
    def title(self) -> str:
        """What is trained, in which form, and why in that one."""
        why = ""
        if self.environment.device == "cpu" and self.form == "full":
            why = ", which takes days on a CPU (--small takes minutes)"
        elif self.request.form is None:
            why = ", as this is a CPU (--full is the paper's)" if self.form == "small" else ", as there is a GPU"
        return f"{self.experiment.name}, {self.form} form{why}"

    def claimed(self) -> Session:
        """This session in a directory of its own.

        Raises: UsageError where none can be created.
        """
        return self if self.request.out is not None else replace(self, directory=session.claim(self.directory))

    def train(self, on_event: Callable[[TrainEvent], None], on_message: Callable[[str], None]) -> Summary:
        """Trains what is not trained yet. `on_message` hears of lines of the results that had to be left out.

        Raises: UsageError where the directory will not do; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
        """
        return session.in_store(
            self.directory,
            self._run(),
            lambda store: train_run.run(self.plans, store, self._settings(), on_event),
            resume=self.request.resume,
            on_message=on_message,
            so_far=self._kept,
            begun=folders.begun(self.directory),
        )

    def _kept(self, store: Store) -> str:
        """What an interruption leaves behind."""
        held = {record.case() for record in store.records()}
        of = len(self.plans)
        done = sum(private.case(plan.case) in held for plan in self.plans)
        kept = f"{done} of {words.counted(of, 'training')} {words.be(of)} done in {self.directory}"
        for plan in self.plans:
            there = folders.checkpoints(folders.folder(self.directory, plan.case))
            if there and private.case(plan.case) not in held:
                kept += f", and {plan.case.arm} at seed {plan.case.seed} up to step {there[0][0]}"
        return kept

    def _run(self) -> Run:
        own = self.experiment
        return Run(
            suite=experiments.OF + own.name, title=own.title, question=own.question, expect=own.expect,
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), arguments=list(self.request.arguments),
            environment=msgspec.to_builtins(self.environment),
            planned=starts.planned(plan.case for plan in self.plans),
        )  # fmt: skip

    def _settings(self) -> Settings:
        return Settings(
            suite=experiments.OF + self.experiment.name, environment=session.basis(self.environment),
            timeout_seconds=self.request.timeout_seconds, threads=THREADS,
        )  # fmt: skip


def prepare(request: Request) -> Session:
    """Everything that can go wrong before anything is trained or written.

    Raises: UsageError; ProbeError where torch does not import; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
    """
    with session.preparing():
        return _prepare(request)


def _prepare(request: Request) -> Session:
    chosen = experiments.load(request.experiment)
    if request.out is None and request.resume:
        raise UsageError("--resume goes on with a run: name its directory with --out")
    _, device = session.parsed({} if request.device is None else {"device": request.device})
    arms = () if request.arms is None else tuple(name.strip() for name in request.arms.split(","))
    environment = probe.probe(device, threads=THREADS)
    form = request.form or ("small" if environment.device == "cpu" else "full")
    plans = chosen.plans(
        form, device=environment.device, data=request.data, seeds=request.seeds, steps=request.steps, arms=arms
    )
    default = Path("results") / f"{chosen.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Session(request, chosen, form, environment, plans, request.out or default)
