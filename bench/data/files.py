"""The user's data as files: what kind they are, whether they will do, what they contain. Imports no torch.

Every function here raises UsageError where the data will not do: the path, what was expected, the cure.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.errors import UsageError
from bench.words import counted

if TYPE_CHECKING:
    from bench.models import Input

BYTE_VOCAB: Final = 256
NANOGPT_VOCAB: Final = 50304
"""GPT-2's 50257 tokens, padded by nanoGPT to a multiple of 64."""
NANOGPT_DTYPE: Final = "<u2"
NANOGPT_TOKEN_BYTES: Final = 2
TOKENS_AT_ONCE: Final = 2**24
"""How many tokens are looked at before the next ones are read."""
BUILT_IN_CAP_BYTES: Final = 4 * 2**20
"""The built-in text ends here."""
HEAD_BYTES: Final = 64 * 1024
"""How much of a text file is looked at to see whether it is text."""
BUILT_IN_NAME: Final = "built-in text"

TEXT_WANTED: Final = "a text file, or nanoGPT's tokens in a .bin file"
IMAGES_WANTED: Final = "the folder of the binary version of CIFAR-10 or CIFAR-100"


@dataclass(frozen=True)
class Cifar:
    """One binary version of CIFAR: records of label bytes (the last one counts), then 3×32×32 pixel bytes."""

    name: str
    pattern: str
    """Which files hold the training images."""
    label_bytes: int
    classes: int
    mean: tuple[float, float, float]
    """Of the training images' channels, scaled to 0 … 1."""
    std: tuple[float, float, float]

    @property
    def record_bytes(self) -> int:
        return self.label_bytes + 3 * 32 * 32


CIFARS: Final = (
    Cifar("CIFAR-10", "data_batch_*.bin", 1, 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    Cifar("CIFAR-100", "train.bin", 2, 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
)


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
            cifar(data)
        return
    count = built_in_bytes() if data is None else text_tokens(text(data))
    if seq is not None:
        require_length(BUILT_IN_NAME if data is None else data, count, seq)
    if vocab is not None and data is not None and is_tokens(Path(data)):
        require_vocab(data, largest_token(Path(data)), vocab)


def vocab_of(kind: Input, data: str | None) -> int | None:
    """The vocabulary that `data` (None: the built-in one) needs: 256 for bytes, 50304 for nanoGPT's `.bin`; None
    for a model of images."""
    check(kind, data)
    if kind == "images":
        return None
    return NANOGPT_VOCAB if data is not None and is_tokens(Path(data)) else BYTE_VOCAB


def digest(data: str | None) -> str:
    """SHA-256 of what is in `data`, wherever it lies: of a file's bytes, or of the `.bin` files of a folder and
    their names. The built-in data is named by the Python whose sources they are."""
    if data is None:
        return f"built-in, Python {platform.python_version()}"
    path = _existing(data, "data")
    with _readable(path):
        if not path.is_dir():
            return _sha256(path)
        listing = "\n".join(f"{_sha256(file)}  {file.name}" for file in sorted(path.glob("*.bin")))
        return hashlib.sha256(listing.encode()).hexdigest()


def text(data: str) -> Path:
    """The path of a text file, or of nanoGPT's tokens, once it looks like one."""
    path = _existing(data, TEXT_WANTED)
    if path.is_dir():
        kind = "a folder of CIFAR images" if _cifar_layout(path) else "a folder"
        raise UsageError(f"data {data!r} is {kind}: a model of text reads {TEXT_WANTED}")
    if not path.is_file():
        raise UsageError(f"data {data!r} is no regular file: write it to one first")
    with _readable(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    if size == 0:
        raise UsageError(f"data {data!r} is empty: expected {TEXT_WANTED}")
    if is_tokens(path):
        if size % NANOGPT_TOKEN_BYTES:
            raise UsageError(f"data {data!r} has {size} bytes, no whole number of uint16 tokens: write it again")
    elif b"\0" in head:
        where = head.index(b"\0")
        raise UsageError(
            f"data {data!r} is not text (a zero byte at {where}): expected UTF-8 or the like, or a .bin of tokens"
        )
    return path


def is_tokens(path: Path) -> bool:
    """Whether the file is nanoGPT's uint16 tokens rather than text: its name says so."""
    return path.suffix.lower() == ".bin"


def text_tokens(path: Path) -> int:
    """How many tokens a file that `text` let pass holds."""
    return path.stat().st_size // (NANOGPT_TOKEN_BYTES if is_tokens(path) else 1)


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


def largest_token(path: Path) -> int:
    """The largest id in nanoGPT's tokens that `text` let pass. A file is read once for as long as it stays as it is."""
    with _readable(path):
        state = path.stat()
        return _largest_token(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _largest_token(path: Path, size: int, changed: int) -> int:
    """Of the file as it was when it had that size and was last changed at that time."""
    import numpy as np  # slow to import, and only needed here

    ids = np.memmap(path, dtype=NANOGPT_DTYPE, mode="r")
    largest = 0
    for start in range(0, size // NANOGPT_TOKEN_BYTES, TOKENS_AT_ONCE):
        largest = max(largest, int(ids[start : start + TOKENS_AT_ONCE].max()))
        if largest == np.iinfo(NANOGPT_DTYPE).max:
            break
    return largest


def cifar(data: str) -> tuple[Cifar, tuple[Path, ...]]:
    """Which CIFAR a folder holds, and its files of training images in order."""
    path = _existing(data, IMAGES_WANTED)
    if not path.is_dir():
        raise UsageError(f"data {data!r} is a file: a model of images reads {IMAGES_WANTED}")
    with _readable(path):
        layout = _cifar_layout(path)
        if layout is None:
            raise UsageError(f"data {data!r} has neither data_batch_*.bin nor train.bin: expected {IMAGES_WANTED}")
        files = tuple(sorted(path.glob(layout.pattern)))
        for file in files:
            size = file.stat().st_size
            if size == 0 or size % layout.record_bytes:
                raise UsageError(
                    f"data {str(file)!r} has {size} bytes, no whole number of {layout.name}'s "
                    f"{layout.record_bytes}-byte images: download it again"
                )
    return layout, files


def built_in_text() -> bytes:
    """The sources of Python's standard library, one after the other by name, up to 4 MiB."""
    chunks: list[bytes] = []
    room = BUILT_IN_CAP_BYTES
    for file in _library_sources():
        with _readable(file):
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


def _cifar_layout(folder: Path) -> Cifar | None:
    return next((layout for layout in CIFARS if any(folder.glob(layout.pattern))), None)


def _existing(data: str, wanted: str) -> Path:
    path = Path(data)
    with _readable(path):
        if not data or not path.exists():
            raise UsageError(f"data {data!r} is not there: expected the path of {wanted}")
    return path


def _refuse_unreadable(data: str) -> None:
    path = _existing(data, "a file or a folder that the model reads")
    with _readable(path):
        if path.is_dir():
            next(path.iterdir(), None)
        elif not path.is_file():
            raise UsageError(f"data {data!r} is no regular file: write it to one first")
        else:
            path.open("rb").close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what the system says against reading `path` into a UsageError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"data {str(path)!r} cannot be read ({reason}): give a file you may read") from error
