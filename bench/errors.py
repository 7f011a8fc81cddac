"""What the bench raises on purpose, and the exit codes of the command line."""

from __future__ import annotations

EXIT_OK = 0
EXIT_REGRESSION = 1
EXIT_USAGE = 2
EXIT_FAILED_CASE = 3
EXIT_NO_BASELINE = 4
EXIT_NOTHING_MEASURED = 5
EXIT_BY_SIGNAL = 128
"""Plus the number of the signal, as shells have it."""
EXIT_INTERRUPTED = EXIT_BY_SIGNAL + 2


def one_line(text: object) -> str:
    """A text, or an error's, with its line breaks as spaces."""
    return " ".join(str(text).split())


class BenchError(Exception):
    """One line for the user: the value, what was expected, what to do. `exit_code` is the command's."""

    exit_code = EXIT_USAGE


class UsageError(BenchError):
    """A wrong argument, or a path that is not there."""


class UnsupportedError(UsageError):
    """What cannot be with this model, or on this machine: of a case, the reason why there is nothing to measure."""


class BaselineError(BenchError):
    """No baseline, or one that cannot be compared with this run."""

    exit_code = EXIT_NO_BASELINE


class NothingMeasuredError(BenchError):
    """There is no record to report, compare or check."""

    exit_code = EXIT_NOTHING_MEASURED
