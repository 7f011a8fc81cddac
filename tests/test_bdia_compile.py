"""`torch.compile` in the forms that people use it in: blocks stay compiled and exact, and the engine is left alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from networks import Errors, gpt, gpt_loss, gradients, same, tokens
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend
from zoo import loss_of, specimen

import bdia

# The compiler warns of this and that in its own code and in what it traces; none of it is ours.
pytestmark = pytest.mark.filterwarnings("default")

DEPTH = 5
PLACES = (1, 3)
"""The blocks that are compiled; the others are not, and serve side by side with them."""


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    """Each test compiles afresh."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Backend:
    """`aot_eager`, counting how often what it compiled is run forward."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        compiled = lookup_backend("aot_eager")(graph, inputs)

        def run(*args: Any) -> Any:
            self.runs += 1
            return compiled(*args)

        return run


def compile_in_place(blocks: nn.ModuleList, backend: Backend) -> None:
    for place in PLACES:
        blocks[place].compile(backend=backend)


def wrap(blocks: nn.ModuleList, backend: Backend) -> None:
    for place in PLACES:
        blocks[place] = torch.compile(blocks[place], backend=backend)


def leave(blocks: nn.ModuleList, backend: Backend) -> None:
    pass


Change = Callable[[nn.ModuleList, Backend], None]

FORMS: dict[str, tuple[Change, Change]] = {
    "block.compile() before attaching": (compile_in_place, leave),
    "block.compile() after attaching": (leave, compile_in_place),
    "layers[i] = torch.compile(block) before attaching": (wrap, leave),
}
"""What is done to the blocks before attaching, and after."""


class Trained:
    """A small model with compiled blocks; its blocks' list and its loss."""

    def __init__(self, name: str) -> None:
        if name == "gpt":
            self.model: nn.Module = gpt(DEPTH, dropout=0.1)
            self.blocks: Any = self.model.transformer.h
            self.loss: Callable[[nn.Module], Tensor] = lambda model: gpt_loss(model, tokens())
        else:
            llama = specimen(name)
            self.model = llama.model()
            self.blocks = self.model.get_submodule("model.layers")
            self.loss = lambda model: loss_of(model, llama.batch())

    def step(self, method: str, after: Change, backend: Backend) -> tuple[dict[str, Tensor | None], Errors]:
        """Gradients of one step, and how x was rebuilt; `backend` counts from the start of the forward."""
        self.model.zero_grad()
        errors = Errors()
        with bdia.attach(self.model, method, seed=3) as handle, handle.observing(errors):
            after(self.blocks, backend)
            backend.runs = 0
            torch.manual_seed(3)
            self.loss(self.model).backward()
        return {name: p.grad for name, p in self.model.named_parameters()}, errors


@pytest.mark.parametrize("name", ["gpt", "llama"])
@pytest.mark.parametrize("form", FORMS)
def test_compiled_blocks_stay_compiled_and_exact(form: str, name: str) -> None:
    """A compiled block runs as compiled code twice, in the forward and as it is rebuilt, and does so exactly."""
    (before, after), backend, trained = FORMS[form], Backend(), Trained(name)
    before(trained.blocks, backend)
    ours, errors = trained.step("bdia", after, backend)
    assert backend.runs == 2 * len(PLACES)
    assert errors.equal == dict.fromkeys(range(DEPTH), True)
    ours = {key: None if grad is None else grad.clone() for key, grad in ours.items()}
    stored, _ = trained.step("bdia-stored", leave, backend)
    assert backend.runs == len(PLACES)
    assert same(ours, stored)


@pytest.mark.parametrize("compile_blocks", [compile_in_place, wrap])
def test_what_was_compiled_before_attaching_is_not_stale(compile_blocks: Change) -> None:
    """Blocks that already ran as compiled code follow the method once it is attached, and no longer once it is not."""
    backend, trained = Backend(), Trained("gpt")
    compile_blocks(trained.blocks, backend)
    trained.loss(trained.model).backward()
    assert backend.runs == len(PLACES)
    _, errors = trained.step("bdia", leave, backend)
    assert backend.runs == 2 * len(PLACES)
    assert errors.equal == dict.fromkeys(range(DEPTH), True)
    trained.loss(trained.model).backward()
    assert backend.runs == 3 * len(PLACES)


@pytest.mark.parametrize("ran_before", [False, True])
def test_a_compiled_model_follows_the_method(ran_before: bool) -> None:
    """`torch.compile(model)` stops at the engine: even where the compiled model ran before attaching, its gradients are
    those of the stored twin, and once detached they are the plain model's."""
    backend, trained = Backend(), Trained("gpt")
    expected, _ = trained.step("bdia-stored", leave, backend)
    expected = {key: None if grad is None else grad.clone() for key, grad in expected.items()}
    compiled, plain = torch.compile(trained.model, backend="aot_eager"), trained.loss
    if ran_before:
        plain(compiled).backward()
    trained.loss = lambda model: plain(compiled)
    ours, errors = trained.step("bdia", leave, backend)
    assert errors.equal == dict.fromkeys(range(DEPTH), True)
    assert same(ours, expected)
    torch.manual_seed(3)
    after = plain(compiled)
    torch.manual_seed(3)
    assert torch.equal(after, plain(trained.model))


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles C++ for a CPU, and here is no compiler")
def test_inductors_fused_kernels_and_its_dropout_are_repeated() -> None:
    """Inductor fuses across a block and draws its dropout from seeds of its own: forward and rerun agree all the
    same, and so does the stored twin."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return x + nn.functional.dropout(self.inner(x).tanh(), 0.3)

    torch.manual_seed(0)
    model = nn.Sequential(*(Block() for _ in range(3)))
    model[1].compile(backend="inductor")
    x = torch.randn(2, 5, 6)

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return model(x).square().mean()

    ours, errors = gradients(model, x, "bdia", loss=loss, blocks=list(model))
    stored, _ = gradients(model, x, "bdia-stored", loss=loss, blocks=list(model))
    assert errors.equal == dict.fromkeys(range(3), True)
    assert same(ours, stored)
