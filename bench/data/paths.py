"""Paths of the user's data: whether they are there, and can be read. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UsageError


def existing(data: str, wanted: str) -> Path:
    """The path `data`, once something is there.

    Raises: UsageError that says what is `wanted`.
    """
    path = Path(data)
    with readable(path):
        if not data or not path.exists():
            raise UsageError(f"data {data!r} is not there: expected the path of {wanted}")
    return path


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what the system says against reading `path` into a UsageError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"data {str(path)!r} cannot be read ({reason}): give a file you may read") from error
