"""Keeps the user's name and home, and where things lie on their machine, out of what is stored. Imports no torch."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bench import checkpoints
from bench.case import Case
from bench.record import Record

AnyCase = TypeVar("AnyCase", bound=Case)

_TOP: Final = Path("/")
_PACKAGES: Final = ("site-packages", "dist-packages")
_ROOTS: Final = tuple(
    Path(place)
    for place in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        Path(__file__).resolve().parent.parent,
    )
)
"""Where Python's own modules and those of this project lie: of them the way from there says all there is to know."""
# The slashes of other URLs begin no path, nor do those of `tok/s`, `</div>`, `1 / 2`; that of a compiler's `-I/x` does.
_BEGINS: Final = r"(?:file:/+|(?:(?<![\w.~/<\-])|(?<=\s-[A-Z]))(?!(?<=:)//)/)"
_QUOTED: Final = re.compile(rf"(['\"`])({_BEGINS}(?:(?!\1|[:;,]\s).)+)\1")
_BARE: Final = re.compile(rf"{_BEGINS}[^\s'\"`:;,()<>\[\]{{}}|=]+")


def path(text: str) -> str:
    """A path as it may be stored: relative to the working directory if it lies in it, else its last name."""
    here, home = Path.cwd(), _home()
    try:
        given = Path(text).expanduser()
    except RuntimeError:  # `~name` of a user that does not exist
        given = Path(text)
    whole = here / given
    # Whatever lies in `/` is no more private for being told without its first slash, nor a home that lies below here.
    telling = (here == _TOP and given.is_absolute()) or (here in home.parents and whole.is_relative_to(home))
    if ".." in whole.parts or telling or not whole.is_relative_to(here):
        return "~" if whole == home else whole.name
    return str(whole.relative_to(here))


def arguments(words: Sequence[str]) -> list[str]:
    """A command line as it may be stored: the paths in it, also those after `=`, as `path` has them."""
    return [_word(word) for word in words]


def message(text: str) -> str:
    """A message as it may be stored, without an absolute path: one in the working directory is relative to it, a module
    of Python, of an installed package or of this project is told from their folder on, the home directory is `~`, and
    of any other path only the last name is left. In quotes a path may hold spaces."""
    here, home = str(Path.cwd()), str(_home())
    if here != str(_TOP):
        text = text.replace(f"{here}/", "")
    text = _QUOTED.sub(lambda found: f"{found[1]}{_told(found[2])}{found[1]}", text)
    text = _BARE.sub(lambda found: _told(found[0]), text)
    return text if home == str(_TOP) else text.replace(home, "~")


def name(text: str) -> str:
    """The name of a method or a model as it may be stored: a path in it, `FILE.py:NAME` or `hf:PATH`, as `path` has
    it."""
    file, colon, attribute = text.rpartition(":")
    if checkpoints.is_one(text):
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


def _told(absolute: str) -> str:
    """An absolute path, or the `file:` URL of one, as `message` has it."""
    text = absolute.rstrip(".")
    whole, home = Path("/" + text.removeprefix("file:").lstrip("/")), _home()
    for number in reversed(range(len(whole.parts) - 1)):
        if whole.parts[number] in _PACKAGES:
            return str(Path(*whole.parts[number + 1 :])) + absolute[len(text) :]
    said = path(str(whole))
    inside = next((root for root in _ROOTS if said == whole.name and root in whole.parents), None)
    if inside is not None:
        said = str(whole.relative_to(inside))
    elif home != _TOP and home in whole.parents and said == whole.name:
        said = f"~/{whole.relative_to(home)}"
    return (said or text) + absolute[len(text) :]


def _home() -> Path:
    """The home directory; `/` of a user who has none."""
    try:
        return Path.home()
    except RuntimeError:
        return _TOP
