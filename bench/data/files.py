"""The user's data as files: what kind they are, whether they will do, what they contain. Imports no torch.

Every function here raises UsageError where the data will not do: the path, what was expected, the cure.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.data import cifar, nanogpt
from bench.data.paths import existing, readable
from bench.errors import UsageError
from bench.words import counted

if TYPE_CHECKING:
    from bench.models import Input

BYTE_VOCAB: Final = 256
BUILT_IN_CAP_BYTES: Final = 4 * 2**20
"""The built-in text ends here."""
HEAD_BYTES: Final = 64 * 1024
"""How much of a text file is looked at to see whether it is text."""
BUILT_IN_NAME: Final = "built-in text"

TEXT_WANTED: Final = "a text file, or nanoGPT's tokens: a .bin file, or a folder with train.bin and val.bin"


def check(kind: Input | None, data: str | None, seq: int | None = None, vocab: int | None = None) -> None:
    """Refuses `data` that is not of the kind a model is fed with, that has no sample of `seq` tokens, or that holds
    a token outside a vocabulary of `vocab`. Of a model that reads it in its own way (`kind` None) it refuses only what
    nobody could read.

    Without torch: for a parent to call before it starts any child. All of nanoGPT's tokens are read once for
    `vocab`; what else is looked at is little.
    """
    if kind is None:
        if data is not None:
            _refuse_unreadable(data)
        return
    if kind == "images":
        if data is not None:
            cifar.find(data)
        return
    count = built_in_bytes() if data is None else text_tokens(text(data))
    if seq is not None:
        require_length(BUILT_IN_NAME if data is None else data, count, seq)
    if vocab is not None and data is not None and nanogpt.is_tokens(path := text(data)):
        require_vocab(data, nanogpt.largest_token(path), vocab)


def vocab_of(kind: Input, data: str | None) -> int | None:
    """The vocabulary that `data` (None: the built-in one) needs: 256 for bytes, 50304 for nanoGPT's `.bin`; None
    for a model of images."""
    check(kind, data)
    if kind == "images":
        return None
    return nanogpt.VOCAB if data is not None and nanogpt.is_tokens(text(data)) else BYTE_VOCAB


def digest(data: str | None) -> str:
    """SHA-256 of what is in `data`, wherever it lies: of a file's bytes, or of the `.bin` files of a folder and
    their names. The built-in data is named by the Python whose sources they are."""
    if data is None:
        return f"built-in, Python {platform.python_version()}"
    path = existing(data, "data")
    with readable(path):
        if not path.is_dir():
            return _sha256(path)
        listing = "\n".join(f"{_sha256(file)}  {file.name}" for file in sorted(path.glob("*.bin")))
        return hashlib.sha256(listing.encode()).hexdigest()


def text(data: str) -> Path:
    """The path of a text file, or of nanoGPT's tokens (of a folder, those that train), once it looks like one."""
    path = existing(data, TEXT_WANTED)
    if nanogpt.is_folder(path):
        path /= nanogpt.TRAIN
    if path.is_dir():
        kind = "a folder of CIFAR images" if cifar.layout_of(path) else "a folder"
        raise UsageError(f"data {data!r} is {kind}: a model of text reads {TEXT_WANTED}")
    if not path.is_file():
        raise UsageError(f"data {data!r} is no regular file: write it to one first")
    with readable(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    if size == 0:
        raise UsageError(f"data {data!r} is empty: expected {TEXT_WANTED}")
    if nanogpt.is_tokens(path):
        if size % nanogpt.TOKEN_BYTES:
            raise UsageError(f"data {data!r} has {size} bytes, no whole number of uint16 tokens: write it again")
    elif b"\0" in head:
        where = head.index(b"\0")
        raise UsageError(
            f"data {data!r} is not text (a zero byte at {where}): expected UTF-8 or the like, or a .bin of tokens"
        )
    return path


def text_tokens(path: Path) -> int:
    """How many tokens a file that `text` let pass holds."""
    return path.stat().st_size // (nanogpt.TOKEN_BYTES if nanogpt.is_tokens(path) else 1)


def require_length(name: str, tokens: int, seq: int) -> None:
    """Refuses fewer tokens than one sample and its targets need, `seq` + 1."""
    if tokens <= seq:
        raise UsageError(
            f"data {name!r} has {counted(tokens, 'token')}: a sample of {seq} needs {seq + 1}; "
            "lower --seq or give more text"
        )


def require_vocab(name: str, token: int, vocab: int) -> None:
    """Refuses a token outside a vocabulary of `vocab`."""
    if token >= vocab:
        raise UsageError(
            f"data {name!r} holds token {token}, outside a vocabulary of {vocab}: "
            f"give --vocab {token + 1} or more, or nanoGPT's uint16 tokens"
        )


def built_in_text() -> bytes:
    """The sources of Python's standard library, one after the other by name, up to 4 MiB."""
    chunks: list[bytes] = []
    room = BUILT_IN_CAP_BYTES
    for file in _library_sources():
        with readable(file):
            chunks.append(file.read_bytes()[:room])
        room -= len(chunks[-1])
        if room == 0:
            break
    return b"".join(chunks)


@functools.cache
def built_in_bytes() -> int:
    """The length of `built_in_text`, without reading it."""
    return min(BUILT_IN_CAP_BYTES, sum(file.stat().st_size for file in _library_sources()))


@functools.cache
def _library_sources() -> tuple[Path, ...]:
    # Other people's files may lie in the same folder, so names count, not just the suffix.
    folder = Path(sysconfig.get_path("stdlib"))
    files = tuple(sorted(file for file in folder.glob("*.py") if file.stem in sys.stdlib_module_names))
    if not files:
        raise UsageError("this Python comes without its sources, the built-in text: give a file with --data")
    return files


def _refuse_unreadable(data: str) -> None:
    path = existing(data, "a file or a folder that the model reads")
    with readable(path):
        if path.is_dir():
            next(path.iterdir(), None)
        elif not path.is_file():
            raise UsageError(f"data {data!r} is no regular file: write it to one first")
        else:
            path.open("rb").close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
