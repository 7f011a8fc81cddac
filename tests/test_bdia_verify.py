"""Verify mode: what it says of a fault, and that it says nothing where there is none."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from networks import gpt, gpt_loss, tokens
from torch import Tensor, nn

import bdia
from bdia.backprop import reversible, rng
from bdia.backprop.digest import digest
from bdia.errors import MethodError, ReconstructionError
from bdia.sidebits import SideBits

DEPTH = 5
PLACES = range(DEPTH)


def backward(model: nn.Module, seed: int = 0, **options: Any) -> None:
    """One verified forward and backward."""
    with bdia.attach(model, "bdia", seed=seed, verify=True, blocks=list(model.transformer.h), **options):
        gpt_loss(model, tokens(seed=seed)).backward()


def caught(model: nn.Module, **options: Any) -> ReconstructionError:
    """The error of a verified backward."""
    with pytest.raises(ReconstructionError) as error:
        backward(model, **options)
    return error.value


def planted(place: int, change: Any) -> nn.Module:
    """A GPT whose block `place` returns `change(block, y)` instead of y."""
    model = gpt(DEPTH)
    inner = type(model.transformer.h[place])

    class Faulty(inner):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return change(self, super().forward(x))

    model.transformer.h[place].__class__ = Faulty
    return model


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_sound_model_passes_with_the_same_gradients(seed: int, dropout: float) -> None:
    """Verifying changes no bit of a gradient, and finds nothing where nothing is wrong."""
    grads = {}
    for verify in (False, True):
        model = gpt(DEPTH, dropout=dropout, seed=seed)
        with bdia.attach(model, "bdia", seed=seed, verify=verify):
            gpt_loss(model, tokens(seed=seed)).backward()
        grads[verify] = [parameter.grad for parameter in model.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(grads[False], grads[True], strict=True))


@pytest.mark.parametrize("place", PLACES)
def test_dropout_without_a_restored_rng_is_named(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the RNG state of a block that draws is not put back, the error names that block, and the RNG."""
    model = gpt(DEPTH)
    model.transformer.h[place].mlp.dropout.p = 0.5

    @contextlib.contextmanager
    def not_restored(then: object, device: torch.device) -> Iterator[None]:
        yield

    monkeypatch.setattr(rng, "restored", not_restored)
    error = caught(model)
    assert error.block == f"transformer.h.{place}"
    assert "torch's RNG state before the rerun was not that of the forward" in str(error)


@pytest.mark.parametrize("place", range(1, DEPTH))
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_flipped_side_bit_is_named(place: int, bit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit flipped in the side word of one call names that call's block, whichever bit it is."""
    held: list[SideBits] = []
    close = reversible.ReversibleRecording.close

    def flipping(self: Any, state: Any, versions: list[int]) -> None:
        held.append(self._tape.calls[place].kept)
        held[-1].packed[0, 5] ^= 1 << bit
        close(self, state, versions)

    monkeypatch.setattr(reversible.ReversibleRecording, "close", flipping)
    error = caught(gpt(DEPTH))
    assert error.block == f"transformer.h.{place}"
    assert "its side bits" in str(error)


COUNT = [0]


def _counts(block: nn.Module, y: Tensor) -> Tensor:
    COUNT[0] += 1
    return y + 1e-4 * COUNT[0]


@pytest.mark.parametrize("place", PLACES)
def test_a_block_that_reads_a_global_counter_is_named(place: int) -> None:
    """What no look at the block can see is told from its giving something else each time."""
    error = caught(planted(place, _counts))
    assert error.block == f"transformer.h.{place}"
    assert "gives something else each time it runs" in str(error)
    assert error.element == "[0, 0, 0]"
    assert error.forward is not None
    assert error.rebuilt is not None
    assert 0 < error.rebuilt - error.forward < 0.01


def _counts_itself(block: nn.Module, y: Tensor) -> Tensor:
    block.steps = getattr(block, "steps", 0) + 1
    return y + 1e-4 * block.steps


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_counts_itself, r"h\.2\.steps: 'not there' in the forward, 1 in the rerun"),
        (lambda block, y: y + random.random() * 1e-3, "it draws from Python's random"),
        (lambda block, y: y + float(np.random.rand()) * 1e-3, "it draws from NumPy's random"),
        (lambda block, y: y + torch.rand(1, generator=block.own) * 1e-3, "a generator of its own"),
    ],
)
def test_the_reason_is_named(change: Any, reason: str) -> None:
    """An attribute, or a generator that no rerun is given back, is named."""
    model = planted(2, change)
    model.transformer.h[2].own = torch.Generator().manual_seed(0)
    backward_error = caught(model)
    assert backward_error.block == "transformer.h.2"
    assert re.search(reason, str(backward_error))


def test_another_precision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch that the engine does not put back is named, with both of its values."""

    class Autocasting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x).float()

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Autocasting() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    torch.manual_seed(0)
    model = Stack().train()
    given: list[str] = []

    def off(device_type: str) -> tuple[dict[str, bool], dict[str, bool]]:
        given.append(device_type)
        return {"enabled": False}, {"enabled": False}

    monkeypatch.setattr("torch.utils.checkpoint._get_autocast_kwargs", off)
    with bdia.attach(model, "bdia", verify=True):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.randn(4, 5, 6)).square().sum()
        if not given:
            pytest.fail("torch's checkpoint takes autocast otherwise now: find where, and plant the fault there")
        with pytest.raises(ReconstructionError, match=r"autocast: 'torch.bfloat16' in the forward, 'off' in the rerun"):
            loss.backward()


def test_headroom_is_named() -> None:
    """Past the exact range, an x that is not given back blames the step that left it."""
    model = gpt(8)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(4000)
    with bdia.attach(model, "bdia", bits=20, verify=True) as handle:
        for chain in handle._chains:
            monkey = chain.close
            chain.close = lambda passage, monkey=monkey: _ignoring_range(monkey, passage)  # type: ignore[method-assign]
        with pytest.raises(ReconstructionError, match="headroom; the step of transformer"):
            gpt_loss(model, tokens()).backward()


def _ignoring_range(close: Any, passage: Any) -> None:
    with contextlib.suppress(bdia.HeadroomError):
        close(passage)


def test_a_last_state_that_was_written_into_unseen_is_named() -> None:
    """What `.data` changes moves no version, and is seen in the x that the backward begins with."""
    model = gpt(DEPTH)
    held: list[Tensor] = []
    model.transformer.h[-1].register_forward_pre_hook(lambda module, args: held.append(args[0]))
    with bdia.attach(model, "bdia", seed=0, verify=True):
        loss = gpt_loss(model, tokens())
        held[-1].data[0, 2, 3] += 1
        with pytest.raises(ReconstructionError, match="the state that the forward ended in") as caught:
            loss.backward()
    assert (caught.value.block, caught.value.element) == (f"transformer.h.{DEPTH - 1}", "[0, 2, 3]")


def test_a_difference_below_the_last_bit_is_named() -> None:
    """y is compared as it is, not as Q_l rounds it."""
    error = caught(planted(3, lambda block, y: y + 1e-3 * _counts(block, torch.zeros(1))))
    assert error.block == "transformer.h.3"


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia-stored", "bdia-naive"])
def test_methods_that_rebuild_no_bits_are_refused(method: str) -> None:
    """There is nothing to verify of them."""
    with pytest.raises(MethodError, match="rebuilds nothing bit for bit"):
        bdia.attach(gpt(), method, verify=True)


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 9), (11,), (2, 3, 4, 5)])
@pytest.mark.parametrize("seed", range(5))
def test_a_digest_finds_one_wrong_element_and_its_value(shape: tuple[int, ...], seed: int) -> None:
    """Whatever single element differs, by however little, it is found, with what stood there before."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    then = digest(x)
    assert then.same(x.clone())
    index = tuple(int(torch.randint(0, size, (), generator=generator)) for size in shape)
    for value in (-x[index].item(), x[index].item() * (1 + 2**-23), 0.0, float("inf")):
        wrong = x.clone()
        wrong[index] = value
        assert not then.same(wrong)
        found = then.difference(wrong)
        assert (found.where, found.forward, found.rebuilt) == (str(list(index)), x[index].item(), wrong[index].item())


def test_a_digest_takes_signed_zeros_for_equal() -> None:
    """-0.0 and 0.0 are equal, though they differ in a bit."""
    assert digest(torch.tensor([[0.0, 1.0]])).same(torch.tensor([[-0.0, 1.0]]))


def test_a_digest_of_many_differences_gives_a_sample() -> None:
    """Where everything differs, an element that was kept is named, with both values."""
    x = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0))
    found = digest(x).difference(x + 1)
    assert found.where == "[0, 0, 0]"
    assert (found.forward, found.rebuilt) == (x[0, 0, 0].item(), (x + 1)[0, 0, 0].item())
