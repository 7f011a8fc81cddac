"""Batches of labelled images, 3×32×32.

Shapes: B samples, M images in the set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data import files
from bench.errors import UsageError

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

SIDE = 32
DIGIT_SIDE = 8
DIGIT_WHITE = 16.0
"""The largest value of a pixel in scikit-learn's digits."""


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

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images [B, 3, 32, 32] in fp32 and labels [B] in int64 of step `step`, drawn with replacement.

        Raises: UsageError where a label is none of the set's classes.
        """
        random = np.random.default_rng((self.seed, step))
        pictures, labels = self.read(random.integers(0, self.count, size=self.samples))
        if labels.max() >= self.classes:
            raise UsageError(f"data: label {labels.max()} among {self.classes} classes: expected {files.IMAGES_WANTED}")
        # Clones lie in torch's allocator, where a meter sees them; what NumPy allocates it does not.
        return torch.from_numpy(pictures).clone(), torch.from_numpy(labels).clone()


def images(source: str | None, *, samples: int, seed: int) -> Images:
    """The images of `source`: None for scikit-learn's digits, or the folder of CIFAR's binary version.

    Raises: UsageError where the folder will not do.
    """
    if source is None:
        return _digits(samples, seed)
    layout, paths = files.cifar(source)
    return _cifar(layout, [np.memmap(path, dtype=np.uint8, mode="r") for path in paths], samples, seed)


def resized(pictures: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Images [B, 3, 32, 32] as [B, `channels`, *`size`], each pixel that of the nearest place."""
    return F.interpolate(pictures[:, torch.arange(channels) % pictures.shape[1]], size=size)


def _digits(samples: int, seed: int) -> Images:
    """1797 digits of 8×8, each pixel made a square of 4×4, grey in three channels, scaled to −1 … 1."""
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    bunch = load_digits()
    small = (bunch.images / (DIGIT_WHITE / 2) - 1).astype(np.float32)  # [M, 8, 8]
    every = bunch.target.astype(np.int64)  # [M]
    times = SIDE // DIGIT_SIDE

    def read(indices: Integers) -> tuple[Floats, Integers]:
        grey = small[indices].repeat(times, axis=1).repeat(times, axis=2)  # [B, 32, 32]
        return np.stack((grey, grey, grey), axis=1), every[indices]

    return Images(count=len(every), classes=10, read=read, samples=samples, seed=seed)


def _cifar(layout: files.Cifar, maps: list[np.memmap], samples: int, seed: int) -> Images:
    records = [one.reshape(-1, layout.record_bytes) for one in maps]
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

    return Images(count=int(ends[-1]), classes=layout.classes, read=read, samples=samples, seed=seed)
