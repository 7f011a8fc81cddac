"""A commit measured beside the working tree, on this machine and with the same arguments. Imports no torch.

The commit's files are laid out in a temporary folder. Each side is a run of the command line in a fresh process. In the
tool's own repository each runs its own code; elsewhere the code is the same, and the suite, model and method files are
those of either side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import (
    axes,
    check,
    checkpoints,
    compare,
    launch,
    rates,
    repository,
    scratch,
    signals,
    stored_run,
    suite,
)
from bench import environment as environments
from bench.check import Verdicts
from bench.errors import BaselineError, NothingMeasuredError, UsageError
from bench.launch import SideError
from bench.repository import Repository
from bench.session import RunInterruptedError
from bench.store import RESULTS, RUN
from bench.stored_run import StoredRun
from bench.tolerance import Tolerances

ROOT: Final = Path(__file__).resolve().parent.parent
"""Of the code that runs."""
HEAD: Final = "the working tree"
NO_FIGURES: Final = "--no-figures"
_IN_FILE: Final = re.compile(r"(?P<path>.+\.py):\w+")


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    suite: str
    """A name, or the path of a TOML file."""
    revision: str
    axes: Mapping[str, str]
    """Axes that replace the suite's, by name, as text."""
    data: str | None = None
    timeout: str | None = None
    out: Path | None = None
    """Where both runs are kept, as `base` and `head`; nowhere unless given."""


@dataclass(frozen=True)
class Sides:
    """Both runs."""

    base: StoredRun
    head: StoredRun
    base_name: str
    """Such as `main (1a2b3c4d5e6f)`."""


def measure(request: Request, say: Callable[[str], None]) -> Sides:
    """Measures the commit, then the working tree as it is. `say` gets the progress of both, line by line.

    Raises: UsageError, before anything is measured, where git, the repository, the revision, or a file of one side is
    missing; SideError where a side cannot be measured; RunInterruptedError after Ctrl-C, SIGTERM or SIGHUP. However
    this ends, nothing stays behind but `out`, no process either.
    """
    try:
        with signals.heeded():
            return _measure(request, say)
    except KeyboardInterrupt as interrupt:
        kept = "nothing is kept; give the same command again"
        if request.out is not None:
            kept = f"what was measured is in {request.out}; to start again remove it, or give another --out"
        raise RunInterruptedError(interrupt, kept) from None


def judge(sides: Sides, tolerances: Tolerances, *, rated: bool = False, any_environment: bool = False) -> Verdicts:
    """The verdicts on the working tree against the commit.

    Args:
        rated: compare rate ratios as well.
        any_environment: compare all the same where a side's code measured in another environment.

    Raises: BaselineError where the environments differ, as another number of threads would have it, or rates were to be
    compared and the commit has none.
    """
    base, head = sides.base, sides.head
    differing = environments.differences(base.environment, head.environment, (f"in {sides.base_name}", f"in {HEAD}"))
    if differing and not any_environment:
        raise BaselineError(
            f"{sides.base_name} was not measured in the same environment ({'; '.join(differing)}): "
            "compare all the same with --allow-environment-mismatch"
        )
    paired = compare.Rates(rates.ratios(base.records), rates.ratios(head.records)) if rated else None
    if paired is not None and not paired.old:
        raise BaselineError(
            f"--rates: nothing of {sides.base_name} was timed beside {rates.REFERENCE}; measure throughput"
        )
    return check.judge(
        HEAD, sides.base_name, head.suite, base.records, head.records, tolerances, rates=paired, mismatch=differing
    )


def _measure(request: Request, say: Callable[[str], None]) -> Sides:
    found = repository.find(ROOT)
    commit = repository.commit(request.revision)
    name = f"{request.revision} ({commit[:12]})"
    _refuse_used(request.out)
    with scratch.folder("against") as temporary:
        tree = temporary / "tree"
        repository.lay_out(found, commit, tree, temporary / "index", name, say)
        if found.own and not (tree / "cli.py").is_file():
            raise UsageError(f"{name} has no cli.py, so there is nothing to run: give a later commit")
        words = _words(request, found, tree, name)
        if not found.own:
            _refuse_lacking(request, words[1], tree / found.prefix, name)
        if not found.own or found.top == ROOT:
            suite.load(request.suite, replaced=request.axes)
        for axis, text in request.axes.items():
            axes.parse(axis, text)
        out = temporary if request.out is None else Path.cwd() / request.out
        say(f"{name}:")
        theirs, folder = tree if found.own else ROOT, tree / found.prefix
        launch.run(theirs, folder, [*words, *_spared(theirs), "--out", str(out / "base")], name, say)
        say(f"{HEAD}:")
        ours = found.top if found.own else ROOT
        launch.run(ours, Path.cwd(), [*words, *_spared(ours), "--out", str(out / "head")], HEAD, say)
        return Sides(_loaded(out / "base", name), _loaded(out / "head", HEAD), name)


def _words(request: Request, found: Repository, tree: Path, name: str) -> list[str]:
    """The command line for both sides: the same words, which each side reads in its own tree.

    Raises: UsageError for a file that a side lacks.
    """

    def placed(text: str, *, linked: bool = False) -> str:
        """A path as both sides find it: relative where it lies in the repository, else absolute."""
        given = Path(text).expanduser()
        whole = given.parent.resolve() / given.name
        if not whole.exists():
            raise UsageError(f"{text}: not there in {HEAD}; give a path that is")
        if not whole.is_relative_to(found.top):
            return str(whole)
        at_base = tree / whole.relative_to(found.top)
        if not at_base.exists():
            if not linked:
                raise UsageError(f"{name} has no {text}: give what both sides have, or a later commit")
            at_base.parent.mkdir(parents=True, exist_ok=True)
            at_base.symlink_to(whole)
        return os.path.relpath(whole, Path.cwd())

    def named(text: str) -> str:
        file = _IN_FILE.fullmatch(text)
        if file is not None:
            return placed(file["path"]) + text[file.end("path") :]
        if checkpoints.is_one(text):
            path = placed(text.removeprefix(checkpoints.PREFIX), linked=True)
            return checkpoints.PREFIX + (path if Path(path).is_absolute() else f"./{path}")
        return text

    words = ["run", placed(request.suite) if request.suite.endswith(".toml") else request.suite]
    for axis, text in request.axes.items():
        words += [axes.get(axis).option, ",".join(map(named, text.split(","))) if axis in ("model", "method") else text]
    if request.data is not None:
        # Data is what both are measured on: often too large to be in git, and then the same file serves both.
        words += ["--data", placed(request.data, linked=True)]
    return words if request.timeout is None else [*words, "--timeout", request.timeout]


def _spared(code: Path) -> list[str]:
    """What spares a run the figures that nobody will look at, where its code knows of it."""
    return [NO_FIGURES] if NO_FIGURES in (code / "cli.py").read_text(encoding="utf-8", errors="replace") else []


def _refuse_lacking(request: Request, file: str, folder: Path, name: str) -> None:
    """Refuses a commit whose own suite names models or methods in files that it lacks; `file` is the suite as both
    sides find it, from where they are started: `folder` for the commit."""
    if not file.endswith(".toml"):
        return
    theirs = suite.read(
        (folder / file).read_bytes(), Path(file).stem, f"{file} of {name}", replaced=("model", "method")
    )
    for axis in ("model", "method"):
        for text in () if axis in request.axes else theirs.own(axis):
            named = _IN_FILE.fullmatch(str(text))
            if named is not None and not (folder / Path(named["path"]).expanduser()).is_file():
                raise UsageError(
                    f"{name} has no {named['path']}, a {axis} of its {file}: give what both sides have with --{axis}, "
                    "or a later commit"
                )


def _loaded(directory: Path, name: str) -> StoredRun:
    try:
        return stored_run.load(directory)
    except NothingMeasuredError as error:
        raise SideError(f"{name}: nothing was measured") from error
    except UsageError as error:
        raise BaselineError(f"{name} cannot be compared: {error}") from error


def _refuse_used(out: Path | None) -> None:
    for side in ("base", "head") if out is not None else ():
        assert out is not None
        if any((out / side / file).exists() for file in (RESULTS, RUN)):
            raise UsageError(f"--out {str(out)!r} holds an earlier {side}: remove it, or give another --out")
