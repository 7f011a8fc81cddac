"""What cannot be rebuilt through: refused by name on unmodified models, never a wrong gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from zoo import SUBJECTS, Subject, loss_of

import bdia
from bdia.errors import TapeError


@pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_the_models_own_checkpointing_is_refused(subject: Subject, when: str) -> None:
    """Hugging Face's gradient checkpointing, turned on before attaching or after, is an error that says how to turn it
    off; evaluation goes on, and so does training once it is off."""
    model, batch = subject.specimen.model(), subject.specimen.batch()
    if when == "before":
        model.gradient_checkpointing_enable()
    with bdia.attach(model, "bdia"):
        if when == "after":
            model.gradient_checkpointing_enable()
        with pytest.raises(TapeError, match=r"gradient_checkpointing_disable\(\)"):
            loss_of(model, batch)
        loss_of(model.eval(), batch)
        model.train().gradient_checkpointing_disable()
        loss_of(model, batch).backward()


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_an_outer_checkpoint_is_refused(subject: Subject, use_reentrant: bool) -> None:
    """A model run again inside a backward would draw other γ."""
    model, batch = subject.specimen.model(), subject.specimen.batch()
    anchor = torch.ones((), requires_grad=True)  # what reentrant checkpoints need to take part in the graph

    def forward(anchor: Tensor) -> Tensor:
        return loss_of(model, batch) * anchor

    with bdia.attach(model, "bdia"):
        loss = checkpoint(forward, anchor, use_reentrant=use_reentrant)
        with pytest.raises(TapeError, match="run again inside a backward"):
            loss.backward()


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_a_second_backward_is_refused(subject: Subject) -> None:
    """What the first one rebuilt it has used and freed."""
    model = subject.specimen.model()
    with bdia.attach(model, "bdia"):
        loss = loss_of(model, subject.specimen.batch())
        loss.backward(retain_graph=True)
        with pytest.raises(TapeError, match="second backward"):
            loss.backward()


def replace_output(module: nn.Module, args: Any, output: Any) -> Any:
    """A forward hook that makes another x."""
    return output * 1.5 if isinstance(output, Tensor) else (output[0] * 1.5, *output[1:])


def change_output(module: nn.Module, args: Any, output: Any) -> None:
    """A forward hook that writes into x."""
    with torch.no_grad():
        (output if isinstance(output, Tensor) else output[0]).mul_(1.5)


def replace_input(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """A forward pre-hook that makes another x."""
    return (args[0] * 1.5, *args[1:]), kwargs


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("hook", [replace_output, change_output, replace_input])
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_hooks_that_change_x_between_blocks_are_refused(subject: Subject, hook: Any, place: int) -> None:
    """A hook may look at x; what changes it breaks the chain, and the error names the block that it reached."""
    model = subject.specimen.model()
    block = subject.blocks(model)[place + (hook is replace_input)]
    if hook is replace_input:
        block.register_forward_pre_hook(hook, with_kwargs=True)
    else:
        block.register_forward_hook(hook)
    with bdia.attach(model, "bdia"), pytest.raises(TapeError, match=rf"\.{place + 1} .*(another x|changed in place)"):
        loss_of(model, subject.specimen.batch())
