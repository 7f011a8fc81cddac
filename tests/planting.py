"""A copy of the project with a fault planted into it, and cases measured by that copy's own child processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from bench import session, supervise
from bench.case import Measurement, Plan
from bench.runner import run
from bench.store import Store, read

ROOT = Path(__file__).resolve().parent.parent
SUITE = """\
title = "Small"
[defaults]
model = "gpt"
method = "bdia"
width = 24
heads = 3
seq = 7
batch = 3
depth = 5
[[cases]]
"""
EVERYTHING: Final[tuple[Measurement, ...]] = ("memory", "reconstruction", "gradients")
CORRECTNESS: Final[tuple[Measurement, ...]] = ("reconstruction", "gradients")


@dataclass(frozen=True)
class Edit:
    """One change to a file: `old`, which must be there once, becomes `new`."""

    file: str
    old: str
    new: str


class Bench:
    """Measures one small suite, time and again. What torch is like is asked once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.suite = folder / "small.toml"
        self.suite.write_text(SUITE)
        self._session = session.prepare(session.Request(str(self.suite), {}, ["run", str(self.suite)]))
        self._count = 0

    def measure(
        self, depths: Sequence[int], measure: Iterable[Measurement] = EVERYTHING, worker: Path = supervise.WORKER
    ) -> Path:
        """The directory of one more run, of these depths, its cases measured by `worker`."""
        plans = [
            Plan(msgspec.structs.replace(self._session.plans[0].case, depth=depth), frozenset(measure))
            for depth in depths
        ]
        this = self._next(plans)
        with Store(this.directory, this._run()) as store:
            run(plans, store, replace(this._settings(), worker=worker), lambda event: None)
        return this.directory

    def part(self, directory: Path, depth: int) -> Path:
        """A directory with the record of one depth of a run, as though nothing else had been measured."""
        this = self._next(())
        with Store(this.directory, this._run()) as store:
            for record in read(directory).records:
                if record.depth == depth:
                    store.append(record)
        return this.directory

    def _next(self, plans: Sequence[Plan]) -> session.Session:
        self._count += 1
        return replace(self._session, plans=plans, directory=self._folder / f"run-{self._count}")

    def plant(self, edits: Sequence[Edit]) -> Path:
        """The worker of a copy of the project with `edits` made to it."""
        self._count += 1
        copy = self._folder / f"copy-{self._count}"
        for package in ("bdia", "bench"):
            shutil.copytree(ROOT / package, copy / package)
        for edit in edits:
            path = copy / edit.file
            text = path.read_text()
            assert text.count(edit.old) == 1, f"{edit.file} has {edit.old!r} {text.count(edit.old)} times: plant anew"
            path.write_text(text.replace(edit.old, edit.new))
        return copy / "bench" / "worker.py"
