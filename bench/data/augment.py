"""What training images go through: a random crop, and for some a random flip.

As in the reference configuration of the paper's ViT (kentaroy47/vision-transformers-cifar10), for CIFAR: four pixels
of black around, a crop of the image's own size, and a left-right flip of every other image. Its RandAugment is left
out: it works on PIL images, and the paper does not say that it was on. Digits move by one pixel of their own 8×8, as
what is held out has its edges there, and are never mirrored: a mirrored digit is none.

Shapes: B samples, S the side of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_AUGMENT = 2
"""Keeps its generator apart from those of batches (seed, step) and of epochs (seed, epoch, 1)."""


@dataclass(frozen=True)
class Augmentation:
    """A crop at random after `padding` pixels of `black` on each side, moved by multiples of `stride`; with `flip`,
    half of the images mirrored."""

    padding: int
    stride: int
    flip: bool
    black: tuple[float, ...]
    """What a black pixel is once normalised, by channel."""

    def apply(self, pictures: Floats, seed: int, step: int) -> Floats:
        """Images [B, 3, S, S] augmented, as new ones. What they become follows from `seed`, `step` and their place in
        the batch."""
        count, channels, side, _ = pictures.shape
        random = np.random.default_rng((seed, step, _AUGMENT))
        down, right = self.stride * random.integers(0, 2 * self.padding // self.stride + 1, size=(2, count))
        edge = self.padding
        padded = np.empty((count, channels, side + 2 * edge, side + 2 * edge), dtype=pictures.dtype)
        padded[:] = np.array(self.black, dtype=pictures.dtype)[:, None, None]
        padded[:, :, edge : edge + side, edge : edge + side] = pictures
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, (side, side), axis=(2, 3)
        )  # [B, 3, 2p+1, 2p+1, S, S]
        cropped: Floats = windows[np.arange(count), :, down, right]  # [B, 3, S, S]
        if self.flip:
            mirrored = random.integers(0, 2, size=count).astype(bool)
            cropped[mirrored] = cropped[mirrored, :, :, ::-1]
        return cropped
