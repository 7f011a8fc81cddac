"""What an exception in a child says of the case."""

from __future__ import annotations

from bdia.errors import BdiaError, HeadroomError
from bench.errors import BenchError, UnsupportedError, one_line
from bench.meters import is_out_of_memory
from bench.record import Status


def diagnosis(error: BaseException) -> tuple[Status, str]:
    """The status that an exception stands for, and one line about it."""
    text = one_line(error)
    if isinstance(error, HeadroomError | UnsupportedError):
        return "unsupported", text
    if is_out_of_memory(error):
        start = max(text.find("can't allocate memory"), 0)
        return "oom", text[start:].split(" GPU ")[0] or "out of memory"
    if isinstance(error, BdiaError | BenchError):
        return "error", text
    return "error", f"{type(error).__name__}: {text}"[:400]
