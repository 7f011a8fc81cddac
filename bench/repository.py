"""The git repository of the current folder, which is only read.

A commit's files are laid out elsewhere, through an index of their own: nothing can stay behind in the repository, no
hook runs, and `export-ignore` hides nothing, as it would from `git archive`. Imports no torch.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import signals, supervise
from bench.errors import UsageError


@dataclass(frozen=True)
class Repository:
    """Where it is, and whose."""

    top: Path
    prefix: Path
    """The current folder, relative to `top`."""
    own: bool
    """Whether it is that of the code that runs, or a worktree of it."""


def find(root: Path) -> Repository:
    """The repository of the current folder. `root` is that of the code that runs.

    Raises: UsageError.
    """
    try:
        path = Path(_git("rev-parse", "--show-toplevel")).resolve()
    except _GitError as error:
        raise UsageError(f"--against: {error}; start it in a checkout") from error
    here = Path.cwd().resolve()
    if not here.is_relative_to(path):
        raise UsageError(f"--against: {here} lies outside the checkout {path}; start it inside")
    return Repository(path, here.relative_to(path), path == root or _common(root) == _common(path) is not None)


def commit(revision: str) -> str:
    """The hash of the commit that a revision names.

    Raises: UsageError where it names none.
    """
    try:
        if revision.startswith("-"):
            raise _GitError("an option, and no revision")
        return _git("rev-parse", "--verify", f"{revision}^{{commit}}")
    except _GitError as error:
        raise UsageError(
            f"--against {revision!r}: no commit of this repository; "
            "give a branch, a tag or a hash, and fetch it first where the clone is shallow"
        ) from error


def lay_out(
    repository: Repository, commit: str, tree: Path, index: Path, name: str, say: Callable[[str], None]
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


class _GitError(Exception):
    """git failed; the message is its own last line."""


def _git(*words: str, at: Path | None = None, environ: Mapping[str, str] | None = None) -> str:
    """What git prints, without the last line end.

    Raises: UsageError where there is no git; _GitError where it fails.
    """
    quiet = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    with signals.deferred():
        try:
            child = subprocess.Popen(
                ["git", *words], cwd=at, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, errors="surrogateescape", env={**(os.environ if environ is None else environ), **quiet},
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise UsageError("--against needs git, and there is none on PATH: install it") from error
        try:
            with signals.lifted():
                output, said = child.communicate()
        finally:
            supervise.kill(child)
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
    if child.returncode:
        lines = said.strip().splitlines() or [f"git {words[0]} exited with {child.returncode}"]
        raise _GitError(lines[-1].removeprefix("fatal: "))
    return output.rstrip("\n")
