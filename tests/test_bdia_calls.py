"""Blocks that are called, or that answer, in other ways than most; that are shared, left out, lent other weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from networks import Errors, same
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutput

import bdia
from bdia.errors import ReconstructionError, TapeError

Outcome = dict[str, Tensor | None]


@dataclass
class Output:
    """A plain dataclass, of no library."""

    hidden: Tensor
    norm: Tensor


class Block(nn.Module):
    """x + tanh(Wx), answered in the form that `wrap` gives it."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.wrap = wrap

    def forward(self, hidden_states: Tensor, scale: Tensor | None = None) -> Any:
        h = self.inner(hidden_states).tanh()
        y = hidden_states + (h if scale is None else h * scale)
        return self.wrap(y, h.square().mean())


class Stack(nn.Module):
    """Blocks called and unwrapped in given ways; its loss includes what they answer beside x."""

    def __init__(
        self,
        wrap: Callable[[Tensor, Tensor], Any] = lambda y, norm: (y, norm),
        unwrap: Callable[[Any], tuple[Tensor, Tensor]] = lambda output: output,
        call: Callable[[nn.Module, Tensor, Tensor], Any] = lambda block, x, scale: block(x, scale=scale),
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(wrap) for _ in range(5))
        self.scale = nn.Parameter(torch.ones(6))
        self.unwrap, self.call = unwrap, call

    def forward(self, x: Tensor) -> Tensor:
        total, scale = x.new_zeros(()), self.scale.exp()
        for layer in self.layers:
            x, norm = self.unwrap(self.call(layer, x, scale))
            total = total + norm
        return x.square().mean() + total


ANSWERS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "a tensor": (lambda y, norm: y, lambda output: (output, output.mean())),
    "a tuple": (lambda y, norm: (y, norm), lambda output: output),
    "a list": (lambda y, norm: [y, norm], lambda output: (output[0], output[1])),
    "a dict": (
        lambda y, norm: {"hidden_states": y, "norm": norm},
        lambda output: (output["hidden_states"], output["norm"]),
    ),
    "a dataclass": (Output, lambda output: (output.hidden, output.norm)),
    "a ModelOutput": (
        lambda y, norm: BaseModelOutput(last_hidden_state=y, hidden_states=(norm,)),
        lambda output: (output.last_hidden_state, output.hidden_states[0]),
    ),
}

CALLS: dict[str, Callable[[nn.Module, Tensor, Tensor], Any]] = {
    "positional": lambda block, x, scale: block(x, scale),
    "x positional, the rest by name": lambda block, x, scale: block(x, scale=scale),
    "by name": lambda block, x, scale: block(hidden_states=x, scale=scale),
    "by name, x last": lambda block, x, scale: block(scale=scale, hidden_states=x),
}


def stack_outcome(method: str, build: Callable[[], nn.Module]) -> tuple[Outcome, Errors]:
    torch.manual_seed(0)
    model, x, errors = build().train(), torch.randn(3, 4, 6, requires_grad=True), Errors()
    with bdia.attach(model, method, seed=5) as handle, handle.observing(errors):
        model(x).backward()
    return {**{name: p.grad for name, p in model.named_parameters()}, "x": x.grad}, errors


def assert_exact(build: Callable[[], nn.Module], calls: int = 5) -> None:
    ours, errors = stack_outcome("bdia", build)
    stored, _ = stack_outcome("bdia-stored", build)
    assert errors.equal == dict.fromkeys(range(calls), True)
    assert same(ours, stored)


@pytest.mark.parametrize("answer", ANSWERS)
def test_blocks_may_answer_in_any_form(answer: str) -> None:
    """x is found in what a block returns, and what comes beside it keeps its form and its gradient."""
    wrap, unwrap = ANSWERS[answer]
    assert_exact(lambda: Stack(wrap, unwrap))


@pytest.mark.parametrize("call", CALLS)
def test_blocks_may_be_called_in_any_form(call: str) -> None:
    """x may be given by name; a learned tensor beside it gets its gradient either way."""
    assert_exact(lambda: Stack(call=CALLS[call]))


def test_a_block_that_answers_without_a_tensor_is_refused() -> None:
    """The error says what came and what was expected."""
    model = Stack(lambda y, norm: "nothing").train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="returned a str: expected a tensor"):
        model(torch.randn(3, 4, 6))


class Passing(Block):
    """Stochastic depth: now and then x comes out as it went in, the same tensor."""

    def forward(self, hidden_states: Tensor, scale: Tensor | None = None) -> Any:
        if torch.rand(()) < 0.4:
            return self.wrap(hidden_states, hidden_states.new_zeros(()))
        return super().forward(hidden_states, scale)


def test_a_block_may_return_its_own_x() -> None:
    """h = 0, and no copy."""

    def build() -> nn.Module:
        model = Stack()
        model.layers = nn.ModuleList(Passing(lambda y, norm: (y, norm)) for _ in range(8))
        return model

    assert_exact(build, calls=8)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_functional_calls_are_exact_or_refused(factor: float) -> None:
    """Weights lent to a model for one forward get the gradients of stored activations where a rerun finds weights of
    the same value; where it does not, it is an error."""
    grads: dict[str, Outcome] = {}

    def train(method: str) -> None:
        torch.manual_seed(0)
        model, x = Stack().train(), torch.randn(3, 4, 6)
        lent = {name: (p.detach() * factor).requires_grad_() for name, p in model.named_parameters()}
        with bdia.attach(model, method, seed=1):
            torch.func.functional_call(model, lent, (x,)).backward()
        grads[method] = {name: tensor.grad for name, tensor in lent.items()}

    train("bdia-stored")
    if factor == 1.0:
        train("bdia")
        assert same(grads["bdia"], grads["bdia-stored"])
    else:
        with pytest.raises(ReconstructionError, match=r"layers\.\d computed something else"):
            train("bdia")


def test_shared_blocks_are_calls_like_any_other() -> None:
    """A block that stands in the list several times is trained with the sum of its gradients."""

    def build() -> nn.Module:
        model = Stack()
        first, second = model.layers[0], model.layers[1]
        model.layers = nn.ModuleList([first, second, first, first, second])
        return model

    assert_exact(build)


def test_running_statistics_are_updated_once() -> None:
    """Batch norm inside blocks ends with the statistics, and the count of batches, of stored activations."""

    def build() -> nn.Module:
        model = Stack()
        for layer in model.layers:
            layer.inner = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(4), nn.Linear(6, 6))
        return model

    assert_exact(build)
    buffers: dict[str, Outcome] = {}
    for method in ("bdia", "bdia-stored"):
        torch.manual_seed(0)
        model = build().train()
        with bdia.attach(model, method, seed=5):
            for _ in range(2):
                model(torch.randn(3, 4, 6)).backward()
        buffers[method] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert same(buffers["bdia"], buffers["bdia-stored"])
    counts = [tensor for name, tensor in buffers["bdia"].items() if name.endswith("num_batches_tracked")]
    assert counts == [2] * 5


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpoint_around_each_block_is_refused(use_reentrant: bool) -> None:
    """A loop that checkpoints its blocks runs them again where they have no place in a chain."""

    def call(block: nn.Module, x: Tensor, scale: Tensor) -> Any:
        return checkpoint(block, x, scale, use_reentrant=use_reentrant)

    model = Stack(call=call).train()
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match="checkpoint"):
        model(torch.randn(3, 4, 6, requires_grad=True)).backward()
