"""A commit measured beside the working tree, on this machine and with the same arguments. Imports no torch.

The commit's files are laid out in a temporary folder through an index of their own: the repository is only read, so
nothing can stay behind in it, no hook runs, and `export-ignore` hides nothing, as it would from `git archive`. Each
side is a run of the command line in a fresh process. In the tool's own repository each runs its own code; elsewhere the
code is the same, and the suite, model and method files are those of either side.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import axes, baseline, check, checkpoints, compare, rates, signals, suite, supervise
from bench.baseline import StoredRun
from bench.check import Verdicts
from bench.errors import (
    EXIT_FAILED_CASE,
    EXIT_NOTHING_MEASURED,
    EXIT_OK,
    EXIT_USAGE,
    BaselineError,
    BenchError,
    NothingMeasuredError,
    UsageError,
)
from bench.session import RunInterruptedError
from bench.store import RESULTS, RUN
from bench.tolerance import Tolerances

ROOT: Final = Path(__file__).resolve().parent.parent
"""Of the code that runs."""
GRACE_SECONDS: Final = 15.0
"""How long a side may take to end its own children once it is told to."""
HEAD: Final = "the working tree"
MEASURED: Final = (EXIT_OK, EXIT_FAILED_CASE, EXIT_NOTHING_MEASURED)
"""Exit codes of a run that left records to compare."""

# The standard input is a line of life: at its end the run is told to stop, as by SIGTERM, and says no more. `-P` and
# the path given first: whatever else is called `cli` where it was started is not meant.
_CODE: Final = """\
import os, signal, sys, threading
def watch():
    while os.read(0, 1024):
        pass
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
root, sys.argv = sys.argv[1], ["bdia-bench", *sys.argv[2:]]
sys.path.insert(0, root)
from cli import main
main()
"""
_IN_FILE: Final = re.compile(r"(?P<path>.+\.py):\w+")


class SideError(BenchError):
    """One side could not be measured."""

    exit_code = EXIT_NOTHING_MEASURED


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


@dataclass(frozen=True)
class _Repository:
    """The repository of the current folder."""

    top: Path
    prefix: Path
    """The current folder, relative to `top`."""
    own: bool
    """Whether it is that of the code that runs, or a worktree of it."""


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
    differing = baseline.differences(base.environment, head.environment, (f"in {sides.base_name}", f"in {HEAD}"))
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
    repository = _repository()
    try:
        if request.revision.startswith("-"):
            raise _GitError("an option, and no revision")
        commit = _git("rev-parse", "--verify", f"{request.revision}^{{commit}}")
    except _GitError as error:
        raise UsageError(
            f"--against {request.revision!r}: no commit of this repository; "
            "give a branch, a tag or a hash, and fetch it first where the clone is shallow"
        ) from error
    name = f"{request.revision} ({commit[:12]})"
    _refuse_used(request.out)
    with _scratch() as scratch:
        tree = scratch / "tree"
        _lay_out(repository, commit, tree, scratch / "index", name, say)
        words = _words(request, repository, tree, name)
        if not repository.own or repository.top == ROOT:
            suite.load(request.suite)
        for axis, text in request.axes.items():
            axes.parse(axis, text)
        out = scratch if request.out is None else Path.cwd() / request.out
        say(f"{name}:")
        _run(
            tree if repository.own else ROOT, tree / repository.prefix, [*words, "--out", str(out / "base")], name, say
        )
        say(f"{HEAD}:")
        own = repository.top if repository.own else ROOT
        _run(own, Path.cwd(), [*words, "--out", str(out / "head")], HEAD, say)
        return Sides(_loaded(out / "base", name), _loaded(out / "head", HEAD), name)


def _repository() -> _Repository:
    """The repository of the current folder.

    Raises: UsageError.
    """
    try:
        path = Path(_git("rev-parse", "--show-toplevel")).resolve()
    except _GitError as error:
        raise UsageError(f"--against: {error}; start it in a checkout") from error
    here = Path.cwd().resolve()
    if not here.is_relative_to(path):
        raise UsageError(f"--against: {here} lies outside the checkout {path}; start it inside")
    return _Repository(path, here.relative_to(path), path == ROOT or _common(ROOT) == _common(path) is not None)


def _common(checkout: Path) -> Path | None:
    """The folder that all worktrees of a checkout's repository share; None where it is no checkout, or part of one."""
    if not (checkout / ".git").exists():
        return None
    # In a hook git says through the environment which repository is meant; here it is that of `checkout`.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        return (checkout / _git("rev-parse", "--git-common-dir", at=checkout, environ=environ)).resolve()
    except _GitError:
        return None


def _lay_out(
    repository: _Repository, commit: str, tree: Path, index: Path, name: str, say: Callable[[str], None]
) -> None:
    """The commit's files, in `tree`. What filters there are, such as Git LFS, work as in any checkout."""
    environ = {**os.environ, "GIT_INDEX_FILE": str(index)}
    tree.mkdir()
    try:
        _git("read-tree", commit, at=repository.top, environ=environ)
        _git("checkout-index", "--all", "--quiet", f"--prefix={tree}/", at=repository.top, environ=environ)
        files = _git("ls-files", "--stage", at=repository.top, environ=environ)
    except _GitError as error:
        raise UsageError(f"{name} cannot be laid out: {error}; see whether `git fsck` finds the clone whole") from error
    modules = [line.partition("\t")[2] for line in files.splitlines() if line.startswith("160000 ")]
    if modules:
        say(f"{name}: submodules are not laid out, and empty there: {', '.join(modules)}")
    if not (tree / repository.prefix).is_dir():
        raise UsageError(f"{name} has no folder {repository.prefix}: start it in one that both sides have")
    if repository.own and not (tree / "cli.py").is_file():
        raise UsageError(f"{name} has no cli.py, so there is nothing to run: give a later commit")


def _words(request: Request, repository: _Repository, tree: Path, name: str) -> list[str]:
    """The command line for both sides: the same words, which each side reads in its own tree.

    Raises: UsageError for a file that a side lacks.
    """

    def placed(text: str, *, linked: bool = False) -> str:
        """A path as both sides find it: relative where it lies in the repository, else absolute."""
        given = Path(text).expanduser()
        whole = given.parent.resolve() / given.name
        if not whole.exists():
            raise UsageError(f"{text}: not there in {HEAD}; give a path that is")
        if not whole.is_relative_to(repository.top):
            return str(whole)
        at_base = tree / whole.relative_to(repository.top)
        if not at_base.exists():
            if not linked:
                raise UsageError(f"{name} has no {text}: give what both sides have, or a later commit")
            at_base.parent.mkdir(parents=True, exist_ok=True)
            at_base.symlink_to(whole)
        return os.path.relpath(whole, Path.cwd())

    def named(text: str) -> str:
        found = _IN_FILE.fullmatch(text)
        if found is not None:
            return placed(found["path"]) + text[found.end("path") :]
        if text.startswith(checkpoints.PREFIX) and checkpoints.is_folder(text):
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


def _run(root: Path, folder: Path, words: Sequence[str], name: str, say: Callable[[str], None]) -> None:
    """One side, by the code in `root`, in `folder`. When this returns or raises, its process is gone.

    Raises: SideError, with the last line that the process said.
    """
    theirs, life = os.pipe()
    child = None
    last = ""
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, str(root), *words], cwd=folder, stdin=theirs,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, "PWD": str(folder)}, start_new_session=True,
        )  # fmt: skip
        assert child.stderr is not None
        for line in child.stderr:
            if last:
                say(last)
            last = line.rstrip()
        code = child.wait()
    finally:
        with _undisturbed():
            os.close(theirs)
            os.close(life)
            if child is not None:
                _end(child)
    if code in MEASURED or code < 0:
        say(last)
    if code not in MEASURED:
        why = f"killed by signal {-code}" if code < 0 else last.removeprefix("bdia-bench: ") or f"exited with {code}"
        error = SideError(f"{name} cannot be measured: {why}")
        error.exit_code = EXIT_USAGE if code == EXIT_USAGE else EXIT_NOTHING_MEASURED
        raise error


def _end(child: subprocess.Popen[str]) -> None:
    """Waits for a side whose line of life is cut to end its own children, and then ends it whatever it does."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    supervise.kill(child)
    if child.stderr is not None:
        child.stderr.close()


def _loaded(directory: Path, name: str) -> StoredRun:
    try:
        return baseline.load(directory)
    except NothingMeasuredError as error:
        raise SideError(f"{name}: nothing was measured") from error
    except UsageError as error:
        raise BaselineError(f"{name} cannot be compared: {error}") from error


def _refuse_used(out: Path | None) -> None:
    for side in ("base", "head") if out is not None else ():
        assert out is not None
        if any((out / side / file).exists() for file in (RESULTS, RUN)):
            raise UsageError(f"--out {str(out)!r} holds an earlier {side}: remove it, or give another --out")


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder that is gone afterwards, also where Ctrl-C is pressed a second time while it goes."""
    folder = tempfile.TemporaryDirectory(prefix="bdia-bench-against-")
    try:
        yield Path(folder.name).resolve()
    finally:
        with _undisturbed():
            folder.cleanup()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Within it Ctrl-C is ignored; `signals.heeded` does the same for the others once one has come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _GitError(Exception):
    """git failed; the message is its own last line."""


def _git(*words: str, at: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """What git prints, without the last line end.

    Raises: UsageError where there is no git; _GitError where it fails.
    """
    quiet = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    try:
        child = subprocess.Popen(
            ["git", *words], cwd=at, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="surrogateescape", env={**(os.environ if environ is None else environ), **quiet},
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise UsageError("--against needs git, and there is none on PATH: install it") from error
    try:
        output, said = child.communicate()
    finally:
        supervise.kill(child)
    if child.returncode:
        lines = said.strip().splitlines() or [f"git {words[0]} exited with {child.returncode}"]
        raise _GitError(lines[-1].removeprefix("fatal: "))
    return output.rstrip("\n")
