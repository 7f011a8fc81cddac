"""Architectures that people have, unmodified: each one attaches, is exact, and is itself again afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import Errors, same
from torch import Tensor, nn
from zoo import ZOO, Batch, Specimen, loss_of

import bdia

every = pytest.mark.parametrize("specimen", ZOO, ids=str)


def step(specimen: Specimen, model: nn.Module, method: str | None) -> tuple[Tensor, dict[str, Tensor | None], Errors]:
    """A forward and backward from a fixed RNG state: the loss, all gradients, and how x was rebuilt. `method` None is
    the model alone."""
    batch, errors = specimen.batch(), Errors()
    model.zero_grad()
    if method is None:
        torch.manual_seed(3)
        loss = loss_of(model, batch)
        loss.backward()
    else:
        with bdia.attach(model, method, seed=3) as handle, handle.observing(errors):
            torch.manual_seed(3)
            loss = loss_of(model, batch)
            loss.backward()
    given = {**dict(model.named_parameters()), **{f"batch.{name}": tensor for name, tensor in batch.items()}}
    return loss.detach(), {name: None if t.grad is None else t.grad.clone() for name, t in given.items()}, errors


@every
def test_every_call_is_rebuilt_and_gradients_are_exact(specimen: Specimen) -> None:
    """Each x_k is rebuilt with `torch.equal`, and every gradient, of parameters and of the batch, is the twin's."""
    model = specimen.model()
    loss, ours, errors = step(specimen, model, "bdia")
    twin_loss, stored, _ = step(specimen, model, "bdia-stored")
    assert torch.equal(loss, twin_loss)
    assert errors.equal == dict.fromkeys(range(len(errors.forward)), True)
    assert specimen.calls in (None, len(errors.forward))
    assert len(errors.forward) > 1
    assert same(ours, stored)


@every
def test_verify_raises_no_false_alarm(specimen: Specimen) -> None:
    """With `verify=True`, which compares every x and y, an exact step goes through, with the same gradients."""
    model, batch, outcomes = specimen.model(), specimen.batch(), []
    for verify in (False, True):
        model.zero_grad()
        with bdia.attach(model, "bdia", seed=3, verify=verify):
            torch.manual_seed(3)
            loss_of(model, batch).backward()
        outcomes.append({name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()})
    assert same(*outcomes)


@every
def test_a_rehearsal_foresees_what_training_does(specimen: Specimen) -> None:
    """Every block is found stable, and the side bits foretold are those that a training forward then holds."""
    model, batch = specimen.model(), specimen.batch()
    torch.manual_seed(3)
    rehearsal = bdia.rehearse(model, lambda: loss_of(model, batch), seed=3)
    assert rehearsal.stable, [block.name for block in rehearsal.blocks if not block.stable]
    assert specimen.calls in (None, len(rehearsal.blocks))
    with bdia.attach(model, "bdia", seed=3) as handle:
        torch.manual_seed(3)
        loss_of(model, batch)
        assert handle.side_bytes == rehearsal.side_bytes > 0
        assert handle.chains == rehearsal.chains
        assert handle.headroom == rehearsal.headroom


@every
def test_standard_is_the_plain_model(specimen: Specimen) -> None:
    """With `standard` attached, loss and gradients are those of the model alone, bit for bit."""
    model = specimen.model()
    plain_loss, plain, _ = step(specimen, model, None)
    loss, ours, _ = step(specimen, model, "standard")
    assert torch.equal(loss, plain_loss)
    assert same(ours, plain)


def answers(specimen: Specimen, model: nn.Module) -> list[Tensor]:
    """All tensors that the model answers with in eval mode, and what it generates, greedily."""
    batch: Batch = specimen.batch()
    model.eval()
    with torch.no_grad():
        output: Any = model(**batch)
        found = [output] if isinstance(output, Tensor) else [t for t in output.to_tuple() if isinstance(t, Tensor)]
        if specimen.prompt is not None:
            given = {specimen.prompt: batch[specimen.prompt]}
            generated = model.generate(**given, max_new_tokens=4, do_sample=False, pad_token_id=0)
            found.append(generated)
    model.train()
    return found


@every
def test_eval_generation_and_names_stay_as_they_are(specimen: Specimen) -> None:
    """While attached, eval output, greedy generation and `state_dict` are the plain model's; once detached, no module
    keeps a forward of ours."""
    model = specimen.model()
    keys, plain = list(model.state_dict()), answers(specimen, model)
    own = {name: module.__dict__.get("forward") for name, module in model.named_modules()}
    with bdia.attach(model, "bdia", seed=3):
        loss_of(model, specimen.batch()).backward()  # generation after a training forward meets no remains of it
        assert list(model.state_dict()) == keys
        attached = answers(specimen, model)
    assert len(attached) == len(plain) > 0
    assert all(torch.equal(a, b) for a, b in zip(attached, plain, strict=True))
    assert {name: module.__dict__.get("forward") for name, module in model.named_modules()} == own
    assert list(model.state_dict()) == keys
