"""Where a run's directory keeps what its training goes on with. Imports no torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from bench.case import Case

CHECKPOINTS: Final = "checkpoints"
STEP: Final = "step-"
"""And the number of steps: the name of a checkpoint."""


def folder(directory: Path, case: Case) -> Path:
    """That of one arm at one seed: its checkpoints and, in the end, its final weights."""
    return directory / CHECKPOINTS / f"{case.arm}-{case.seed}"


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in such a folder by step, the last one first."""
    named = [(place.name.removeprefix(STEP), place) for place in folder.glob(f"{STEP}*")]
    return sorted(((int(step), place) for step, place in named if step.isdigit()), reverse=True)


def begun(directory: Path) -> bool:
    """Whether a run's directory has a checkpoint of what is not done."""
    return any(directory.glob(f"{CHECKPOINTS}/*/{STEP}*"))


def clear(folder: Path) -> None:
    """Removes the checkpoints of what is done. Its final weights stay."""
    for _, place in checkpoints(folder):
        shutil.rmtree(place, ignore_errors=True)
