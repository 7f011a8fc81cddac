"""The curves of a training run: `curves.jsonl`, one point a line, appended as the run goes on. Imports no torch.

A run that was killed repeats the steps since its last checkpoint, and their points: of lines with the same key the last
one counts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from bench import files
from bench.errors import UsageError
from bench.record import UNREADABLE

CURVES: Final = "curves.jsonl"


class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One number at one step. `name` says what it is: `train_loss`, `train_accuracy`, `validation_loss`,
    `validation_accuracy`, `learning_rate`, `step_seconds`, or what a watch calls it."""

    arm: str
    seed: int
    step: int
    """Optimiser steps taken."""
    name: str
    value: float | None
    """None where it is not finite."""
    block: int | None = None
    gamma: float | None = None
    """The fixed γ of an inference."""

    @property
    def key(self) -> tuple[object, ...]:
        """What tells points apart."""
        return self.arm, self.seed, self.step, self.name, self.block, self.gamma


class Curves:
    """The curves of a run's directory, open for appending. A context manager."""

    def __init__(self, directory: Path) -> None:
        """Raises: OSError where they cannot be written."""
        self._file = os.open(directory / CURVES, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            files.end_line(self._file, _is_point)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, points: Iterable[Point]) -> None:
        """Adds points, on the disk when this returns.

        Raises: OSError where there is no room; the file is then as it was.
        """
        lines = b"".join(msgspec.json.encode(point) + b"\n" for point in points)
        if lines:
            files.append(self._file, lines)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def latest(points: Iterable[Point]) -> list[Point]:
    """Of points with the same key the last, in the order in which the keys first appeared."""
    return list({point.key: point for point in points}.values())


def read(directory: Path) -> list[Point]:
    """The curves in a run's directory, without lines that are torn; none where it has no file of them.

    Raises: UsageError where the file cannot be read.
    """
    file = directory / CURVES
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; give the directory of a run (its --out)") from error
    found = []
    for line in lines:
        # What was torn when the run was cut off is told again by the one that goes on.
        with contextlib.suppress(*UNREADABLE):
            found.append(_POINT.decode(line))
    return latest(found)


def _is_point(line: bytes) -> bool:
    try:
        _POINT.decode(line)
    except UNREADABLE:
        return False
    return True


_POINT: Final = msgspec.json.Decoder(Point)
