"""Suites: one question a TOML file, expanded into plans. Imports no torch.

    title = "…"        question = "…"        expect = "the shape expected of the answer"
    rounds = 7         warmup = 2            # timed steps, and steps before them
    [defaults]         # axes of every case; a value, a list, or a range such as "6:48:x2"
    [cpu]  [gpu]       # laid over the defaults on that kind of device
    [[cases]]          # laid over both: one block of cases, the product of its axes
    measure = ["memory", "throughput", "reconstruction", "gradients"]
    [cases.zip]        # axes that move together; defaults, cpu and gpu may have a zip as well
    [tolerance]        # how far what is compared may lie apart: see `bench.tolerance`

The command line's axes are laid over everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import msgspec

from bench import axes, factors, models, points, refusals, resolve, toml
from bench import tolerance as tolerances
from bench.axes import AxisValue
from bench.case import MEASUREMENTS, Case, Measurement, Plan
from bench.errors import UsageError
from bench.factors import Grid
from bench.models import SIZES, ModelSpec

FIRST: Final = "quick"
"""The suite to run where none is named; first in lists."""
FRONTIER: Final = "frontier"
"""And the one to take to a limit."""
_NAMED: Final[Mapping[str, Callable[[str], object]]] = {"method": resolve.method, "model": models.get}
"""What looks up the values of axes that are names."""


class Block(msgspec.Struct, frozen=True):
    """One `[[cases]]` block."""

    grid: Grid
    measure: frozenset[Measurement]


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and the cases that answer it."""

    name: str
    file: str
    """What errors call it: the file as it was given, or `suite NAME` for a built-in one."""
    title: str
    question: str
    expect: str
    rounds: int
    """Timed steps of each method of a group."""
    warmup: int
    """Steps of each method before the timed ones."""
    cpu: Grid
    """The defaults with the CPU's axes laid over them."""
    gpu: Grid
    blocks: tuple[Block, ...]
    tolerance: Mapping[str, str]
    """How far each metric may lie from its baseline, as text; of the others, `bench.tolerance.DEFAULTS`."""

    def models(self, overrides: Mapping[str, Sequence[AxisValue]]) -> tuple[str, ...]:
        """The models of this suite from outside the table, by name; `overrides` as in `plans`."""
        named = overrides.get("model") or self.own("model")
        return tuple(dict.fromkeys(str(name) for name in named if models.get(str(name)).foreign))

    def own(self, axis: str) -> tuple[AxisValue, ...]:
        """All values that the file itself gives an axis, anywhere in it."""
        grids = (self.cpu, self.gpu, *(block.grid for block in self.blocks))
        return tuple(dict.fromkeys(value for grid in grids for value in factors.values(axis, grid)))

    def plans(
        self,
        overrides: Mapping[str, Sequence[AxisValue]],
        device: str,
        data: str | None = None,
        introduced: Mapping[str, ModelSpec] | None = None,
        *,
        verify: bool = False,
    ) -> list[Plan]:
        """The cases of this suite on `device` (`cpu` or `cuda`), each once, with what to measure of it.

        `overrides` replaces axes everywhere (values as `bench.axes.parse` returns them); `data` is the path
        of the user's data; `introduced` tells of models from outside the table what only their libraries know;
        `verify` has what is rebuilt exactly checked as well. Equal cases are merged, their measurements united.

        Raises: UsageError, before anything runs, where a case cannot be, or an axis is overridden that no case has.
        """
        where = self.file
        above = tuple(factors.single(name, values) for name, values in overrides.items() if name != "device")
        found: dict[Case, Plan] = {}
        for block in self.blocks:
            # A block that picks one row of a zip must not keep the command line from picking another.
            own = tuple(factor for factor in block.grid if not set(factor.names) <= overrides.keys())
            grid = factors.overlay(self.cpu if device == "cpu" else self.gpu, own, where)
            for point in factors.points(factors.overlay(grid, above, where)):
                plan = points.plan(
                    point, block.measure, device=device, path=data, where=where, introduced=introduced or {},
                    verify=verify,
                )  # fmt: skip
                if plan.measure or plan.unsupported:
                    before = found.get(plan.case, plan)
                    found[plan.case] = msgspec.structs.replace(plan, measure=before.measure | plan.measure)
        if not found:
            raise UsageError(f"{where}: these methods have nothing that it measures; choose others with --method")
        plans = list(found.values())
        refusals.refuse_impossible(plans, where)
        refusals.refuse_idle(plans, overrides, verify)
        for name in SIZES:
            if name in overrides and all(getattr(plan.case, name) is None for plan in plans):
                given = f"{axes.get(name).option} {','.join(map(str, overrides[name]))}"
                used = ", ".join(dict.fromkeys(plan.case.model for plan in plans))
                having = " or ".join(spec.name for spec in models.MODELS if name in spec.axes)
                raise UsageError(f"{given}: {used} has no {name}; leave it out, or take --model {having}")
        return plans


def names() -> tuple[str, ...]:
    """The built-in suites, `quick` first."""
    return tuple(sorted(toml.names(_folder()), key=lambda name: name != FIRST))


def load(name_or_path: str, replaced: Collection[str] = ()) -> Suite:
    """The built-in suite of that name, or the suite in a file whose name ends in `.toml`.

    The methods and models that the file names need not be there where the command line has `replaced` that axis.

    Raises: UsageError for an unknown name, a file that is not there or cannot be read, TOML that is none, and
    keys and values that are not a suite's.
    """
    name, file = toml.named(name_or_path, "suite")
    return read(_content(name_or_path), name, file, replaced)


def tolerance(name_or_path: str) -> dict[str, str] | None:
    """The tolerances of a suite as its file has them now, without a look at its cases; None where the file, or a
    built-in suite of that name, is no longer there.

    Raises: UsageError for a file that cannot be read, and tolerances that are none.
    """
    own = name_or_path.endswith(".toml")
    if not (Path(name_or_path).exists() if own else name_or_path in names()):
        return None
    _, where = toml.named(name_or_path, "suite")
    return _tolerance(toml.table(_content(name_or_path), where), where)


def read(content: bytes, name: str, file: str, replaced: Collection[str] = ()) -> Suite:
    """The suite in `content`; `file` names it in errors, and `replaced` is as in `load`.

    Raises: UsageError.
    """
    table = toml.table(content, file)
    toml.check_keys(table, _File.__struct_fields__, file)
    parsed = toml.convert(table, _File, file, 'expected a title = "…" and [[cases]], there is no')
    if not parsed.cases:
        raise UsageError(f"{file}: no [[cases]]: expected at least one block, with the axes of its cases")
    defaults = _grid(parsed.defaults, f"{file}: [defaults]", replaced)
    return Suite(
        name=name, file=file, title=parsed.title, question=parsed.question, expect=parsed.expect,
        rounds=parsed.rounds, warmup=parsed.warmup,
        cpu=factors.overlay(defaults, _grid(parsed.cpu, f"{file}: [cpu]", replaced), f"{file}: [cpu]"),
        gpu=factors.overlay(defaults, _grid(parsed.gpu, f"{file}: [gpu]", replaced), f"{file}: [gpu]"),
        blocks=tuple(_block(block, f"{file}: [[cases]] {at}", replaced) for at, block in enumerate(parsed.cases, 1)),
        tolerance=_tolerance(table, file),
    )  # fmt: skip


class _File(msgspec.Struct, frozen=True):
    """A suite's file as it is written."""

    title: str
    cases: list[dict[str, Any]]
    question: str = ""
    expect: str = ""
    rounds: Annotated[int, msgspec.Meta(ge=1)] = 7
    warmup: Annotated[int, msgspec.Meta(ge=1)] = 2
    defaults: dict[str, Any] = {}
    cpu: dict[str, Any] = {}
    gpu: dict[str, Any] = {}
    tolerance: dict[str, Any] = {}


def _tolerance(table: Mapping[str, Any], file: str) -> dict[str, str]:
    given = table.get("tolerance", {})
    if not isinstance(given, dict):
        raise UsageError(f"{file}: tolerance {axes.shown(given)}: expected a table [tolerance] of metrics")
    return tolerances.texts(given, f"{file}: [tolerance]")


def _block(table: dict[str, Any], where: str, replaced: Collection[str]) -> Block:
    measure = table.get("measure", list(MEASUREMENTS))
    known = ", ".join(get_args(Measurement))
    if not isinstance(measure, list) or not measure:
        raise UsageError(f"{where}: measure {measure!r}: expected a list of some of {known}")
    for word in measure:
        if word not in MEASUREMENTS:
            raise UsageError(f"{where}: measure: unknown {word!r}{axes.suggest(str(word), MEASUREMENTS)}")
    return Block(_grid(table, where, replaced, "measure"), frozenset(measure))


def _grid(table: dict[str, Any], where: str, replaced: Collection[str], *others: str) -> Grid:
    """The factors that a table of axes stands for; `others` are keys that are no axes."""
    own = tuple(name for name in axes.NAMES if name != "device")
    toml.check_keys(table, (*own, "zip", *others), where)
    together = table.get("zip", {})
    if not isinstance(together, dict):
        raise UsageError(f"{where}: zip {together!r}: expected a table of axes that move together")
    toml.check_keys(together, own, f"{where}: zip")
    for name in together:
        if name in table:
            raise UsageError(f"{where}: {name} is given alone and in zip; keep one of them")
    alone = [factors.single(name, _values(name, table[name], where, replaced)) for name in table if name in own]
    if not together:
        return tuple(alone)
    columns = {name: _values(name, value, where, replaced) for name, value in together.items()}
    return (*alone, factors.zipped(columns, f"{where}: zip"))


def _values(name: str, value: object, where: str, replaced: Collection[str]) -> tuple[AxisValue, ...]:
    """The values of one axis: a scalar, a list, or a range as text. Names are looked up, but of `replaced` axes."""
    if isinstance(value, str) and ":" in value and axes.get(name).numeric:
        return axes.parse(name, value, f"{where}: {name}")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UsageError(f"{where}: {name}: the list is empty; expected {axes.get(name).expected()}")
    checked = tuple(axes.check(name, item, f"{where}: {name}") for item in values)
    if name in _NAMED and name not in replaced:
        try:
            for item in checked:
                _NAMED[name](str(item))
        except UsageError as error:
            raise UsageError(f"{where}: {name}: {error}") from error
    return checked


def _content(name_or_path: str) -> bytes:
    return toml.content(name_or_path, _folder(), "suite", names())


def _folder() -> Traversable:
    return resources.files("suites")
