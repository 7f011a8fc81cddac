"""From what was asked for to a finished run: the suite, its plans, the directory, and what to do about Ctrl-C.

Imports no torch; what depends on the device is asked of a fresh process.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar, cast

import msgspec

from bench import axes, limits, peers, private, probe, rerun, runner, signals, starts, suite, words
from bench.axes import AxisValue
from bench.case import Plan
from bench.environment import Environment
from bench.errors import EXIT_BY_SIGNAL, EXIT_INTERRUPTED, BenchError, UsageError
from bench.events import RunEvent, Summary
from bench.limits import Limit
from bench.standing import Rerun
from bench.store import Run, Store

Result = TypeVar("Result")

THREADS: Final = 2
"""CPU threads of every measuring process: fixed, as bytes and rates depend on it, and recorded."""
RERUNS: Final = ("failed", "all")
NOT_MEASURED_WITH: Final = ("commit", "dirty", "bdia_bench")
"""Fields of the environment that change no measurement: the digest of the code says more than they do."""


class RunInterruptedError(BenchError):
    """Ctrl-C, SIGTERM or SIGHUP. What was measured is kept, and the children are gone."""

    exit_code = EXIT_INTERRUPTED

    def __init__(self, interrupt: KeyboardInterrupt, kept: str) -> None:
        number = signals.number(interrupt)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        super().__init__(f"interrupted{by}: {kept}")
        self.exit_code = EXIT_BY_SIGNAL + number


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as the suite does not say it."""

    suite: str
    """A name, or the path of a TOML file."""
    axes: Mapping[str, str]
    """Axes that replace the suite's, by name, as text."""
    arguments: Sequence[str]
    """The command line after the program's name."""
    data: str | None = None
    out: Path | None = None
    timeout_seconds: float | None = None
    rounds: int | None = None
    warmup: int | None = None
    resume: bool = False
    rerun: str | None = None
    verify: bool = False
    skip: bool = True
    """Whether cases larger than one that ran out of memory are left out."""
    memory_limit: Limit | None = None
    predicted: bool = False
    """Predict what would be measured, of memory."""


@dataclass(frozen=True)
class Session:
    """A run that can start: nothing is wrong with what was asked for, and nothing has been written yet."""

    request: Request
    suite: suite.Suite
    environment: Environment
    plans: Sequence[Plan]
    directory: Path

    def claimed(self) -> Session:
        """This session in a directory of its own: the one that was asked for or, where none was, one that is created
        now. Two runs that begin in one second, by whatever clock, get two.

        Raises: UsageError where none can be created.
        """
        if self.request.out is not None:
            return self
        return replace(self, directory=claim(self.directory))

    def measure(self, on_event: Callable[[RunEvent], None], on_message: Callable[[str], None]) -> Summary:
        """Measures what is not measured yet. `on_message` hears of lines of the results that had to be left out.

        Raises: UsageError where the directory will not do; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
        """
        return in_store(
            self.directory,
            self._run(),
            lambda store: runner.run(self.plans, store, self._settings(), on_event),
            resume=self.request.resume or self.request.rerun is not None,
            on_message=on_message,
            so_far=self._kept,
        )

    def _kept(self, store: Store) -> str:
        cases = {private.case(plan.case) for plan in self.plans}
        held, of = sum(record.case() in cases for record in store.records()), len(self.plans)
        return f"{held} of {words.counted(of, 'case')} {words.be(of)} in {self.directory}"

    def _run(self) -> Run:
        return Run(
            suite=self.suite.name, title=self.suite.title, question=self.suite.question, expect=self.suite.expect,
            started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), arguments=list(self.request.arguments),
            environment=msgspec.to_builtins(self.environment), tolerance=dict(self.suite.tolerance),
            planned=starts.planned(plan.case for plan in self.plans), predicted=self.request.predicted,
        )  # fmt: skip

    def _settings(self) -> runner.Settings:
        return runner.Settings(
            suite=self.suite.name,
            rounds=self.request.rounds or self.suite.rounds,
            warmup=self.request.warmup or self.suite.warmup,
            environment=f"{'predicted ' * self.request.predicted}{basis(self.environment)}",
            timeout_seconds=self.request.timeout_seconds,
            threads=THREADS,
            rerun=cast("Rerun", self.request.rerun or "none"),
            skip=self.request.skip,
            memory_limit=self.request.memory_limit,
            predicted=self.request.predicted,
        )


def in_store(
    directory: Path,
    run: Run,
    work: Callable[[Store], Result],
    *,
    resume: bool,
    on_message: Callable[[str], None],
    so_far: Callable[[Store], str],
    begun: bool = False,
) -> Result:
    """Has `work` done with the store in `directory`, open for it alone, and returns what it came to. `on_message` hears
    of lines of the results that had to be left out. What an interruption says is what there is `so_far`, and the
    command that goes on with it: that of `run` with --resume. `begun` is the store's.

    Raises: UsageError where the directory will not do; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP; whatever
    `work` does.
    """
    with signals.heeded(), signals.deferred(), Store(directory, run, resume=resume, begun=begun) as store:
        for message in store.messages:
            on_message(message)
        try:
            with signals.lifted():
                found = work(store)
        except KeyboardInterrupt as interrupt:
            command = rerun.going_on(run.arguments, directory)
            raise RunInterruptedError(interrupt, f"{so_far(store)}; go on with: {command}") from None
        store.finish()
        return found


def claim(directory: Path) -> Path:
    """Creates `directory` or, where it is there already, one of that name with a number.

    Raises: UsageError where none can be created.
    """
    for number in itertools.count(1):
        place = directory if number == 1 else directory.with_name(f"{directory.name}-{number}")
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"{place}: {error.strerror}; name a directory that can be made by --out") from error
        return place
    raise AssertionError("there is no end to the numbers")


def basis(environment: Environment) -> str:
    """A text that is equal where measurements may be compared: what a fingerprint rests on."""
    known: dict[str, object] = msgspec.to_builtins(environment)
    kept = {name: value for name, value in known.items() if name not in NOT_MEASURED_WITH}
    # What a peer was measured with is in its own fingerprint: installing one leaves all other records as they are.
    kept["packages"] = {name: version for name, version in environment.packages.items() if name not in peers.packages()}
    return msgspec.json.encode(kept, order="sorted").decode()


def prepare(request: Request) -> Session:
    """Everything that can go wrong before anything is measured or written.

    Raises: UsageError; ProbeError where torch does not import; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
    """
    with preparing():
        return _prepare(request)


@contextmanager
def preparing(so_far: str = "nothing was measured yet") -> Iterator[None]:
    """Inside, an interruption says that there is nothing yet to go on with.

    Raises: RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP.
    """
    try:
        with signals.heeded():
            yield
    except KeyboardInterrupt as interrupt:
        raise RunInterruptedError(interrupt, f"{so_far}; give the same command again") from None


def parsed(given: Mapping[str, str]) -> tuple[dict[str, tuple[AxisValue, ...]], probe.Asked]:
    """The values of the axes that were given as texts, and the one device to run on.

    Raises: UsageError for a value that is none, and for several devices.
    """
    overrides = {name: axes.parse(name, text) for name, text in given.items()}
    device, *others = overrides.pop("device", ("auto",))
    if others:
        raise UsageError(f"--device {given['device']!r}: a run is on one device; choose one, and run twice")
    return overrides, cast("probe.Asked", device)


def _prepare(request: Request) -> Session:
    chosen = suite.load(request.suite, replaced=request.axes)
    overrides, device = parsed(request.axes)
    if request.rerun is not None and request.rerun not in RERUNS:
        raise UsageError(f"--rerun {request.rerun!r}{axes.suggest(request.rerun, RERUNS)}")
    if request.out is None and (request.resume or request.rerun):
        raise UsageError("--resume and --rerun go on with a run: name its directory with --out")
    environment = probe.probe(device, threads=THREADS)
    if request.memory_limit is not None:
        limits.check(environment.device)
    introduced = probe.introduce(chosen.models(overrides))
    plans = chosen.plans(overrides, environment.device, request.data, introduced, verify=request.verify)
    default = Path("results") / f"{chosen.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return Session(request, chosen, environment, plans, request.out or default)
