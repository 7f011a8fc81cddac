"""What `run.json` tells, as names with their values, for tables of two columns."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reports import units

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Start:
    """A later start that measured something, and what of its environment was another."""

    started: str
    command: str
    differs: Facts


def environment(found: Mapping[str, Any]) -> Facts:
    """Every entry, nested ones under `outer · inner`; what is not known is a dash."""
    return tuple(_flat(found))


def command(arguments: list[str]) -> str:
    """The command line, as it can be pasted into a shell."""
    return shlex.join(["bdia-bench", *arguments])


def starts(run: Mapping[str, Any]) -> tuple[Start, ...]:
    """The later starts of a run that was gone on with."""
    return tuple(
        Start(moment(one["started"]), command(one["arguments"]), environment(one["environment"]))
        for one in run["resumed"]
    )


def moment(started: str) -> str:
    """A time of `run.json`, ISO 8601 in UTC, for people: `2026-11-25 00:36:39 UTC`."""
    date, _, time = started.partition("T")
    return f"{date} {time.removesuffix('Z')} UTC" if time.endswith("Z") else started


def _flat(found: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            if value:
                yield from _flat(value, f"{outer}{name} · ")
            else:
                yield outer + name, units.MISSING
        else:
            yield outer + name, _text(name, value)


def _text(name: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return units.yes_no(value)
    if isinstance(value, int) and name.endswith("_bytes"):
        return f"{units.size(value)} ({units.plain(value)} bytes)"
    return str(value)
