"""The dial between memory and speed. With one rule the mathematics does not depend on what is stored, so it may turn
at every block: some keep their graph, and the others are rerun by a few samples at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bdia.errors import MethodError


@dataclass(frozen=True)
class Dial:
    """Where the dial stands."""

    keep: int = 0
    """The last so many blocks keep their graph, and are not rerun."""
    micro_batches: int = 1
    """Into how many parts the batch is cut inside each block, in forward, rerun and backward alike. A part computed
    alone can differ in the last bit from the same samples computed with the rest, so this belongs to the function."""

    def __post_init__(self) -> None:
        """Raises: MethodError for anything but whole numbers in range."""
        for name, value, least in (("keep", self.keep, 0), ("micro_batches", self.micro_batches, 1)):
            if type(value) is not int or value < least:
                raise MethodError(f"{name}={value!r}: expected a whole number of at least {least}")

    @property
    def stored(self) -> Dial:
        """The same function where everything is stored anyway."""
        return Dial(micro_batches=self.micro_batches)

    def kept_by(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many blocks of each chain keep their graph, for chains of `sizes` blocks in the order they run: the last
        of all, whose backward comes first.

        Raises: MethodError where there are not so many.
        """
        if self.keep > sum(sizes):
            raise MethodError(f"keep={self.keep}: there are {sum(sizes)} blocks; keep at most as many")
        left, kept = self.keep, []
        for size in reversed(sizes):
            kept.append(min(left, size))
            left -= kept[-1]
        return tuple(reversed(kept))


WHOLE = Dial()
"""Whole batches, and no block that keeps its graph."""
