"""Where bytes are: a figure of memory as a sum of named parts, those of blocks block by block. Imports no torch.

As it is stored, a part is a number of bytes or, where it lies in blocks, a number for each range of them that hold the
same: `{"residual_states": {"0-11": 1048576}, "side_bits": {"1-11": 32768}, "head_and_loss": 2097152}`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

import msgspec

PartName = Literal[
    "parameters",
    "gradients",
    "optimizer_state",
    "input",
    "residual_states",
    "side_bits",
    "rng_states",
    "block",
    "head_and_loss",
    "optimizer_step",
    "other",
]
NAMES: Final[tuple[PartName, ...]] = get_args(PartName)
"""In the order in which they are stacked, what a method does not control first."""

MEANINGS: Final[Mapping[PartName, str]] = {
    "parameters": "parameters and buffers of the model",
    "gradients": "the parameters' gradients",
    "optimizer_state": "what the optimiser keeps from step to step",
    "input": "the batch",
    "residual_states": "x_k of the residual stream, as blocks are given them or they are rebuilt",
    "side_bits": "side information (eq. 20)",
    "rng_states": "states of random generators, of blocks that draw",
    "block": "what a block allocated in its forward, its rerun or its backward: what it stored, its working set",
    "head_and_loss": "what was allocated outside the blocks: embedding, head, loss, and their backward",
    "optimizer_step": "what the optimiser's step needs while it runs",
    "other": "the rest",
}

Blocks = Annotated[str, msgspec.Meta(pattern=r"^\d{1,5}(-\d{1,5})?$")]
"""A block, or a range of them, `first-last`."""
Parts = dict[PartName, int | dict[Blocks, int]]
"""As stored: bytes, or bytes for each block of a range `first-last`. Names in the order of `NAMES`, none of 0 bytes."""
Flat = dict[tuple[PartName, int | None], int]
"""Bytes by part and block; None for what lies in no block."""


def packed(flat: Mapping[tuple[PartName, int | None], int]) -> Parts:
    """`flat` as it is stored. Parts of 0 bytes are left out; a part must lie either in blocks or in none."""
    parts: Parts = {}
    for name in NAMES:
        held = {block: nbytes for (part, block), nbytes in flat.items() if part == name and nbytes}
        whole = held.pop(None, 0)
        if whole and held:
            raise ValueError(f"part {name} lies in blocks {sorted(map(str, held))} and in none: expected one or other")
        if whole:
            parts[name] = whole
        elif held:
            parts[name] = _ranges({block: nbytes for block, nbytes in held.items() if block is not None})
    return parts


def flat(parts: Parts) -> Flat:
    """What `packed` packed.

    Raises: ValueError for a range of blocks that is none.
    """
    found: Flat = {}
    for name, held in parts.items():
        if isinstance(held, int):
            found[name, None] = held
            continue
        for blocks, nbytes in held.items():
            found |= {(name, block): nbytes for block in _blocks(blocks)}
    return found


def totals(parts: Parts) -> dict[PartName, int]:
    """Bytes of each part over all its blocks."""
    return {name: held if isinstance(held, int) else _sum(held) for name, held in parts.items()}


def total(parts: Parts) -> int:
    """Bytes of all parts together: the figure they are the parts of."""
    return sum(totals(parts).values())


@dataclass(frozen=True)
class Move:
    """How one part changed, over a range of blocks that changed alike."""

    part: PartName
    first: int | None
    """The first block; None for what lies in no block."""
    last: int | None
    old: int
    """Bytes in each of the blocks."""
    new: int

    @property
    def bytes(self) -> int:
        """By how much, over all the blocks."""
        count = 1 if self.first is None or self.last is None else self.last - self.first + 1
        return (self.new - self.old) * count

    @property
    def where(self) -> str:
        """`side_bits of blocks 1-11`, `block 3`, `head_and_loss`."""
        if self.first is None:
            return self.part
        blocks = f"block {self.first}" if self.first == self.last else f"blocks {self.first}-{self.last}"
        return blocks if self.part == "block" else f"{self.part} of {blocks}"

    def __str__(self) -> str:
        """One phrase: where, and old -> new bytes."""
        each = " each" if self.first != self.last else ""
        return f"{self.where} {self.old} -> {self.new} bytes{each}"


def moves(old: Parts, new: Parts) -> list[Move]:
    """What changed from `old` to `new`, the largest change first; blocks in a row that changed alike are one move."""
    names = [name for name in NAMES if old.get(name) != new.get(name)]
    was, now = (flat({name: side[name] for name in names if name in side}) for side in (old, new))
    changed = [
        (name, block, was.get((name, block), 0), now.get((name, block), 0))
        for name, block in sorted(was.keys() | now.keys(), key=_place)
        if was.get((name, block), 0) != now.get((name, block), 0)
    ]
    found: list[Move] = []
    for name, block, before, after in changed:
        last = found[-1] if found else None
        if (
            last is not None
            and block is not None
            and last.last is not None
            and (last.part, last.old, last.new, last.last + 1) == (name, before, after, block)
        ):
            found[-1] = Move(name, last.first, block, before, after)
        else:
            found.append(Move(name, block, block, before, after))
    return sorted(found, key=lambda move: -abs(move.bytes))


@functools.cache
def _blocks(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _sum(held: Mapping[str, int]) -> int:
    return sum(nbytes * len(_blocks(blocks)) for blocks, nbytes in held.items())


def _ranges(held: Mapping[int, int]) -> dict[str, int]:
    found: list[tuple[int, int, int]] = []
    for block in sorted(held):
        if found and found[-1][1] == block - 1 and found[-1][2] == held[block]:
            found[-1] = (found[-1][0], block, held[block])
        else:
            found.append((block, block, held[block]))
    return {str(first) if first == last else f"{first}-{last}": nbytes for first, last, nbytes in found}


def _place(key: tuple[PartName, int | None]) -> tuple[int, int]:
    name, block = key
    return NAMES.index(name), -1 if block is None else block


def names(parts: Iterable[Iterable[PartName]]) -> tuple[PartName, ...]:
    """The names that occur in any of `parts`, in their order."""
    held = {name for one in parts for name in one}
    return tuple(name for name in NAMES if name in held)
