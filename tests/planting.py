"""A copy of the project with a fault planted into it, and cases measured by that copy's own child processes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bench import session, supervise
from bench.runner import run
from bench.store import Store

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
measure = ["memory", "reconstruction", "gradients"]
"""


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
        self._runs = 0

    def measure(self, depths: Sequence[int], worker: Path = supervise.WORKER) -> Path:
        """The directory of one more run, of these depths, its cases measured by `worker`."""
        self._runs += 1
        directory = self._folder / f"run-{self._runs}"
        (plan,) = self._session.plans
        plans = [msgspec.structs.replace(plan, case=msgspec.structs.replace(plan.case, depth=n)) for n in depths]
        this = replace(self._session, plans=plans, directory=directory)
        with Store(directory, this._run()) as store:
            run(this.plans, store, replace(this._settings(), worker=worker), lambda event: None)
        return directory

    def plant(self, edits: Sequence[Edit]) -> Path:
        """The worker of a copy of the project with `edits` made to it."""
        copy = self._folder / f"copy-{self._runs}"  # of which there is one a run
        for package in ("bdia", "bench"):
            shutil.copytree(ROOT / package, copy / package)
        for edit in edits:
            path = copy / edit.file
            text = path.read_text()
            assert text.count(edit.old) == 1, f"{edit.file} has {edit.old!r} {text.count(edit.old)} times: plant anew"
            path.write_text(text.replace(edit.old, edit.new))
        return copy / "bench" / "worker.py"
