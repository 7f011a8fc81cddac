"""A limit to the memory of measuring processes, so that what does not fit fails by itself and takes no machine along.

Imports no torch.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from typing import Final

from bdia import sizes
from bench.errors import UsageError

OPTION: Final = "--memory-limit"
MEMORY: Final = "--memory"
"""Of what must fit into so much; that is measured, and the process has more."""


@dataclass(frozen=True)
class Limit:
    """So many bytes, and how they were asked for."""

    text: str
    size: int


def parse(text: str, option: str = OPTION) -> Limit:
    """The limit that a text such as `4GiB` means, given by `option`.

    Raises: UsageError for any other text.
    """
    size = sizes.parse(text)
    if size is None:
        raise UsageError(f"{option} {text!r}: expected a size above 0 with its unit, as in 4GiB or 512MiB")
    return Limit(text, size)


def parse_memory(text: str) -> Limit:
    """The same of `MEMORY`."""
    return parse(text, MEMORY)


def check(device: str) -> None:
    """Raises: UsageError where a limit would not hold what it says."""
    if device != "cpu":
        raise UsageError(
            f"{OPTION}: it limits a process's memory on the CPU, and this run is on {device}, whose driver takes more "
            "of that than it uses; leave it out, or take --device cpu"
        )
    if sys.platform != "linux":
        raise UsageError(f"{OPTION}: only Linux counts what a process takes so that a limit holds it; leave it out")


def apply(size: int) -> None:
    """Holds this process to so many bytes of private memory, what it has by now included; allocations beyond fail.

    RLIMIT_DATA, and not RLIMIT_AS: libraries are mapped, and threads reserve, far more than they ever use.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (size if hard < 0 else min(size, hard), hard))
