"""What blocks are called with: what they write into, what they must not be given, and number formats."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from networks import Errors
from torch import Tensor, nn

import bdia
from bdia.arguments import refuse_replica
from bdia.backprop.tape import Tape
from bdia.errors import TapeError

METHODS = ["standard", "checkpoint", "bdia-stored", "bdia"]


@dataclass
class Shared:
    """What one block leaves for those above it."""

    value: Tensor | None = None
    losses: list[Tensor] = field(default_factory=list)


class Block(nn.Module):
    """Leaves a loss, takes the value that the first block has left, and says how often it ran."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor, shared: Any) -> Tensor:
        mapping = isinstance(shared, dict)
        value = shared.get("value") if mapping else shared.value
        losses = shared["losses"] if mapping else shared.losses
        h = self.inner(x).sin() + (0 if value is None else value)
        if self.number == 0 and mapping:
            shared["value"] = h.cos()
        elif self.number == 0:
            shared.value = h.cos()
        losses.append(h.square().mean())
        return x + h


class Sharing(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.blocks = nn.ModuleList(Block(number) for number in range(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        shared: Any = {"losses": []} if self.kind == "dict" else Shared()
        for block in self.blocks:
            x = block(x, shared)
        losses = shared["losses"] if self.kind == "dict" else shared.losses
        return x, torch.stack(losses).sum(), len(losses)


@pytest.mark.parametrize("kind", ["dict", "dataclass"])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_block_writes_is_there_once(kind: str, method: str) -> None:
    """Lists, dicts and dataclasses hold what the first runs wrote, and reruns find them as those did."""
    model, x = Sharing(kind).train(), torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    grads, twin = [], "standard" if method in ("standard", "checkpoint") else "bdia-stored"
    for attached in (method, twin):
        model.zero_grad()
        errors = Errors()
        with bdia.attach(model, attached, seed=0) as handle, handle.observing(errors):
            y, losses, count = model(x)
            assert count == 4
            (y.square().mean() + losses).backward()
        assert all(errors.equal.values())
        grads.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert len(grads[0]) == 8
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


@pytest.mark.parametrize("kind", ["dict", "dataclass"])
def test_a_discarded_forward_frees_its_tape_though_arguments_hold_graphs(kind: str) -> None:
    """A graph handed to a block inside an object makes no cycle with the tape."""
    model, x = Sharing(kind).train(), torch.randn(3, 5, 6)
    with bdia.attach(model, "bdia"):
        others = _tapes()
        outputs = model(x)
        tapes = [weakref.ref(found) for found in _tapes() if not any(found is other for other in others)]
        assert len(tapes) == 1
        del outputs, others
        gc.collect()
        assert all(tape() is None for tape in tapes)


def _tapes() -> list[Tape]:
    """All that are alive in this process, those of other tests too."""
    return [found for found in gc.get_objects() if type(found) is Tape]


class Plain(nn.Module):
    """Passes on what it is given, whatever it is."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(block() for _ in range(3))

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        for block in self.blocks:
            x = block(x, **kwargs)
        return x


class Promoting(nn.Module):
    """Scales its residual by an fp32 parameter, so that under autocast a bf16 x becomes fp32."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = nn.Linear(6, 6), nn.Parameter(torch.full((6,), 0.7))

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return x + self.scale * self.inner(x)


@pytest.mark.parametrize(("method", "gamma"), [("standard", None), ("checkpoint", None), ("bdia-unquantised", 0.0)])
def test_x_takes_the_format_that_blocks_give_it(method: str, gamma: float | None) -> None:
    """A bf16 x that the first block makes fp32 is fp32 from there on, as without a method."""
    model, x = Plain(Promoting).train(), torch.randn(3, 5, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(x)
        with bdia.attach(model, method, gamma=gamma):
            ours = model(x)
    assert ours.dtype == plain.dtype == torch.float32
    assert torch.equal(ours, plain)


def test_x_that_changes_format_is_rebuilt() -> None:
    """The stream is fp32 throughout, whatever the model passes on."""
    model, x = Plain(Promoting).train(), torch.randn(3, 5, 6, dtype=torch.bfloat16)
    grads = []
    for method in ("bdia", "bdia-stored"):
        model.zero_grad()
        errors = Errors()
        with bdia.attach(model, method, seed=0) as handle, handle.observing(errors):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(x).square().sum()
            loss.backward()
        assert all(errors.equal.values())
        grads.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_whole_numbers_are_refused() -> None:
    """A stream of integers would pass no gradient on."""
    model = Plain(Promoting).train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match=r"x is torch\.int64"):
        model(torch.ones(3, 5, 6, dtype=torch.long))


@pytest.mark.parametrize(
    "given",
    [
        {"cu_seqlens": torch.tensor([0, 3, 7])},
        {"cu_seq_lens_q": torch.tensor([0, 3, 7])},
        {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3]])},
        {"position_ids": torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 0, 1]])},
        {"position_ids": torch.tensor([[0, 1, 0, 1, 0, 1, 2]])},
    ],
)
def test_packed_samples_are_refused_where_gamma_is_drawn(given: dict[str, Tensor]) -> None:
    """γ is drawn per sample, and the samples of one row could not be told apart."""
    model = Plain(Promoting).train()
    x = torch.randn(len(next(iter(given.values()))) if "position_ids" in given else 1, 7, 6)
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="packed samples"):
        model(x, **given)
    with bdia.attach(model, "checkpoint"):
        model(x, **given)


@pytest.mark.parametrize(
    "positions",
    [[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 2, 3, 4], [1, 1, 1, 0, 1, 2, 3], [0, 1, 2, 3, 0, 0, 0], [0, 1, 2, 3, 1, 1, 1]],
)
def test_padding_is_not_packing(positions: list[int]) -> None:
    """Positions of padded rows stand still, or fall back and stay there."""
    model = Plain(Promoting).train()
    with bdia.attach(model, "bdia"):
        model(torch.randn(1, 7, 6), position_ids=torch.tensor([positions]))


def test_a_replica_on_another_card_is_refused() -> None:
    """DataParallel's replicas share the forward that was put in, and its weights."""

    class On:
        is_cuda = True

        def __init__(self, index: int) -> None:
            self.device = torch.device("cuda", index)

    class Module:
        def parameters(self) -> Any:
            return iter([On(0)])

    refuse_replica("h.0", On(0), Module())  # type: ignore[arg-type]
    with pytest.raises(TapeError, match="on cuda:1, and its weights are on cuda:0"):
        refuse_replica("h.0", On(1), Module())  # type: ignore[arg-type]
