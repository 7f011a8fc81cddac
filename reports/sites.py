"""The table of what is alive at a peak: a row for each part and line of Python, the largest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.case import Case
from bench.comparison import Measured
from bench.explain import Explained
from bench.stacks import Site, Stacks
from reports import units
from reports.sheets import Cell, Column, Line, Sheet, cell

SHOWN: Final = 24
"""Rows of a table; what follows is summed up in one more."""
_PROJECT: Final = Path(__file__).resolve().parent.parent


def sheet(case: Case, told: Stacks, metric: Explained) -> Sheet:
    """What is alive at one of the peaks of `case`."""
    found, total_bytes = (
        (told.activation, told.activation_bytes) if metric == "activation_bytes" else (told.peak, told.peak_bytes)
    )
    return _sheet(f"{case.label()}: {metric} {units.integer(total_bytes)}", total_bytes, found)


def lines(measured: Measured, told: Stacks, metric: Explained) -> Iterator[str]:
    """What is to be said where the case, run again, needs other bytes than it was measured with."""
    now, then = getattr(told, metric), getattr(measured, metric)
    if told.uncompiled:
        yield (
            f"code compiled by torch.compile has no lines, so it was run as it is written: it takes "
            f"{units.integer(now)} bytes then, and {units.integer(then)} in HEAD"
        )
    elif now != then:
        yield (
            f"run again with this code, it takes {units.integer(now)} bytes and not {units.integer(then)} as in HEAD: "
            f"the lines are of this code"
        )


def _sheet(title: str, total_bytes: int, found: Sequence[Site], shown: int = SHOWN) -> Sheet:
    lines = [
        Line(
            (
                Cell(site.part),
                cell(units.MISSING if site.line is None else _short(site.line)),
                cell(_ranges(site.blocks) or units.MISSING),
                Cell(units.integer(site.bytes)),
                Cell(units.percent(site.bytes / total_bytes)),
                Cell(units.integer(site.count)),
            )
        )
        for site in found[:shown]
    ]
    rest = found[shown:]
    if rest:
        nbytes, count = sum(site.bytes for site in rest), sum(site.count for site in rest)
        told = [f"{units.integer(len(rest))} more", "", "", units.integer(nbytes), units.percent(nbytes / total_bytes)]
        lines.append(Line((*(Cell(text, "muted") for text in told), Cell(units.integer(count), "muted"))))
    return Sheet(
        title=title,
        columns=(
            Column("part", numeric=False), Column("allocated at", numeric=False), Column("blocks"),
            Column("bytes"), Column("share"), Column("allocations"),
        ),
        lines=tuple(lines),
        legend=tuple(_legend(found[:shown])),
    )  # fmt: skip


def _legend(shown: Sequence[Site]) -> Iterator[str]:
    yield "allocated at: in a backward, the line of the forward's operator"
    if any(site.line is None for site in shown):
        made = "there before the step, or made by no function of torch's, as RNG states are"
        yield f"allocated at {units.MISSING}: {made}"
    if any(not site.blocks for site in shown):
        yield f"blocks {units.MISSING}: it lies in none"


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


def _ranges(blocks: Sequence[int]) -> str:
    """`0-11`, `3`, `0-2, 5`."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and runs[-1][-1] == block - 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
