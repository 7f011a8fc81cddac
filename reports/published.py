"""Where the verdict of the gate goes beside the terminal: GitHub's summary and annotations, a JUnit file, a JSON line.

What GitHub sets in the environment says whether it is there to be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bench.check import Verdicts
from bench.errors import UsageError
from reports import ci, junit, summary


def summarise(verdicts: Verdicts, environ: Mapping[str, str], note: Callable[[str], None], *, advice: str) -> None:
    """Appends to GitHub's summary, where it asks for one. A summary that cannot be written is told to `note`, and
    changes nothing else.

    Args:
        advice: what to do about improvements.
    """
    page = environ.get("GITHUB_STEP_SUMMARY")
    if page:
        try:
            summary.append(Path(page), verdicts, advice=advice)
        except OSError as error:
            note(f"no summary in GITHUB_STEP_SUMMARY: {error.filename or page}: {error.strerror or error}")


def publish(verdicts: Verdicts, environ: Mapping[str, str], *, advice: str, json: bool) -> None:
    """Annotates on GitHub, and prints the JSON line last, where it was asked for."""
    if _on_github(environ):
        for line in ci.annotate(verdicts, advice=advice):
            print(line)
    if json:
        print(ci.line(verdicts))


def publish_error(error: str, exit_code: int, environ: Mapping[str, str], *, json: bool) -> None:
    """The same for a check that came to no verdict."""
    if _on_github(environ):
        print(ci.annotation("error", ci.TITLE, error))
    if json:
        print(ci.error_line(error, exit_code))


def write_junit(verdicts: Verdicts, path: Path) -> None:
    """Writes the JUnit file.

    Raises: UsageError where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(junit.junit(verdicts, datetime.now(UTC)))
    except OSError as error:
        raise UsageError(f"--junit {str(path)!r}: {error.strerror}; name a file in a folder you can write") from error


def _on_github(environ: Mapping[str, str]) -> bool:
    return environ.get("GITHUB_ACTIONS") == "true"
