"""The binary versions of CIFAR-10 and CIFAR-100: the files that a folder should have, and has. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.data import nanogpt
from bench.data.paths import existing, readable
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.data.splits import Split


@dataclass(frozen=True)
class Cifar:
    """One binary version of CIFAR: records of label bytes (the last one counts), then 3×32×32 pixel bytes."""

    name: str
    pattern: str
    """Which files hold training images."""
    train: tuple[str, ...]
    """All of them."""
    test: str
    """The file of test images, which are held out."""
    archive: str
    """What the archive with these files is called."""
    label_bytes: int
    classes: int
    mean: tuple[float, float, float]
    """Of the training images' channels, scaled to 0 … 1."""
    std: tuple[float, float, float]

    @property
    def record_bytes(self) -> int:
        return self.label_bytes + 3 * 32 * 32

    @property
    def layout(self) -> str:
        """The files that a folder should have, and where to get them."""
        first, last = self.train[0], self.train[-1]
        train = first if first == last else f"{first} … {last}"
        return f"{train} and {self.test}, as in {self.archive} from {SITE}"


SITE: Final = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFARS: Final = (
    Cifar(
        "CIFAR-10", "data_batch_*.bin", tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin",
        "cifar-10-binary.tar.gz", 1, 10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
    ),
    Cifar(
        "CIFAR-100", "train.bin", ("train.bin",), "test.bin",
        "cifar-100-binary.tar.gz", 2, 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
    ),
)  # fmt: skip
_PICKLES: Final = (("data_batch_1", "batches.meta"), ("train", "meta"))
"""Two of the files of each Python version."""
WANTED: Final = (
    "the folder of the binary version of CIFAR-10 or CIFAR-100, with "
    f"{', or '.join(layout.layout for layout in CIFARS)}"
)


def find(data: str, split: Split = "all") -> tuple[Cifar, tuple[Path, ...]]:
    """Which CIFAR a folder holds, and its files in order: all that have training images, and of a split precisely those
    of the official archive."""
    path = existing(data, WANTED)
    if not path.is_dir():
        raise UsageError(f"data {data!r} is a file: a model of images reads {WANTED}")
    with readable(path):
        layout = layout_of(path)
        if layout is None:
            raise UsageError(f"data {data!r} {_no_cifar(path)}: expected {WANTED}")
        if split == "all":
            files = tuple(sorted(path.glob(layout.pattern)))
        else:
            files = tuple(path / name for name in (layout.train if split == "train" else (layout.test,)))
        for file in files:
            if not file.is_file():
                raise UsageError(f"data {data!r} has no {file.name}: expected {layout.layout}")
            size = file.stat().st_size
            if size == 0 or size % layout.record_bytes:
                raise UsageError(
                    f"data {str(file)!r} has {size} bytes, no whole number of {layout.name}'s "
                    f"{layout.record_bytes}-byte images: download it again"
                )
    return layout, files


def layout_of(folder: Path) -> Cifar | None:
    """Which CIFAR's training images are in a folder, if any."""
    if nanogpt.is_folder(folder):
        return None
    return next((layout for layout in CIFARS if any(folder.glob(layout.pattern))), None)


def _no_cifar(folder: Path) -> str:
    """What a folder is, or has, instead of CIFAR's binary files."""
    if nanogpt.is_folder(folder):
        return "is a folder of nanoGPT's tokens"
    if any((folder / name).is_file() and (folder / meta).is_file() for name, meta in _PICKLES):
        return "is the Python version of CIFAR, pickles, which are never read"
    inner = next((one.name for one in sorted(folder.iterdir()) if one.is_dir() and layout_of(one)), None)
    lacks = "has neither data_batch_*.bin nor train.bin"
    return lacks if inner is None else f"{lacks}, but its folder {inner!r} has: give that"
