"""From names to methods: the one place where a method's name is looked up. Imports no torch."""

from __future__ import annotations

import bdia.methods
from bdia.methods import Method
from bench import axes
from bench.errors import UsageError


def method(name: str) -> Method:
    """The method called `name`.

    Raises: UsageError where there is none.
    """
    if name not in bdia.methods.names():
        raise UsageError(f"unknown method {name!r}{axes.suggest(name, bdia.methods.names())}")
    return bdia.methods.get(name)
