"""What `report` can be asked for, and whether it fits together. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.errors import UsageError

FORMATS: Final = ("table", "markdown", "csv", "json", "latex", "html")
PICTURES: Final = ("png", "svg", "pdf")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A report of one run: its tables or a page or, with `figures` or `figure`, its figures as files.

    Raises: UsageError where one thing asked for leaves nothing for another to say.
    """

    directory: Path
    format: str | None = None
    """Of `FORMATS` or, with `figure`, of `PICTURES`."""
    figures: Path | None = None
    """Where figures go to: all of them, unless `figure` names one."""
    figure: str | None = None
    size: str | None = None
    """Of a figure, as WIDTHxHEIGHT in inches."""
    style: Path | None = None
    caption: bool = False
    rows: str | None = None
    """Of a table, at most, as text."""

    def __post_init__(self) -> None:
        known, what = (FORMATS, "a report") if self.figure is None else (PICTURES, f"figure {self.figure}")
        if self.format is not None and self.format not in known:
            raise UsageError(f"--format {self.format!r}: {what} comes as one of {', '.join(known)}")
        if not self.draws and (self.size or self.style):
            raise UsageError("--size and --style are of figures: add --figure NAME, or --figures DIR for all of them")
        if self.caption and self.format in ("csv", "json"):
            raise UsageError(f"--caption: {self.format} holds data alone; leave it out, or take another --format")
        if self.caption and self.format == "html" and self.figure is None:
            raise UsageError("--caption: a page of html tells all that a caption does; leave it out")
        if self.rows is not None and (self.figure is not None or self.format not in (None, "table")):
            raise UsageError("--rows is of tables in a terminal: leave it out, or take --format table")

    @property
    def draws(self) -> bool:
        """Whether figures are asked for."""
        return self.figure is not None or self.figures is not None
