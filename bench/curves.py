"""The curves of a training run: `curves.jsonl`, one point a line, tidy. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from bench.record import UNREADABLE

CURVES: Final = "curves.jsonl"


class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One value of one curve of an arm at one seed."""

    arm: str
    seed: int
    step: int
    """Optimiser steps taken."""
    name: str
    """What was measured."""
    value: float | None
    """None where it is not finite."""
    block: int | None = None
    gamma: float | None = None
    """The fixed γ at inference."""


def latest(points: Iterable[Point]) -> list[Point]:
    """Of points with the same key the last, in the order in which the keys first appeared."""
    found = {(one.arm, one.seed, one.step, one.name, one.block, one.gamma): one for one in points}
    return list(found.values())


def read(directory: Path) -> list[Point]:
    """The points in a run's directory; none where it has no curves, and without lines that are torn."""
    try:
        content = (directory / CURVES).read_bytes()
    except OSError:
        return []
    decoder = msgspec.json.Decoder(Point)
    found: list[Point] = []
    for line in content.splitlines():
        if line.strip():
            try:
                found.append(decoder.decode(line))
            except UNREADABLE:
                continue
    return latest(found)
