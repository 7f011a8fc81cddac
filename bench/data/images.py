"""Batches of labelled images, 3×32×32.

Shapes: B samples, M images in the set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import util
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data import cifar, order, splits
from bench.data.augment import Augmentation
from bench.data.cifar import Cifar
from bench.data.splits import Split
from bench.errors import UsageError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

SIDE = 32
DIGIT_SIDE = 8
DIGIT_WHITE = 16.0
"""The largest value of a pixel in scikit-learn's digits."""
DIGITS_FILE: Final = "datasets/data/digits.csv.gz"
"""Where scikit-learn keeps them."""
PADDING = 4
"""Pixels by which an augmented image is moved at most: an eighth of its side, one pixel of an 8×8 digit."""


@dataclass(frozen=True)
class Images:
    """A set of labelled images that batches are drawn from. Batch s depends on `seed` and s alone."""

    count: int
    """M."""
    classes: int
    read: Callable[[Integers], tuple[Floats, Integers]]
    """Indices [B] → normalised images [B, 3, 32, 32] and labels [B]."""
    samples: int
    seed: int
    epochs: bool = False
    """Whether batches go through the set in epochs, rather than being drawn with replacement."""
    augmentation: Augmentation | None = None
    """What happens to the images of `batch`; those of `held_out` stay as they are."""

    @property
    def batches_an_epoch(self) -> int:
        """How many batches have every image once."""
        return order.batches_an_epoch(self.count, self.samples)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images [B, 3, 32, 32] in fp32 and labels [B] in int64 of step `step`, drawn with replacement; in epochs,
        step e·`batches_an_epoch` + s is batch s of epoch e, each image once an epoch, whose last B may be smaller."""
        if self.epochs:
            indices = order.epoch_batch(self.count, self.samples, self.seed, step)
        else:
            indices = np.random.default_rng((self.seed, step)).integers(0, self.count, size=self.samples)
        pictures, labels = self.read(indices)
        if self.augmentation is not None:
            pictures = self.augmentation.apply(pictures, self.seed, step)
        return _tensors(pictures, labels)

    def held_out(self, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` batches as of `batch` to validate with, whatever the seed, and not augmented: images evenly spread
        over the set, none twice; all of them for None. Of the last batch B may be smaller."""
        for chosen in order.spread(self.count, self.samples, count):
            yield _tensors(*self.read(chosen))


def images(source: str | None, *, samples: int, seed: int, split: Split = "all", augment: bool = False) -> Images:
    """The images of `source`: None for scikit-learn's digits, or the folder of CIFAR's binary version. Of a split,
    those that it has (`bench.data.splits`); "train" goes in epochs. With `augment`, batches are augmented.

    Raises: UsageError where the folder will not do, and where a label is none of the set's classes.
    """
    if source is None:
        whole = _digits(samples, seed, split)
    else:
        layout, paths = cifar.find(source, split)
        whole = _cifar(layout, [_records(path, layout) for path in paths], samples, seed)
    return replace(whole, epochs=split == "train", augmentation=whole.augmentation if augment else None)


def _tensors(pictures: Floats, labels: Integers) -> tuple[Tensor, Tensor]:
    # Clones lie in torch's allocator, where a meter sees them; what NumPy allocates it does not.
    return torch.from_numpy(pictures).clone(), torch.from_numpy(labels).clone()


def resized(pictures: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Images [B, 3, 32, 32] as [B, `channels`, *`size`], each pixel that of the nearest place."""
    return F.interpolate(pictures[:, torch.arange(channels) % pictures.shape[1]], size=size)


def _digits(samples: int, seed: int, split: Split) -> Images:
    """1797 digits of 8×8, each pixel made a square of 4×4, grey in three channels, scaled to −1 … 1."""
    table = _digits_table()
    part = splits.digits(len(table), split)
    some = table[part.start : part.stop]
    pixels = some[:, :-1].reshape(-1, DIGIT_SIDE, DIGIT_SIDE)
    small = (pixels / (DIGIT_WHITE / 2) - 1).astype(np.float32)  # [M, 8, 8]
    every = some[:, -1]  # [M]
    times = SIDE // DIGIT_SIDE

    def read(indices: Integers) -> tuple[Floats, Integers]:
        grey = small[indices].repeat(times, axis=1).repeat(times, axis=2)  # [B, 32, 32]
        return np.stack((grey, grey, grey), axis=1), every[indices]

    moved = Augmentation(padding=PADDING, stride=times, flip=False, black=(-1.0, -1.0, -1.0))
    return Images(count=len(every), classes=10, read=read, samples=samples, seed=seed, augmentation=moved)


def _digits_table() -> Integers:
    """The digits [M, 65]: 64 pixels and the label of each."""
    home = util.find_spec("sklearn")
    # Read without scikit-learn, whose import takes two seconds of each child process.
    if home is not None and home.origin is not None and (file := Path(home.origin).parent / DIGITS_FILE).is_file():
        return np.loadtxt(file, dtype=np.int64, delimiter=",")
    from sklearn.datasets import load_digits  # a version that keeps them elsewhere knows where

    bunch = load_digits()
    return np.column_stack((bunch.data, bunch.target)).astype(np.int64)


def _records(path: Path, layout: Cifar) -> Bytes:
    """One file's [M, bytes of a record]. Its labels are looked at here: a wrong one may come up hours into training."""
    records = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, layout.record_bytes)
    labels = records[:, layout.label_bytes - 1]
    if labels.max() >= layout.classes:
        at = int(labels.argmax())
        raise UsageError(
            f"data {str(path)!r}: image {at} has label {labels[at]} among {layout.classes} classes: it is none of "
            f"{layout.name}'s, or damaged; expected {layout.layout}"
        )
    return records


def _cifar(layout: Cifar, records: list[Bytes], samples: int, seed: int) -> Images:
    ends = np.cumsum([len(one) for one in records])
    mean: Floats = np.array(layout.mean, dtype=np.float32)[:, None, None]  # [3, 1, 1]
    std: Floats = np.array(layout.std, dtype=np.float32)[:, None, None]

    def read(indices: Integers) -> tuple[Floats, Integers]:
        homes = np.searchsorted(ends, indices, side="right")  # which file each index lies in
        rows = np.stack(
            [records[home][index - ends[home]] for home, index in zip(homes, indices, strict=True)]
        )  # an index less its file's end is negative, and counts from there
        labels = rows[:, layout.label_bytes - 1].astype(np.int64)
        pixels = rows[:, layout.label_bytes :].reshape(-1, 3, SIDE, SIDE)
        scaled: Floats = pixels.astype(np.float32) / np.float32(255)
        return (scaled - mean) / std, labels

    black = tuple(float(value) for value in (-mean / std).ravel())
    moved = Augmentation(padding=PADDING, stride=1, flip=True, black=black)
    return Images(
        count=int(ends[-1]), classes=layout.classes, read=read, samples=samples, seed=seed, augmentation=moved
    )
