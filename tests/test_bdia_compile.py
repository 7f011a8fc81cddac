"""`torch.compile` in the forms that people use it in: blocks stay compiled and exact, and the engine is left alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from networks import Errors, gpt, gradients, same, tokens
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend
from zoo import Specimen, loss_of, specimen

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

        run._boxed_call = False  # type: ignore[attr-defined]
        return run


def layers(model: nn.Module) -> nn.ModuleList:
    return model.get_submodule("bert.encoder.layer" if hasattr(model, "bert") else "model.layers")  # type: ignore[return-value]


def compile_before(model: nn.Module, backend: Any) -> None:
    for place in PLACES:
        layers(model)[place].compile(backend=backend)


def wrap_before(model: nn.Module, backend: Any) -> None:
    for place in PLACES:
        layers(model)[place] = torch.compile(layers(model)[place], backend=backend)


def leave(model: nn.Module, backend: Any) -> None:
    pass


FORMS = {
    "block.compile() before attaching": (compile_before, leave),
    "block.compile() after attaching": (leave, compile_before),
    "layers[i] = torch.compile(block) before attaching": (wrap_before, leave),
}


def step(
    subject: Specimen,
    method: str,
    before: Callable[[nn.Module, Any], None],
    after: Callable[[nn.Module, Any], None],
    backend: Any,
    run_first: bool = False,
) -> tuple[dict[str, Tensor | None], Errors]:
    """Gradients of one step, its blocks compiled before or after attaching, and how x was rebuilt."""
    model, batch, errors = subject.model(), subject.batch(), Errors()
    before(model, backend)
    if run_first:  # compiled code of the plain model is there when the method is attached
        loss_of(model, batch).backward()
        model.zero_grad()
    with bdia.attach(model, method, seed=3) as handle, handle.observing(errors):
        after(model, backend)
        if isinstance(backend, Backend):
            backend.runs = 0
        torch.manual_seed(3)
        loss_of(model, batch).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, errors


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("form", FORMS)
def test_compiled_blocks_stay_compiled_and_exact(form: str, name: str) -> None:
    """A compiled block is run as compiled code twice, forward and rerun, and rebuilt with `torch.equal`."""
    backend = Backend()
    ours, errors = step(specimen(name), "bdia", *FORMS[form], backend)
    assert errors.equal == dict.fromkeys(range(DEPTH), True)
    assert backend.runs == 2 * len(PLACES)
    stored, _ = step(specimen(name), "bdia-stored", *FORMS[form], backend)
    assert backend.runs == len(PLACES)
    assert same(ours, stored)


@pytest.mark.parametrize(
    "form", ["block.compile() before attaching", "layers[i] = torch.compile(block) before attaching"]
)
def test_code_compiled_before_attaching_is_not_stale(form: str) -> None:
    """Blocks that ran compiled before a method was attached follow it from then on."""
    ours, errors = step(specimen("llama"), "bdia", *FORMS[form], Backend(), run_first=True)
    stored, _ = step(specimen("llama"), "bdia-stored", *FORMS[form], Backend(), run_first=True)
    assert errors.equal == dict.fromkeys(range(DEPTH), True)
    assert same(ours, stored)


@pytest.mark.parametrize("run_first", [False, True])
def test_a_compiled_model_follows_the_method(run_first: bool) -> None:
    """`torch.compile(model)` stops at the engine: the gradients are those of the attached model itself, even where
    the compiled model ran before."""
    llama = specimen("llama")
    model, batch, errors = llama.model(), llama.batch(), Errors()
    compiled = torch.compile(model, backend="aot_eager")
    if run_first:
        loss_of(compiled, batch).backward()
        model.zero_grad()
    with bdia.attach(model, "bdia", seed=3) as handle, handle.observing(errors):
        torch.manual_seed(3)
        loss_of(compiled, batch).backward()
    stored, _ = step(llama, "bdia-stored", leave, leave, None)
    assert errors.equal == dict.fromkeys(range(DEPTH), True)
    assert same({name: parameter.grad for name, parameter in model.named_parameters()}, stored)


def test_detached_models_are_compiled_as_before() -> None:
    """After detaching, a compiled block is run as compiled code, and once."""
    llama, backend = specimen("llama"), Backend()
    model, batch = llama.model(), llama.batch()
    compile_before(model, backend)
    with bdia.attach(model, "bdia"):
        loss_of(model, batch).backward()
    backend.runs = 0
    loss_of(model, batch).backward()
    assert backend.runs == len(PLACES)


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles C++ for a CPU, and here is no compiler")
def test_inductors_fused_kernels_and_its_dropout_are_repeated() -> None:
    """Inductor fuses across a block and draws its dropout from seeds of its own: forward and rerun agree all the
    same, and so does the stored twin."""
    batch, outcomes = tokens(), {}
    model = gpt(3, dropout=0.2)
    model.transformer.h[1].compile(backend="inductor")
    for method in ("bdia", "bdia-stored"):
        outcomes[method] = gradients(model, batch, method)
    assert outcomes["bdia"][1].equal == dict.fromkeys(range(3), True)
    assert same(outcomes["bdia"][0], outcomes["bdia-stored"][0])
