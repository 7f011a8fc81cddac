"""Keeps the user's name and home out of what is stored. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bench import checkpoints
from bench.case import Case
from bench.record import Record

AnyCase = TypeVar("AnyCase", bound=Case)


def path(text: str) -> str:
    """A path as it may be stored: relative to the working directory if it lies in it, else its last name."""
    here = Path.cwd()
    try:
        whole = here / Path(text).expanduser()
    except RuntimeError:  # `~name` of a user that does not exist
        whole = here / text
    if ".." not in whole.parts and whole.is_relative_to(here):
        return str(whole.relative_to(here))
    return whole.name


def arguments(words: Sequence[str]) -> list[str]:
    """A command line as it may be stored: the paths in it, also those after `=`, as `path` has them."""
    return [_word(word) for word in words]


def message(text: str) -> str:
    """A message as it may be stored: the home directory as `~`."""
    home = str(Path.home())
    return text.replace(home, "~") if home != "/" else text


def name(text: str) -> str:
    """The name of a method or a model as it may be stored: a path in it, `FILE.py:NAME` or `hf:PATH`, as `path` has
    it."""
    file, colon, attribute = text.rpartition(":")
    if text.startswith(checkpoints.PREFIX) and checkpoints.is_folder(text):
        shown = path(text.removeprefix(checkpoints.PREFIX))
        return checkpoints.PREFIX + (shown if checkpoints.is_folder(shown) else f"./{shown}")
    return f"{path(file)}:{attribute}" if colon and file.endswith(".py") else text


def case(whole: AnyCase) -> AnyCase:
    """A case, or a record, with the paths in it as they may be stored: of its data, and of a method or model of the
    user's."""
    return msgspec.structs.replace(
        whole,
        data=None if whole.data is None else path(whole.data),
        method=name(whole.method),
        model=name(whole.model),
    )


def record(whole: Record) -> Record:
    """A record as it may be stored."""
    said = whole.message
    if said is not None:
        said = message(said if whole.data is None else said.replace(whole.data, path(whole.data)))
    return msgspec.structs.replace(case(whole), message=said)


def _word(word: str) -> str:
    option, equals, value = word.partition("=")
    if word.startswith("-"):
        return f"{option}={_word(value)}" if equals else word
    if "/" not in word and not word.startswith("~"):
        return word
    # Several models, or methods, are one word on the command line.
    parts = word.split(",")
    return ",".join(name(part) if part.startswith("hf:") or ".py:" in part else path(part) for part in parts)
