"""Reading the TOML files in which questions are put, suites and experiments: what is wrong with one is a line that
says where. Imports no torch."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench import axes
from bench.errors import UsageError

Converted = TypeVar("Converted")


def names(folder: Traversable) -> list[str]:
    """Those of the files in a folder, in order."""
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def content(name_or_path: str, folder: Traversable, kind: str, known: Sequence[str]) -> bytes:
    """What is in the built-in file of that name, or in a file whose name ends in `.toml`. `kind` says what it is to be.

    Raises: UsageError for a name that is not among those `known`, and a file that is not there or cannot be read.
    """
    if not name_or_path.endswith(".toml"):
        if name_or_path not in known:
            raise UsageError(f"unknown {kind} {name_or_path!r}{axes.suggest(name_or_path, known)}, or a .toml file")
        return (folder / f"{name_or_path}.toml").read_bytes()
    try:
        return Path(name_or_path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{kind} file {name_or_path!r}: {error.strerror or error}; give a .toml file that can be read"
        ) from error


def named(name_or_path: str, kind: str) -> tuple[str, str]:
    """Its name, and what errors call it."""
    if name_or_path.endswith(".toml"):
        return Path(name_or_path).stem, str(Path(name_or_path))
    return name_or_path, f"{kind} {name_or_path}"


def table(content: bytes, file: str) -> dict[str, Any]:
    """Its top level.

    Raises: UsageError for TOML that is none.
    """
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not valid TOML: {error}") from error


def check_keys(table: Mapping[str, object], known: Sequence[str], where: str) -> None:
    """Raises: UsageError for the first key that is not among those `known`."""
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{axes.suggest(key, known)}")


def convert(values: Mapping[str, Any], kind: type[Converted], where: str, lacking: str = "there is no") -> Converted:
    """`values` as a `kind`, the errors begun by `where`. `lacking` is what to say of a field that has to be there.

    Raises: UsageError for a value that is none of its field's.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_readable(error, values, lacking)}") from error


def _readable(error: msgspec.ValidationError, table: Mapping[str, object], lacking: str) -> str:
    """msgspec's message in TOML's words: `Expected … - at `$.rounds`` becomes `rounds 0: expected …`."""
    message, _, path = str(error).partition(" - at `$.")
    message = message.replace("Object missing required field", lacking)
    key = re.split(r"\W", path)[0]
    return f"{key} {axes.shown(table[key])}: {message[:1].lower()}{message[1:]}" if key else message
