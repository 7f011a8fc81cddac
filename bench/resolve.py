"""From names to Python of the user's: methods, and functions that make a workload. Imports no torch, unless a
method's own file does; a model's file is only looked at, until `workload` is asked for in a child process.

`FILE.py:NAME` names a file by its path. `pkg.mod:NAME` names a module as Python finds it, the working directory first;
for models only.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Final, cast

import bdia.methods
from bdia.methods import Method
from bench import axes, peers
from bench.case import Case
from bench.errors import UsageError, one_line


@dataclass(frozen=True)
class _Kind:
    """What is looked up: the word that errors begin with, and what the name must stand for."""

    word: str
    wanted: str


_METHOD: Final = _Kind("method", "a bdia.methods.Method")
_MODEL: Final = _Kind("model", "a function that takes a Case and returns a bench.Workload")


def names() -> tuple[str, ...]:
    """The names of methods that need no file: the table's and, after them, the peers'."""
    return (*bdia.methods.names(), *peers.names())


def method(name: str) -> Method:
    """The method called `name`: one of the table, a peer, or `FILE.py:NAME`, a `bdia.methods.Method` in a file.

    Raises: UsageError where there is none.
    """
    if _in_file(name):
        return _method(name)
    if (peer := peers.get(name)) is not None:
        return peer
    if name not in bdia.methods.names():
        raise UsageError(f"unknown method {name!r}{axes.suggest(name, names())}, or FILE.py:NAME")
    return bdia.methods.get(name)


def source(name: str) -> str | None:
    """Digest of the file that the method comes from, or the version of the library; None for one of the table."""
    if (peer := peers.get(name)) is not None:
        return peer.library.version
    return hashlib.sha256(_read(name, _METHOD)).hexdigest() if _in_file(name) else None


def workload(name: str) -> Callable[[Case], object]:
    """The function that `FILE.py:FUNCTION` or `pkg.mod:FUNCTION` names.

    For a child process: what it imports is found as from a script in that file's folder, or as by `python -m` in the
    working directory, for as long as the process lives. Packages of the bench's own names stay the bench's.

    Raises: UsageError where there is none.
    """
    file = model_file(name)
    home = str(file.parent.resolve() if _in_file(name) else Path.cwd())
    if home not in sys.path:
        sys.path.insert(0, home)
    found = _attribute(name, _MODEL)
    if not callable(found):
        raise _no(name, f"{_target(name)[1]} is a {type(found).__name__}", _MODEL)
    return cast("Callable[[Case], object]", found)


def model_file(name: str) -> Path:
    """The file that holds the function `name`; nothing of it is run.

    Raises: UsageError where there is none.
    """
    place, _ = _target(name)
    if _in_file(name):
        _read(name, _MODEL)
        return Path(place).expanduser()
    spec = _find(place)
    if spec is None or spec.origin is None:
        raise UsageError(
            f"model {name!r}: no module {place} is found here or in this Python; start from the folder that holds it, "
            f"or give FILE.py:FUNCTION"
        )
    return Path(spec.origin)


def model_source(name: str) -> str:
    """Digest of the file that a function of the user's stands in; not of what that file imports."""
    return hashlib.sha256(model_file(name).read_bytes()).hexdigest()


def _target(name: str) -> tuple[str, str]:
    """The file or module, and the name in it."""
    place, _, attribute = name.rpartition(":")
    return place, attribute


def _in_file(name: str) -> bool:
    return _target(name)[0].endswith(".py")


def _read(name: str, kind: _Kind) -> bytes:
    file = _target(name)[0]
    try:
        return Path(file).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{kind.word} {name!r}: {file}: {reason}; give a Python file that can be read") from error


def _find(module: str) -> ModuleSpec | None:
    """Where a module lies, looked up without running any package above it."""
    path: list[str] | None = [str(Path.cwd()), *sys.path]
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        if path is None or not all(parts):
            return None
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            return None
        path = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    return spec


@functools.cache
def _method(name: str) -> Method:
    found = _attribute(name, _METHOD)
    if not isinstance(found, Method):
        file, attribute = _target(name)
        raise _no(name, f"{attribute} of {file} is a {type(found).__name__}", _METHOD)
    return replace(found, name=name)


def _attribute(name: str, kind: _Kind) -> object:
    """What the name stands for. What the user's code raises while it is run is the user's to see, in one line."""
    place, attribute = _target(name)
    content = _read(name, kind) if _in_file(name) else None
    try:
        module = importlib.import_module(place) if content is None else _run(place, content, kind)
    except (Exception, SystemExit) as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UsageError(f"{kind.word} {name!r}: {place} does not run: {reason}") from error
    if not hasattr(module, attribute):
        raise UsageError(f"{kind.word} {name!r}: {place} has no {attribute}; expected the name of {kind.wanted}")
    return cast("object", getattr(module, attribute))


def _run(file: str, content: bytes, kind: _Kind) -> ModuleType:
    """The file as a module. It has a name of its own in `sys.modules`, so that its classes can be pickled and take no
    other's place, and is run once for as long as it stays as it is."""
    module_name = f"bdia_{kind.word}_{hashlib.sha256(content).hexdigest()[:16]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, Path(file).expanduser())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    return sys.modules[module_name]


def _no(name: str, what: str, kind: _Kind) -> UsageError:
    return UsageError(f"{kind.word} {name!r}: {what}; expected {kind.wanted}")
