"""What the adapters of peers say to their libraries, with stand-ins for those, so that it is tested where none is."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import torch
from measuring import measured
from networks import gpt, gpt_loss, tokens
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench import peers
from bench.case import MEASUREMENTS, Case, Plan
from bench.meters.gradients import measure_gradients
from bench.meters.memory import measure_memory
from bench.peers.handle import attach
from bench.workload import Workload

Run = Callable[..., Any]
"""How a stand-in runs a function: at once, or so that the backward runs it again."""


def at_once(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x)


def again(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return checkpoint(function, x, use_reentrant=False)


def forgetful(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Again, and with other dropout."""
    return checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)


def revlib(run: Run) -> dict[str, Any]:
    class ReversibleSequential(nn.Module):
        def __init__(self, *functions: nn.Module, split_dim: int = 1) -> None:
            super().__init__()
            self.functions, self.split_dim = nn.ModuleList(functions), split_dim

        def forward(self, x: Tensor) -> Tensor:
            one, two = x.chunk(2, dim=self.split_dim)
            for function in self.functions:
                one, two = two, one + run(function, two)
            return torch.cat((one, two), dim=self.split_dim)

    return {"revlib": {"ReversibleSequential": ReversibleSequential}}


class Pair(nn.Module):
    """A coupling of two functions: what memcnn and RevTorch are given one by one."""

    def __init__(self, f: nn.Module, g: nn.Module, dim: int, run: Run) -> None:
        super().__init__()
        self.f, self.g, self.dim, self.run = f, g, dim, run

    def forward(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=self.dim)
        one = one + self.run(self.f, two)
        return torch.cat((one, two + self.run(self.g, one)), dim=self.dim)


def revtorch(run: Run) -> dict[str, Any]:
    def block(f: nn.Module, g: nn.Module, split_along_dim: int = 1) -> Pair:
        return Pair(f, g, split_along_dim, run)

    def sequence(blocks: nn.ModuleList) -> nn.Sequential:
        assert isinstance(blocks, nn.ModuleList)  # as RevTorch asserts
        return nn.Sequential(*blocks)

    return {"revtorch": {}, "revtorch.revtorch": {"ReversibleBlock": block, "ReversibleSequence": sequence}}


def memcnn(run: Run) -> dict[str, Any]:
    def coupling(f: nn.Module, g: nn.Module, split_dim: int = 1) -> Pair:
        return Pair(f, g, split_dim, run)

    def wrapper(pair: Pair, preserve_rng_state: bool = False) -> Pair:
        assert preserve_rng_state
        return pair

    return {"memcnn": {"AdditiveCoupling": coupling, "InvertibleModuleWrapper": wrapper}}


def momentumnet(run: Run) -> dict[str, Any]:
    def network(functions: list[nn.Module], gamma: float, use_backprop: bool = True) -> Callable[[Tensor], Tensor]:
        assert not use_backprop  # its word for storing

        def forward(x: Tensor) -> Tensor:
            v = torch.zeros_like(x)
            for function in functions:
                v = gamma * v + (1 - gamma) * run(function, x)
                x = x + v
            return x

        return forward

    return {"momentumnet": {"MomentumNet": network}}


STAND_INS = {
    "peer-revlib": revlib, "peer-revtorch": revtorch, "peer-memcnn": memcnn, "peer-momentumnet": momentumnet,
}  # fmt: skip


@contextmanager
def instead(name: str, run: Run) -> Iterator[peers.Peer]:
    """Inside, the peer's library is its stand-in, whether it is installed or not."""
    peer = peers.get(name)
    assert peer is not None
    adapter = str(peer.strategy).partition(":")[0]
    with pytest.MonkeyPatch.context() as patch:
        for module, contents in STAND_INS[name](run).items():
            made = types.ModuleType(module)
            vars(made).update(contents)
            patch.setitem(sys.modules, module, made)
        patch.delitem(sys.modules, adapter, raising=False)
        try:
            yield peer
        finally:
            sys.modules.pop(adapter, None)


def workload(dropout: float = 0.0) -> Workload:
    return Workload(gpt(depth=4, dropout=dropout), tokens(), gpt_loss)


def test_every_library_has_a_stand_in() -> None:
    """A new peer is tested here as well."""
    assert STAND_INS.keys() == {peer.name for peer in peers.PEERS if not peer.switch}


@pytest.mark.parametrize("name", STAND_INS)
def test_a_library_is_given_the_equations_that_its_twin_has(name: str) -> None:
    """Functions, their order, streams and parameters: what comes out is the reference's, but for rounding."""
    of = workload()
    with instead(name, at_once) as peer:
        with attach(of.model, peer.twin()):
            expected = of.loss(of.model, of.batch)
        with attach(of.model, peer):
            found = of.loss(of.model, of.batch)
        plain = of.loss(of.model, of.batch)
    torch.testing.assert_close(found, expected)
    assert (found - plain).abs() > 1e-3


@pytest.mark.parametrize("name", STAND_INS)
@pytest.mark.parametrize(("run", "right"), [(at_once, True), (again, True), (forgetful, False)])
def test_a_library_that_draws_other_dropout_in_its_backward_is_shown_to_be_wrong(
    name: str, run: Run, right: bool
) -> None:
    """Its gradient error is far from 0, and no more than rounding where the draws are the forward's."""
    with instead(name, run) as peer:
        error = measure_gradients(workload(dropout=0.2), peer, seed=0).gradient_error
    assert error is not None
    assert error < 1e-5 if right else error > 0.05


@pytest.mark.parametrize("name", STAND_INS)
def test_what_a_library_saves_is_in_the_figures(name: str) -> None:
    """One that runs its functions again holds less than one that does not."""
    held = []
    for run in (again, at_once):
        # So large that blocks outweigh all else.
        of = Workload(gpt(depth=8, width=24, tokens=32), tokens(batch=8, length=32), gpt_loss)
        with instead(name, run) as peer, attach(of.model, peer) as handle:
            held.append(measure_memory(of, handle, of.device).activation_bytes)
    assert held[0] < held[1] / 2


def broken(*_: object, **__: object) -> None:
    raise AttributeError("module 'torch' has no attribute '_gone'")


CASE = Case(
    method="peer-revlib", model="gpt", depth=2, width=16, heads=2, seq=8, batch=2, bits=None, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=0, data=None,
)  # fmt: skip


def case(name: str) -> Case:
    """The case, of another method."""
    return msgspec.structs.replace(CASE, method=name)


@pytest.mark.parametrize("name", STAND_INS)
def test_a_library_that_breaks_on_this_torch_is_a_row_with_its_error(name: str) -> None:
    """What it raised is the message of the case, whose status is `error`."""
    with instead(name, broken):
        found = measured(Plan(case(name), frozenset(MEASUREMENTS)))
    assert found.status == "error"
    assert found.message is not None
    assert "module 'torch' has no attribute '_gone'" in found.message


@pytest.mark.parametrize("name", STAND_INS)
def test_a_library_is_measured_as_any_method(name: str) -> None:
    """Memory, gradients and loss are fields of its record, and the blocks are counted."""
    with instead(name, again):
        found = measured(Plan(case(name), frozenset(MEASUREMENTS) - {"reconstruction"}))
    assert (found.status, found.fields["blocks"]) == ("ok", 2)
    assert found.fields["activation_bytes"] > 0
    assert found.fields["gradient_error"] < 1e-5
    assert found.fields["loss_method"] != found.fields["loss_plain"]
