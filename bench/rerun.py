"""The commands that measure a case again, and that go on with a run. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import experiments, law, private, suite
from bench.case import Case
from bench.comparison import Comparison, Measured
from bench.errors import UsageError

SHORTENED: Final = 100
"""Commands that are looked into for axes to leave out: a suite's cases are made for it several times each."""
_AXES: Final = tuple(name for name in Case.__struct_fields__ if name not in ("device", "data"))


def command(
    suite: str,
    case: Case,
    *,
    depths: Sequence[int] = (),
    verify: bool = False,
    named: Collection[str] = Case.__struct_fields__,
) -> str:
    """The command that measures this one case again, into a folder of its own; of a series, at these `depths`. Of its
    axes those that are to be `named`."""
    if case.arm is not None:
        name = suite.removeprefix(experiments.OF)
        return shlex.join(["bdia-bench", "train", name, "--arms", case.arm, "--seeds", str(case.seed + 1)])
    words = ["bdia-bench", "run", suite]
    for name in case.__struct_fields__:
        value = getattr(case, name)
        if name == "depth" and value is None and depths:
            value = ",".join(map(str, depths))
        if value is not None and name in named:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--verify"] if verify else words)


def commands(name: str, comparisons: Iterable[Comparison], measured: Mapping[Case, Measured]) -> dict[Case, str]:
    """That of each case with a regression, of all that were `measured`; of a memory law, that of all its cases. The
    suite called `name` is looked at for the axes that it settles itself, which are left out."""
    wrong = dict.fromkeys(comparison.case for comparison in comparisons if comparison.regression)
    if not wrong:
        return {}
    series: dict[Case, list[Case]] = {case: [] for case in wrong if case not in measured}
    for case in measured if series else ():
        if (of := law.series(case)) in series:
            series[of].append(case)
    found: dict[Case, str] = {}
    own = _loaded(name)
    for number, case in enumerate(wrong):
        cases = [case] if case in measured else series[case]
        verify = any(measured[one].verify for one in cases)
        at = sorted(one.depth for one in cases if one.depth is not None)
        named = None if own is None or number >= SHORTENED else _named(own, cases)
        axes = Case.__struct_fields__ if named is None else named
        found[case] = command(name, case, depths=at, verify=verify, named=axes)
    return found


def going_on(arguments: Iterable[str], directory: Path) -> str:
    """The command that goes on with a run in `directory` that was begun with `arguments`."""
    words: list[str] = []
    given = iter(arguments)
    for word in given:
        if word in ("--rerun", "--out"):
            next(given, None)
        elif word != "--resume" and not word.startswith(("--rerun=", "--out=")):
            words.append(word)
    return shlex.join(["bdia-bench", *words, "--out", str(directory), "--resume"])


def _loaded(name: str) -> suite.Suite | None:
    """The suite as it is now; None where it is not there, or is none."""
    try:
        return suite.load(name, replaced=_AXES)
    except UsageError:
        return None


def _named(own: suite.Suite, cases: Sequence[Case]) -> list[str] | None:
    """Axes none of which may be left out for the suite to have these cases and no other, beside those that tell the
    cases apart; None where that cannot be told."""
    if any(":" in case.method for case in cases):  # to look at what is in a file, it would have to be run
        return None
    named = [name for name in _AXES if any(getattr(case, name) is not None for case in cases)]
    if not _makes(own, cases, named):
        return None
    for name in _AXES[::-1]:
        fewer = [other for other in named if other != name]
        telling = name == "method" or len({getattr(case, name) for case in cases}) > 1
        if not telling and name in named and _makes(own, cases, fewer):
            named = fewer
    return [*named, "device", "data"]


def _makes(own: suite.Suite, cases: Sequence[Case], named: Sequence[str]) -> bool:
    """Whether the suite, with the axes `named` as they are in `cases`, has these cases and no other."""
    values = {name: dict.fromkeys(getattr(case, name) for case in cases) for name in named}
    given = {name: tuple(value for value in found if value is not None) for name, found in values.items()}
    try:
        plans = own.plans(given, cases[0].device, cases[0].data)
    except UsageError:
        return False
    return {private.case(plan.case) for plan in plans} == set(cases)
