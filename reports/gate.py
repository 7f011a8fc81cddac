"""The gate, as it is asked for: a run held to a baseline, or the working tree to a commit, and everyone told who asked
to be. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import against, baseline, check, rates, renewal, stored_run, streams
from bench.check import Verdicts
from bench.errors import EXIT_OK, EXIT_REGRESSION, UsageError
from reports import checked, published

Note = Callable[[str], None]
"""Where remarks go that are no part of the verdict, line by line."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Either `baseline` or `revision` is given.

    Raises: UsageError where it is both or neither, and for what the one that is given has no use of.
    """

    what: str
    """With `baseline` the directory of a run; with `revision` a suite's name or file."""
    baseline: Path | None = None
    revision: str | None = None
    tolerance: Sequence[str] = ()
    """As words of the command line."""
    rated: bool = False
    """Compare rates as well."""
    any_environment: bool = False
    """Compare all the same where the environments differ."""
    update: bool = False
    """Make the run the baseline and come to no verdict."""
    junit: Path | None = None
    json: bool = False
    incomplete: bool = False
    """Of `update`: also where cases are still to be measured, or have failed."""
    axes: Mapping[str, str] = field(default_factory=dict)
    """This and what follows says how to measure, so it goes with `revision`."""
    data: str | None = None
    out: Path | None = None
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.baseline is None) == (self.revision is None):
            raise UsageError(
                "check: give --baseline FILE for a run that is measured, or --against REV for a suite; not both"
            )
        if self.incomplete and not self.update:
            raise UsageError(f"{renewal.OPTION} is of --update alone: leave it out, or add that")
        if self.revision is not None:
            if self.update:
                raise UsageError("--update renews a baseline, and --against has none; leave one of them out")
            return
        measuring = {**self.axes, "data": self.data, "out": self.out, "timeout": self.timeout_seconds}
        named = ["--" + name.replace("_", "-") for name, value in measuring.items() if value is not None]
        if named:
            raise UsageError(
                f"{', '.join(named)}: of check --against alone; with --baseline the run is measured already"
            )
        if self.update and (self.junit is not None or self.json):
            raise UsageError("--update comes to no verdict; leave out --junit and --json, and check afterwards")


def answer(request: Request, note: Note) -> int:
    """Shows the verdict that is asked for, or what renewing the baseline changes. Returns the exit code.

    Raises: UsageError, BaselineError, NothingMeasuredError, SideError or RunInterruptedError where there is none.
    """
    if request.baseline is not None:
        return _hold_to_baseline(request, request.baseline, note)
    return _hold_to_commit(request, note)


def _hold_to_baseline(request: Request, path: Path, note: Note) -> int:
    run = stored_run.load(Path(request.what))
    if request.update and not request.incomplete:
        renewal.refuse_incomplete(request.what, run, path)
    for message in run.messages:
        note(message)
    if request.update:
        ratios = rates.ratios(run.records) if request.rated else None
        streams.show(checked.updated(str(path), baseline.update(path, run.records, run.environment, ratios)))
        return EXIT_OK
    allowed = check.tolerances(run, request.tolerance)
    found = check.check(
        request.what, run, path, allowed, rated=request.rated, any_environment=request.any_environment
    )  # fmt: skip
    return _tell(request, found, checked.gains(found, rated=request.rated), note)


def _hold_to_commit(request: Request, note: Note) -> int:
    assert request.revision is not None
    timeout = None if request.timeout_seconds is None else str(request.timeout_seconds)
    asked = against.Request(request.what, request.revision, request.axes, request.data, timeout, request.out)
    sides = against.measure(asked, lambda line: print(line, file=sys.stderr))
    allowed = check.tolerances(sides.head, request.tolerance)
    found = against.judge(sides, allowed, rated=request.rated, any_environment=request.any_environment)
    return _tell(request, found, (), note)


def _tell(request: Request, found: Verdicts, gains: Iterable[str], note: Note) -> int:
    """`gains` says how to keep those."""
    advice = list(gains)
    code = EXIT_OK if found.passed else EXIT_REGRESSION
    # Files first, and the verdict's code whatever becomes of stdout: neither a reader that leaves, as `head` does, nor
    # a full disk may open the gate.
    try:
        if request.junit is not None:
            published.write_junit(found, request.junit)
        published.summarise(found, os.environ, note, advice=" ".join(advice))
        streams.show(checked.lines(found, renewable=request.baseline is not None))
        streams.show(advice)
        published.publish(found, os.environ, advice=" ".join(advice), json=request.json)
        sys.stdout.flush()
    except BrokenPipeError:
        streams.abandon(sys.stdout)
    except (UsageError, OSError) as error:
        if found.passed:
            raise
        note(f"{error}; the gate is closed all the same")
        if isinstance(error, OSError):
            streams.abandon(sys.stdout)
    return code
