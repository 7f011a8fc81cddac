"""Packing of side bits."""

from __future__ import annotations

import math

import pytest
import torch

from bdia.sidebits import pack


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (9,), (3, 5, 7), (2, 8, 4), (4, 1, 33)])
@pytest.mark.parametrize("seed", [0, 1])
def test_bits_come_back_as_they_went(shape: tuple[int, ...], seed: int) -> None:
    """Unpacking gives the same bool tensor, whatever its size."""
    flags = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    assert torch.equal(pack(flags).unpack().bool(), flags)


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("shape", [(1,), (9,), (3, 5, 7)])
def test_several_bits_come_back_as_they_went(bits: int, shape: tuple[int, ...]) -> None:
    """m bits an element take m planes of one bit each, and come back."""
    numbers = torch.randint(0, 2**bits, shape, generator=torch.Generator().manual_seed(bits), dtype=torch.uint8)
    packed = pack(numbers, bits)
    assert packed.nbytes == bits * math.ceil(numbers.numel() / 8)
    assert torch.equal(packed.unpack(), numbers)


def test_one_bit_an_element() -> None:
    """E elements take ⌈E/8⌉ bytes, all of them in the tensor that is kept."""
    for elements in (1, 8, 9, 1000):
        packed = pack(torch.ones(elements, dtype=torch.bool))
        assert packed.nbytes == math.ceil(elements / 8)
        assert packed.packed.untyped_storage().nbytes() == packed.nbytes


def test_a_transposed_tensor_keeps_its_order() -> None:
    """The order is the tensor's own, not its memory's."""
    flags = (torch.arange(35).view(5, 7) % 3 == 0).t()
    assert not flags.is_contiguous()
    assert torch.equal(pack(flags).unpack().bool(), flags)


def test_every_byte_value_survives() -> None:
    """All 256 combinations of eight bits are told apart."""
    flags = torch.tensor([[value >> place & 1 for place in range(8)] for value in range(256)], dtype=torch.bool)
    packed = pack(flags)
    assert len(set(packed.packed[0].tolist())) == 256
    assert torch.equal(packed.unpack(), flags)
