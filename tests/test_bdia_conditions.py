"""The conditions people train under, each on unmodified models of several kinds: all exact."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from conditions import CONDITIONS, Condition, Step
from networks import Errors, same
from torch import Tensor, nn
from zoo import SUBJECTS, Subject, loss_of

import bdia

Outcome = dict[str, Tensor | None]

# Hugging Face has given `gradient_checkpointing_enable` another name, which its own peft does not use yet; torch warns
# of backward hooks on a module whose x comes by keyword. Neither has to do with a method.
foreign_warnings = pytest.mark.filterwarnings(
    "ignore:.*is deprecated and will be removed in v6:FutureWarning", "ignore:Full backward hook is firing:UserWarning"
)


def run(subject: Subject, condition: Condition, method: str, seed: int) -> tuple[Outcome, list[Errors]]:
    """Gradients, parameters, buffers and what hooks saw, after one step from a fixed start; and how x was rebuilt."""
    model = condition.prepare(subject, subject.specimen.model(seed))
    with bdia.attach(model, method, seed=seed) as handle:
        step = Step(subject, model, handle)
        torch.manual_seed(seed)
        condition.train(step)
    outcome: Outcome = {f"grad of {name}": parameter.grad for name, parameter in model.named_parameters()}
    outcome |= {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    outcome |= {f"seen {index}": tensor for index, tensor in enumerate(step.seen)}
    return outcome, step.errors


@foreign_warnings
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_conditions(condition: Condition, subject: Subject, seed: int) -> None:
    """Under each condition every x the backward needs is rebuilt with `torch.equal`, and all that training leaves
    behind is bit for bit what the stored twin leaves."""
    ours, errors = run(subject, condition, "bdia", seed)
    stored, _ = run(subject, condition, "bdia-stored", seed)
    assert errors
    for each in errors:
        assert each.equal
        assert all(each.equal.values())
        assert not condition.rebuilds_all or each.equal.keys() == each.forward.keys()
    assert same(ours, stored)


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_bf16_parameters_leave_the_stream_in_fp32(subject: Subject) -> None:
    """Whatever the blocks compute in, what goes from one to the next keeps its 24 bits."""
    (condition,) = (each for each in CONDITIONS if each.name == "bf16 parameters")
    _, (errors,) = run(subject, condition, "bdia", 0)
    assert {x.dtype for x in errors.forward.values()} == {torch.float32}


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_copy_trains_on_its_own(subject: Subject, how: Callable[[nn.Module], nn.Module]) -> None:
    """A copy of an attached model (an EMA) has its own blocks and its own count of forwards, and goes on exactly."""
    model, batch = subject.specimen.model(), subject.specimen.batch()

    def loss(model: nn.Module) -> Tensor:
        torch.manual_seed(1)
        return loss_of(model, batch)

    with bdia.attach(model, "bdia", seed=2) as handle:
        loss(model)
        twin = how(model)
        assert torch.equal(loss(twin), loss(model))  # both count their second forward
        state = handle.state_dict()
        third = loss(twin)
        third.backward()
        assert all(parameter.grad is None for parameter in model.parameters())
    grads = {name: parameter.grad for name, parameter in twin.named_parameters()}
    with bdia.attach(model, "bdia-stored") as handle:
        handle.load_state_dict(state)
        again = loss(model)
        again.backward()
    assert torch.equal(again, third)
    assert same(grads, {name: parameter.grad for name, parameter in model.named_parameters()})
