"""Where the page goes: to stdout like every other report or, since no one reads HTML in a terminal, into a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from reports.html.page import page

FILE: Final = "report.html"


def show(frame: pd.DataFrame, run: Mapping[str, Any], directory: Path) -> Path | None:
    """Writes the page to stdout or, where that is a terminal, to `report.html` in the run's `directory`. Returns the
    path of that file, None where there is none.

    Raises: OSError where it cannot be written."""
    content = page(frame, run, directory.resolve().name).encode()
    if not sys.stdout.isatty():
        # As bytes: the page says that it is UTF-8, whatever stdout is.
        sys.stdout.buffer.write(content)
        return None
    path = directory / FILE
    path.write_bytes(content)
    return path
