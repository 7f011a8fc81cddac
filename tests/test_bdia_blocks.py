"""Which chains are found in a model, who runs them, and where their samples lie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import bdia
from bdia.blocks import batch_dim, find_chains, given_chains, owners
from bdia.errors import AttachError, TapeError


class Block(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


class Stack(nn.Module):
    """Runs its blocks itself, whatever kind of list they are in."""

    def __init__(self, blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks.children():
            x = block(x)
        return x


class Calls(Stack):
    """Calls a Sequential of blocks."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


def names(model: nn.Module) -> list[list[str]]:
    known = {id(module): name for name, module in model.named_modules()}
    return [[known[id(block)] for block in chain] for chain in find_chains(model)]


def test_a_model_that_is_its_list_of_blocks() -> None:
    """The model itself may be the list."""
    assert names(nn.Sequential(Block(), Block())) == [["0", "1"]]


def test_lists_of_other_things_are_passed_over() -> None:
    """A longer list of leaves, or of mixed classes, is no list of blocks."""
    model = Stack(nn.ModuleList(Block() for _ in range(3)))
    model.heads = nn.ModuleList(nn.Linear(6, 2) for _ in range(9))
    model.mixed = nn.ModuleList([Block(), nn.Sequential(nn.Linear(6, 6)), Block(), Block()])
    assert names(model) == [["blocks.0", "blocks.1", "blocks.2"]]


def test_stages_of_different_widths_are_a_chain_each() -> None:
    """An outer list whose weights change shape from item to item holds stages, and each has blocks of its own."""

    class GradientCheckpointingLayer(Block):
        """What Hugging Face's blocks derive from, by its name."""

    stages = nn.ModuleList(
        Stack(nn.ModuleList(GradientCheckpointingLayer(width) for _ in range(2))) for width in (4, 8)
    )
    assert names(Stack(stages)) == [
        ["blocks.0.blocks.0", "blocks.0.blocks.1"],
        ["blocks.1.blocks.0", "blocks.1.blocks.1"],
    ]


def test_two_lists_as_long_are_asked_about() -> None:
    """The error names both, and how to choose."""
    model = Stack(nn.ModuleList(Block() for _ in range(2)))
    model.others = nn.ModuleList(Block() for _ in range(2))
    with pytest.raises(AttachError, match=r"2 lists of 2 blocks in Stack \(blocks.0 …, others.0 …\): name one"):
        find_chains(model)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_torchs_own_encoder_and_decoder_are_two_chains() -> None:
    """Blocks that say what they are, are all taken, and their attention says where samples lie."""
    model = nn.Transformer(8, 2, 3, 2, 16)
    assert [len(chain) for chain in names(model)] == [3, 2]
    assert batch_dim(find_chains(model)[0]) == (1, 3)
    assert batch_dim(find_chains(nn.Transformer(8, 2, 3, 2, 16, batch_first=True))[0]) == (0, 3)
    assert batch_dim([Block()]) == (0, 1)


@pytest.mark.parametrize("runs", [Stack, Calls])
@pytest.mark.parametrize("method", ["bdia", "checkpoint", "bdia-stored"])
def test_a_sequential_may_be_called_or_gone_through(runs: Callable[[nn.Module], nn.Module], method: str) -> None:
    """Whether a Sequential runs its blocks or the module around it does, they are one chain, opened once."""
    torch.manual_seed(0)
    model = runs(nn.Sequential(*(Block() for _ in range(4)))).train()
    assert [type(owner).__name__ for owner in owners(model, find_chains(model)[0])] == ["Sequential", runs.__name__]
    x, grads = torch.randn(3, 5, 6), []
    for attached in (method, "bdia-stored"):
        with bdia.attach(model, attached, seed=1) as handle:
            model(x).square().sum().backward()
            assert handle.state_dict()["forwards"] == (1 if attached.startswith("bdia") else 0)
        grads.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
        model.zero_grad()
    if method != "checkpoint":
        assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_given_chains_are_taken_as_they_are_given() -> None:
    """One list is a chain; several, or several ModuleLists, are a chain each."""
    model = Stack(nn.ModuleList(Block() for _ in range(4)))
    blocks = list(model.blocks.children())
    assert given_chains(model, blocks[1:3]) == [blocks[1:3]]
    assert given_chains(model, [blocks[:2], blocks[2:]]) == [blocks[:2], blocks[2:]]
    assert given_chains(model, [model.blocks]) == [blocks]


def test_wrong_blocks_are_refused() -> None:
    """Whatever is not a list of the model's modules is an error."""
    model = Stack(nn.ModuleList(Block() for _ in range(4)))
    blocks = list(model.blocks.children())
    for wrong, message in (
        ([], "empty"),
        ([[], blocks], "empty"),
        ([blocks[0], 3], "something else"),
        ([blocks[0], [blocks[1]]], "something else"),
        ([Block()], "not part of Stack"),
        ([blocks[:2], blocks[1:]], "in two chains"),
    ):
        with pytest.raises(AttachError, match=message):
            bdia.attach(model, blocks=wrong)


def test_a_batch_dimension_that_is_none_is_refused() -> None:
    """A negative one, or one of another type, is an error that says what it means."""
    model = Stack(nn.ModuleList(Block() for _ in range(2)))
    for wrong in (-1, 1.0, True):
        with pytest.raises(AttachError, match="batch_dim="):
            bdia.attach(model, batch_dim=wrong)  # type: ignore[arg-type]


def test_gamma_follows_the_batch_dimension() -> None:
    """With `batch_dim=1` a sample keeps its γ wherever its tokens lie, so that transposing x changes nothing."""
    torch.manual_seed(0)
    model, x = Stack(nn.ModuleList(Block() for _ in range(4))).train(), torch.randn(3, 5, 6)
    with bdia.attach(model, "bdia", seed=2):
        first = model(x)
    with bdia.attach(model, "bdia", seed=2, batch_dim=1):
        second = model(x.transpose(0, 1).contiguous())
    assert torch.equal(first, second.transpose(0, 1))


def test_one_sample_without_a_batch_is_refused() -> None:
    """Torch's layers take x as [T, D] too, where γ would be drawn per token."""
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="one sample without a batch"):
        model(torch.randn(5, 8))
    with bdia.attach(model, "checkpoint"):
        model(torch.randn(5, 8))
