"""nanoGPT's tokens: raw uint16 in `.bin` files, of which val.bin is held out from train.bin. Imports no torch."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from bench.data.paths import readable

VOCAB: Final = 50304
"""GPT-2's 50257 tokens, padded by nanoGPT to a multiple of 64."""
DTYPE: Final = "<u2"
TOKEN_BYTES: Final = 2
TOKENS_AT_ONCE: Final = 2**24
"""How many tokens are looked at before the next ones are read."""
TRAIN: Final = "train.bin"
VAL: Final = "val.bin"
LAYOUT: Final = (
    f"a folder with {TRAIN} and {VAL}, raw uint16 tokens as nanoGPT's data/*/prepare.py writes them "
    "(https://github.com/karpathy/nanoGPT)"
)


def is_folder(folder: Path) -> bool:
    """Whether it holds both of nanoGPT's files: a train.bin alone may be CIFAR-100's."""
    return all((folder / name).is_file() for name in (TRAIN, VAL))


def is_tokens(path: Path) -> bool:
    """Whether the file is tokens rather than text: its name says so."""
    return path.suffix.lower() == ".bin"


def largest_token(path: Path) -> int:
    """The largest id in a file of tokens that `files.text` let pass, which is read once for as long as it stays as it
    is."""
    with readable(path):
        state = path.stat()
        return _largest_token(path, state.st_size, state.st_mtime_ns)


@functools.cache
def _largest_token(path: Path, size: int, changed: int) -> int:
    """Of the file as it was when it had that size and was last changed at that time."""
    import numpy as np  # slow to import, and only needed here

    ids = np.memmap(path, dtype=DTYPE, mode="r")
    largest = 0
    for start in range(0, size // TOKEN_BYTES, TOKENS_AT_ONCE):
        largest = max(largest, int(ids[start : start + TOKENS_AT_ONCE].max()))
        if largest == np.iinfo(DTYPE).max:
            break
    return largest
