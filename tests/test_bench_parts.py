"""Parts of a figure of memory: packing, unpacking, and what moved."""

from __future__ import annotations

import msgspec
import pytest

from bench import parts
from bench.parts import Flat, Move

FLAT: Flat = {
    ("parameters", None): 100,
    ("side_bits", 1): 8,
    ("side_bits", 2): 8,
    ("side_bits", 4): 8,
    ("block", 3): 50,
    ("other", None): 0,
}


def test_parts_come_back_as_they_were_packed() -> None:
    """Packing joins blocks in a row that hold the same, drops what is nothing, and loses nothing else."""
    packed = parts.packed(FLAT)
    assert packed == {"parameters": 100, "side_bits": {"1-2": 8, "4": 8}, "block": {"3": 50}}
    assert msgspec.json.decode(msgspec.json.encode(packed), type=parts.Parts) == packed
    assert parts.flat(packed) == {key: nbytes for key, nbytes in FLAT.items() if nbytes}
    assert parts.total(packed) == 174
    assert parts.totals(packed) == {"parameters": 100, "side_bits": 24, "block": 50}


def test_a_part_lies_in_blocks_or_in_none() -> None:
    """A part that is both cannot be stored, and says so."""
    with pytest.raises(ValueError, match="side_bits"):
        parts.packed({("side_bits", None): 1, ("side_bits", 2): 1})


def test_moves_name_part_and_blocks() -> None:
    """What moved is named with its blocks, those in a row that moved alike as one, the largest first."""
    old = parts.packed(FLAT)
    new = parts.packed(FLAT | {("side_bits", 1): 64, ("side_bits", 2): 64, ("side_bits", 4): 64, ("block", 3): 49})
    moved = parts.moves(old, new)
    assert moved == [
        Move("side_bits", 1, 2, 8, 64),
        Move("side_bits", 4, 4, 8, 64),
        Move("block", 3, 3, 50, 49),
    ]
    assert [str(move) for move in moved] == [
        "side_bits of blocks 1-2 8 -> 64 bytes each",
        "side_bits of block 4 8 -> 64 bytes",
        "block 3 50 -> 49 bytes",
    ]
    assert sum(move.bytes for move in moved) == parts.total(new) - parts.total(old)


def test_what_appears_and_goes_is_a_move() -> None:
    """A part that only one of the two has moved from, or to, nothing."""
    assert parts.moves({}, {"head_and_loss": 7}) == [Move("head_and_loss", None, None, 0, 7)]
    assert parts.moves({"head_and_loss": 7}, {}) == [Move("head_and_loss", None, None, 7, 0)]


@pytest.mark.parametrize("blocks", ["x", "1-", "-3", "1-2-3", "0-99999999999"])
def test_what_is_no_range_of_blocks_is_not_read(blocks: str) -> None:
    """A file that a merge or a hand has spoilt is refused as it is read."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"side_bits": {blocks: 8}}), type=parts.Parts)
