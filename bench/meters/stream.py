"""What the stream is like: x as blocks are given it."""

from __future__ import annotations

from torch import Tensor

from bdia.backprop import Watcher


class Stream(Watcher):
    """A watcher that remembers x in the first forward it sees."""

    dtype: str | None = None
    """Number format, such as `float32`; None where no block was called."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        """Of x, as each block was given it."""

    @property
    def elements(self) -> int | None:
        """Of x, on average over the blocks, as stages have x of several sizes; None where none was called."""
        return round(sum(self._sizes) / len(self._sizes)) if self._sizes else None

    def forwarded(self, call: int, x: Tensor) -> None:
        if self.dtype is None:
            self.dtype = str(x.dtype).removeprefix("torch.")
        if call == len(self._sizes):  # a second forward begins at 0 again
            self._sizes.append(x.numel())
