"""The command that measures a case again. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from bench import law
from bench.case import Case
from bench.comparison import Comparison, Measured


def command(suite: str, case: Case, *, depths: Sequence[int] = (), verify: bool = False) -> str:
    """The command that measures this one case again, into a folder of its own; of a series, at these `depths`."""
    words = ["bdia-bench", "run", suite]
    for name in case.__struct_fields__:
        value = getattr(case, name)
        if name == "depth" and value is None and depths:
            value = ",".join(map(str, depths))
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--verify"] if verify else words)


def commands(suite: str, comparisons: Iterable[Comparison], measured: Mapping[Case, Measured]) -> dict[Case, str]:
    """That of each case with a regression, of all that were `measured`; of a memory law, that of all its cases."""
    wrong = dict.fromkeys(comparison.case for comparison in comparisons if comparison.regression)
    if not wrong:
        return {}
    depths: dict[Case, list[Case]] = {case: [] for case in wrong if case not in measured}
    for case in measured if depths else ():
        if (series := law.series(case)) in depths:
            depths[series].append(case)
    found: dict[Case, str] = {}
    for case in wrong:
        of = [case] if case in measured else depths[case]
        verify = any(measured[one].verify for one in of)
        at = sorted(one.depth for one in of if one.depth is not None)
        found[case] = command(suite, case, depths=at, verify=verify)
    return found
