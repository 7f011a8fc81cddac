"""From names to methods: the one place where a method's name is looked up. Imports no torch, unless a method's own
file does."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import bdia.methods
from bdia.methods import Method
from bench import axes
from bench.errors import UsageError


def method(name: str) -> Method:
    """The method called `name`: one of the table, or `FILE.py:NAME`, a `bdia.methods.Method` in a file.

    Raises: UsageError where there is none.
    """
    if _in_file(name):
        return _from_file(name)
    if name not in bdia.methods.names():
        raise UsageError(f"unknown method {name!r}{axes.suggest(name, bdia.methods.names())}, or FILE.py:NAME")
    return bdia.methods.get(name)


def source(name: str) -> str | None:
    """Digest of the file that the method comes from; None for one of the table."""
    return hashlib.sha256(_read(name)).hexdigest() if _in_file(name) else None


def _in_file(name: str) -> bool:
    return name.rpartition(":")[0].endswith(".py")


def _read(name: str) -> bytes:
    file = name.rpartition(":")[0]
    try:
        return Path(file).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"method {name!r}: {file}: {reason}; give a Python file that can be read") from error


@functools.cache
def _from_file(name: str) -> Method:
    """The method in the file. What the file raises while it is run is the user's to see, in one line."""
    digest = hashlib.sha256(_read(name)).hexdigest()
    file, _, attribute = name.rpartition(":")
    # Under a name of its own, in `sys.modules`, so that its classes can be pickled and take no other's place.
    module_name = f"bdia_method_{digest[:16]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, Path(file).expanduser())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(f"method {name!r}: {file} does not run: {reason}") from error
    if not hasattr(sys.modules[module_name], attribute):
        raise UsageError(f"method {name!r}: {file} has no {attribute}; expected the name of a bdia.methods.Method")
    found = getattr(sys.modules[module_name], attribute)
    if not isinstance(found, Method):
        what = type(found).__name__
        raise UsageError(f"method {name!r}: {attribute} of {file} is a {what}; expected a bdia.methods.Method")
    return replace(found, name=name)
