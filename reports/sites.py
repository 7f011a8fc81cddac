"""The table of what is alive at a peak: a row for each part and line of Python, the largest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.stacks import Site
from reports import units
from reports.sheets import Cell, Column, Line, Sheet, cell

SHOWN: Final = 24
"""Rows of a table; what follows is summed up in one more."""


def sites(title: str, total_bytes: int, found: Sequence[Site], shown: int = SHOWN) -> Sheet:
    """What is alive at one peak of `total_bytes`, as `bench.stacks.trace` tells it."""
    scale = units.ByteScale.of(site.bytes for site in found[:shown])
    lines = [
        Line(
            (
                Cell(site.part),
                cell(units.MISSING if site.line is None else _short(site.line)),
                cell(_ranges(site.blocks) or units.MISSING),
                Cell(scale.number(site.bytes)),
                Cell(units.percent(site.bytes / total_bytes)),
                Cell(units.integer(site.count)),
            )
        )
        for site in found[:shown]
    ]
    rest = found[shown:]
    if rest:
        nbytes, count = sum(site.bytes for site in rest), sum(site.count for site in rest)
        told = [f"{units.integer(len(rest))} more", "", "", scale.number(nbytes), units.percent(nbytes / total_bytes)]
        lines.append(Line((*(Cell(text, "muted") for text in told), Cell(units.integer(count), "muted"))))
    return Sheet(
        title=f"{title}: {units.size(total_bytes)}",
        columns=(
            Column("part", numeric=False), Column("allocated at", numeric=False), Column("blocks"),
            Column("held", scale.unit), Column("share"), Column("allocations"),
        ),
        lines=tuple(lines),
        legend=("allocated at: in a backward, the line of the forward's operator; — is before the step",),
    )  # fmt: skip


def _short(line: str) -> str:
    """Without the folders that are the same on every line: those of the working directory and of installed packages."""
    path, _, number = line.rpartition(":")
    file = Path(path)
    if "site-packages" in file.parts:
        file = Path(*file.parts[len(file.parts) - file.parts[::-1].index("site-packages") :])
    elif file.is_relative_to(Path.cwd()):
        file = file.relative_to(Path.cwd())
    elif file.is_relative_to(_PROJECT):
        file = file.relative_to(_PROJECT)
    return f"{file}:{number}"


_PROJECT: Final = Path(__file__).resolve().parent.parent


def _ranges(blocks: Sequence[int]) -> str:
    """`0-11`, `3`, `0-2, 5`."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and runs[-1][-1] == block - 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
