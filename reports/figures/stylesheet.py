"""A matplotlib style sheet of the user's, laid over the house style."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import matplotlib

from bench.errors import UsageError


def read(path: Path) -> dict[Any, Any]:
    """Its settings. Matplotlib only logs what it does not know: here that is an error.

    Raises: UsageError where it cannot be read, or has a setting that there is none of."""
    if not path.is_file():
        raise UsageError(f"style {str(path)!r}: no such file; give a matplotlib style sheet (.mplstyle)")
    logger, complaints = logging.getLogger("matplotlib"), _Complaints(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(complaints)
    try:
        found = dict(matplotlib.rc_params_from_file(path, use_default_template=False))
    except (OSError, ValueError) as error:
        complaints.said.append(str(error))
    finally:
        logger.removeHandler(complaints)
        logger.propagate = propagated
    if complaints.said:
        reason = " ".join(complaints.said[0].split())
        raise UsageError(f"style {str(path)!r}: {reason}; give a matplotlib style sheet (.mplstyle)")
    return found


class _Complaints(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
