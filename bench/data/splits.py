"""Which part of the data trains and which is held out. Imports no torch.

| data | trains | held out |
| --- | --- | --- |
| CIFAR-10, CIFAR-100 | the training files | the test file |
| scikit-learn's digits | the first four fifths | the last fifth, by other writers than most of the first |
| nanoGPT's train.bin, or its folder | train.bin | val.bin beside it |
| a text file, another .bin, the built-in text | the first nine tenths | the last tenth |

Nothing of it follows from a seed: every method and every seed is held to the same samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from bench.data import cifar, files, nanogpt
from bench.data.paths import readable
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.models import Input

Split = Literal["all", "train", "validation"]

TENTHS_THAT_TRAIN: Final = 9
DIGITS_HELD_OUT: Final = 5
"""One image of scikit-learn's digits in so many. They are kept in the order they were written in, writer by writer,
and each writer's go through all ten, so that the last ones are of all classes, and of handwritings of their own."""
DIGITS_IN_ALL: Final = 1797
DIGITS: Final = "digits"
NANOGPT: Final = "nanoGPT tokens"
TEXT: Final = "text"


@dataclass(frozen=True)
class Part:
    """What of a file of tokens a split has: those from `start` on, `stop` excluded."""

    name: str
    """For messages."""
    path: Path | None
    """None of the built-in text."""
    start: int
    stop: int


def tokens(data: str | None, split: Split = "all") -> Part:
    """Where the tokens of a split are, of a text file, nanoGPT's tokens, or the built-in text (`data` None).

    Raises: UsageError where the data will not do, or there is a train.bin without its val.bin.
    """
    name = files.BUILT_IN_NAME if data is None else data
    path = None if data is None else files.text(data)
    count = files.built_in_bytes() if path is None else files.text_tokens(path)
    beside = None if path is None or split == "all" else _val(path)
    if beside is not None and split == "validation":
        return Part(str(beside), beside, 0, files.text_tokens(beside))
    if beside is not None or split == "all":
        return Part(name, path, 0, count)
    cut = count * TENTHS_THAT_TRAIN // 10
    if split == "train":
        return Part(f"{name}, less its last tenth", path, 0, cut)
    return Part(f"{name}, its last tenth", path, cut, count)


def digits(count: int, split: Split) -> range:
    """Which of `count` digits a split has."""
    cut = count - count // DIGITS_HELD_OUT
    return {"all": range(count), "train": range(cut), "validation": range(cut, count)}[split]


def name_of(kind: Input, data: str | None) -> str:
    """What the data is called: CIFAR-10, CIFAR-100, digits, text, nanoGPT tokens, built-in text.

    Raises: UsageError where it will not do.
    """
    if kind == "images":
        return DIGITS if data is None else cifar.find(data)[0].name
    if data is None:
        return files.BUILT_IN_NAME
    return NANOGPT if nanogpt.is_tokens(files.text(data)) else TEXT


def check(kind: Input | None, data: str | None, seq: int | None = None, vocab: int | None = None) -> None:
    """Refuses `data` that a model cannot be both trained on and held to, as `files.check` does for what is only
    measured: both parts must be there, whole, with a sample of `seq` tokens each and no token outside `vocab`.

    For a parent to call before it starts any child.
    """
    files.check(kind, data, seq, vocab)
    if kind is None:
        raise UsageError("this model reads its data in its own way, which holds nothing out: train another")
    if kind == "images":
        if data is not None:
            cifar.find(data, "train")
            cifar.find(data, "validation")
        return
    for part in (tokens(data, "train"), tokens(data, "validation")):
        if seq is not None:
            files.require_length(part.name, part.stop - part.start, seq)
        if vocab is not None and part.path is not None and nanogpt.is_tokens(part.path):
            files.require_vocab(part.name, nanogpt.largest_token(part.path), vocab)


def known() -> tuple[str, ...]:
    """What data may be called."""
    return tuple(_layouts())


def below(wanted: str, data: str | None) -> str | None:
    """`data`, or the folder in it that holds what is `wanted`: several sets may lie beside each other, as their
    archives leave them.

    Raises: UsageError where there are other sets in it, and not this one.
    """
    if data is None or not Path(data).is_dir():
        return data
    folder = Path(data)
    with readable(folder):
        held = {_held(place): place for place in sorted(folder.iterdir(), reverse=True) if place.is_dir()}
        if _held(folder) is not None or not held.keys() - {None}:
            return data
    if wanted not in held:
        others = ", ".join(name for name in held if name is not None)
        raise UsageError(f"data {data!r} holds {others} and no {wanted}: expected {_layouts()[wanted]}")
    return str(held[wanted])


def _held(folder: Path) -> str | None:
    """What a folder holds, by name."""
    if nanogpt.is_folder(folder):
        return NANOGPT
    layout = cifar.layout_of(folder)
    return None if layout is None else layout.name


def image_count(data: str | None, split: Split) -> int:
    """How many images a split has, of scikit-learn's digits or a folder of CIFAR.

    Raises: UsageError where the folder will not do.
    """
    if data is None:
        return len(digits(DIGITS_IN_ALL, split))
    layout, paths = cifar.find(data, split)
    return sum(path.stat().st_size for path in paths) // layout.record_bytes


def require(wanted: str, kind: Input, data: str | None) -> None:
    """Refuses data that is not what an experiment is about, such as `wanted` = "CIFAR-10": where it is not given, with
    the layout that is expected and where to get it.

    Raises: UsageError; ValueError where nothing is called so.
    """
    layouts = _layouts()
    if wanted not in layouts:
        raise ValueError(f"data called {wanted!r}: expected one of {', '.join(layouts)}")
    found = name_of(kind, data)
    if found == wanted:
        return
    if wanted in (DIGITS, files.BUILT_IN_NAME):
        raise UsageError(f"data {data!r} is {found}: this is about the {wanted}; leave --data out")
    given = "no data is given" if data is None else f"data {data!r} is {found}"
    raise UsageError(f"{given}: this is about {wanted}; give with --data {layouts[wanted]}")


def _layouts() -> dict[str, str]:
    """What data is called, and what to give for it."""
    return {
        **{layout.name: f"the folder with {layout.layout}" for layout in cifar.CIFARS},
        NANOGPT: nanogpt.LAYOUT,
        TEXT: "a text file",
        DIGITS: "none",
        files.BUILT_IN_NAME: "none",
    }


def digest(data: str | None) -> str:
    """`files.digest`, of what is held out as well where that lies in a file beside the one that is given."""
    own = files.digest(data)
    path = None if data is None else Path(data)
    beside = path.with_name(nanogpt.VAL) if path is not None and _is_train(path) else None
    if beside is None or not beside.is_file():
        return own
    return hashlib.sha256(f"{own} {files.digest(str(beside))}".encode()).hexdigest()


def _val(path: Path) -> Path | None:
    """The tokens that are held out from those in `path`, where it is nanoGPT's train.bin."""
    if not _is_train(path):
        return None
    beside = path.with_name(nanogpt.VAL)
    if not beside.is_file():
        raise UsageError(f"data {str(path)!r} has no {nanogpt.VAL} beside it: expected {nanogpt.LAYOUT}")
    return files.text(str(beside))


def _is_train(path: Path) -> bool:
    return path.name == nanogpt.TRAIN and path.is_file()
