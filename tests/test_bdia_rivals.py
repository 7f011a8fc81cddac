"""The rivals: rules beside their inverses, and strategies that keep something else."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from networks import gpt, gpt_loss, gradients, same, tokens, trained
from torch import Tensor, nn

import bdia
from bdia.backprop import Watcher
from bdia.errors import HeadroomError, MethodError, ReconstructionError, TapeError
from bdia.methods import CHECKPOINT, METHODS, OFFLOAD, REVERSIBLE, SEGMENTS, SELECTIVE, STORED, Method, get
from bdia.rules.leapfrog import ExactLeapfrog, Leapfrog
from bdia.rules.momentum import Momentum
from bdia.rules.two_stream import TwoStream
from bdia.updates import Rule

ONE_MORE_RUN = ("checkpoint", "checkpoint-segments", "checkpoint-selective")
FLOATING = ("two-stream", "momentum", "leapfrog")


def states(rule: Rule, x: Tensor, blocks: list[Callable[[Tensor], Tensor]]) -> list[Any]:
    """The states of a forward, from before the first block to after the last."""
    found = [rule.start(x)]
    for block in blocks:
        found.append(rule.step(found[-1], block(rule.input(found[-1])), None)[0])
    return found


def affine(seed: int, count: int = 6) -> tuple[Tensor, list[Callable[[Tensor], Tensor]], list[Tensor]]:
    """x_0, residual blocks y = x + tanh(x W), and their W."""
    torch.manual_seed(seed)
    weights = [torch.randn(5, 5) for _ in range(count)]
    return torch.randn(3, 5), [lambda x, w=w: x + torch.tanh(x @ w) for w in weights], weights


@pytest.mark.parametrize("seed", range(3))
def test_leapfrog_is_its_equation(seed: int) -> None:
    """x_1 = x_0 + h, x₊ = x₋ + 2h, against numbers of 64 bits."""
    x, blocks, weights = affine(seed)
    expected = [x.double()]
    for number, w in enumerate(weights):
        h = torch.tanh(expected[-1] @ w.double())
        expected.append(expected[-1] + h if number == 0 else expected[-2] + 2 * h)
    for state, wanted in zip(states(Leapfrog(), x, blocks), expected, strict=True):
        assert torch.allclose(state[-1].double(), wanted, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_two_streams_are_coupled_in_turn(seed: int) -> None:
    """y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁) with F and G of blocks that follow one another; the model gets their mean."""
    x, blocks, weights = affine(seed)
    one, two = x.double(), x.double()
    for f, g in zip(weights[::2], weights[1::2], strict=True):
        one = one + torch.tanh(two @ f.double())
        two = two + torch.tanh(one @ g.double())
    last = states(TwoStream(), x, blocks)[-1]
    assert torch.allclose(last[0].double(), one, atol=1e-4)
    assert torch.allclose(last[1].double(), two, atol=1e-4)
    assert torch.equal(TwoStream().output(last), (last[0] + last[1]) / 2)


@pytest.mark.parametrize("mu", [0.9, 0.25])
def test_momentum_is_its_equation(mu: float) -> None:
    """v₊ = μv + (1 - μ)h, x₊ = x + v₊, from v = 0."""
    x, blocks, weights = affine(0)
    position, velocity = x.double(), torch.zeros(3, 5, dtype=torch.float64)
    for w in weights:
        velocity = mu * velocity + (1 - mu) * torch.tanh(position @ w.double())
        position = position + velocity
    last = states(Momentum(mu), x, blocks)[-1]
    assert torch.allclose(last[0].double(), velocity, atol=1e-5)
    assert torch.allclose(last[1].double(), position, atol=1e-5)


@pytest.mark.parametrize("mu", [0.0, 1.0, -0.5, float("nan")])
def test_a_momentum_that_cannot_be_taken_back_is_refused(mu: float) -> None:
    with pytest.raises(MethodError, match="between 0 and 1"):
        Momentum(mu)


@pytest.mark.parametrize("bits", [6, 9, 15])
@pytest.mark.parametrize("seed", range(3))
def test_leapfrog_with_q_is_taken_back_bit_for_bit(seed: int, bits: int) -> None:
    """Every state is a multiple of 2^-l, and `undo` gives back the one before, with nothing kept."""
    x, blocks, _ = affine(seed)
    rule = ExactLeapfrog(bits)
    found = states(rule, x, blocks)
    for number in range(1, len(blocks)):
        before, after = found[number], found[number + 1]
        assert torch.equal(after[1] * 2.0**bits, (after[1] * 2.0**bits).round())
        back = rule.undo(after, blocks[number](rule.input_back(after)), None, None)
        assert all(torch.equal(one, other) for one, other in zip(back, before, strict=True) if one is not None)


@pytest.mark.parametrize("rule", [TwoStream(), Momentum(), Leapfrog()], ids=lambda rule: type(rule).__name__)
def test_inverses_in_floating_point_are_near(rule: Rule) -> None:
    """The state before a step comes back but for rounding."""
    x, blocks, _ = affine(1)
    found = states(rule, x, blocks)
    for number in range(len(blocks) - 1, 1, -1):
        back = rule.undo(found[number + 1], blocks[number](rule.input_back(found[number + 1])), None, None)
        for one, other in zip(back, found[number], strict=True):
            assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_gradients_are_those_of_the_stored_twin(method: Method, seed: int, dropout: float) -> None:
    """Bit for bit where nothing is inverted in floating point, on trained weights; else within its rounding."""
    model, batch = gpt(dropout=dropout, seed=seed), tokens(5, seed=seed)
    with trained(model, batch, 3):
        ours, errors = gradients(model, batch, method, seed=seed)
        theirs, _ = gradients(model, batch, method.twin(), seed=seed)
    if method.name in (*FLOATING, "bdia-naive"):
        assert not same(ours, theirs)
        assert relative(ours, theirs) < 1e-4
        assert max(errors.largest.values()) < 1e-3
    else:
        assert same(ours, theirs)
        assert all(errors.equal.values())
    assert errors.equal or not method.reversible


@pytest.mark.parametrize("name", ["standard", "two-stream", "momentum", "leapfrog", "leapfrog-exact", "bdia"])
@pytest.mark.parametrize("strategy", [CHECKPOINT, SELECTIVE, OFFLOAD])
def test_every_rule_goes_with_every_strategy_that_stores(name: str, strategy: str) -> None:
    """What is stored, computed again or moved does not change a bit of the gradients."""
    model, batch = gpt(dropout=0.2), tokens(4)
    method = replace(get(name), strategy=strategy, reversible=False)
    ours, _ = gradients(model, batch, method)
    theirs, _ = gradients(model, batch, method.twin())
    assert same(ours, theirs)


@pytest.mark.parametrize("name", ["checkpoint-segments", "checkpoint-selective", "two-stream", "leapfrog-exact"])
@pytest.mark.parametrize("parts", [2, 3])
def test_rivals_turn_the_dial_as_well(name: str, parts: int) -> None:
    """Batches cut inside each block, and blocks that keep their graph."""
    model, batch = gpt(dropout=0.2), tokens(5)
    found = []
    for method, keep in ((get(name).twin(), 0), (get(name), 0), (get(name), 2)):
        model.zero_grad()
        torch.manual_seed(0)
        with bdia.attach(model, method, micro_batches=parts, keep=keep, seed=0):
            gpt_loss(model, batch).backward()
        found.append({label: p.grad.clone() for label, p in model.named_parameters() if p.grad is not None})
    bound = 1e-5 if name in FLOATING else 0.0
    assert relative(found[1], found[0]) <= bound
    assert relative(found[2], found[0]) <= bound


@pytest.mark.parametrize("name", ONE_MORE_RUN)
def test_each_block_is_run_twice(name: str) -> None:
    """Once forward and once again, whatever is stored of it."""
    model, batch = gpt(depth=7), tokens()
    runs = dict.fromkeys(range(7), 0)
    for number, block in enumerate(model.transformer.h):
        block.ln_1.register_forward_hook(lambda *_, number=number: runs.__setitem__(number, runs[number] + 1))
    gradients(model, batch, name)
    assert set(runs.values()) == {2}


def test_a_segment_ends_where_something_happens_between_blocks() -> None:
    """A hook that replaces x between two blocks is the model's own business, and is not run again."""
    model, batch = gpt(dropout=0.2), tokens()
    model.transformer.h[1].register_forward_hook(lambda _, __, y: 1.5 * y)
    ours, _ = gradients(model, batch, "checkpoint-segments")
    theirs, _ = gradients(model, batch, "standard")
    assert same(ours, theirs)


def test_segments_hold_one_x_each() -> None:
    """Of 16 blocks' inputs four are alive once the forward is over, and with `checkpoint` all."""
    model, batch = gpt(depth=16), tokens(4)
    alive = {}
    for name in ("checkpoint", "checkpoint-segments"):
        inputs = Inputs()
        with bdia.attach(model, name) as handle, handle.observing(inputs):
            loss = gpt_loss(model, batch)
            alive[name] = sum(storage() is not None for storage in inputs.storages)
            loss.backward()
    assert alive == {"checkpoint": 16, "checkpoint-segments": 4}


class Inputs(Watcher):
    """A watcher that remembers the blocks' inputs, and keeps none alive."""

    def __init__(self) -> None:
        self.storages: list[Callable[[], object]] = []

    def forwarded(self, call: int, x: Tensor) -> None:
        self.storages.append(weakref.ref(x.untyped_storage()))


@pytest.mark.parametrize("name", ONE_MORE_RUN)
@pytest.mark.parametrize("frozen", ["wte", "ln_1", "mlp", "h.0", "h.4"])
def test_frozen_parameters_get_no_gradient_and_the_others_theirs(name: str, frozen: str) -> None:
    """Embeddings, norms, whole blocks below and above."""
    model, batch = gpt(dropout=0.2), tokens()
    for label, parameter in model.named_parameters():
        parameter.requires_grad_(frozen not in label)
    ours, _ = gradients(model, batch, name)
    theirs, _ = gradients(model, batch, "standard")
    assert same(ours, theirs)


@pytest.mark.parametrize("name", [*ONE_MORE_RUN, "two-stream", "momentum", "leapfrog-exact"])
def test_autocast_is_that_of_the_forward_wherever_the_backward_runs(name: str) -> None:
    """bf16 in the forward, a backward outside of it."""
    model, batch = gpt(dropout=0.1), tokens()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return gpt_loss(model, batch)

    ours, _ = gradients(model, batch, name, loss=loss)
    theirs, _ = gradients(model, batch, get(name).twin(), loss=loss)
    assert relative(ours, theirs) <= (1e-2 if name in FLOATING else 0.0)


@pytest.mark.parametrize("name", ["two-stream", "momentum", "leapfrog", "leapfrog-exact"])
def test_a_model_of_16_bits_has_a_stream_of_32(name: str) -> None:
    """What is passed from block to block is narrow, and the state goes on in fp32."""
    model, batch = gpt().to(torch.bfloat16), tokens()
    ours, errors = gradients(model, batch, name)
    theirs, _ = gradients(model, batch, get(name).twin())
    assert all(x.dtype == torch.float32 for x in errors.forward.values())
    assert relative(ours, theirs) <= (5e-2 if name in FLOATING else 0.0)


def test_a_retained_graph_can_be_gone_back_through_twice() -> None:
    """Each backward runs the segments again, and gives the same gradients."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, "checkpoint-segments"):
        loss = gpt_loss(model, batch)
        loss.backward(retain_graph=True)
        once = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        loss.backward()
    assert all(torch.equal(p.grad, 2 * once[name]) for name, p in model.named_parameters() if p.grad is not None)


def test_a_segment_whose_rerun_differs_says_so() -> None:
    """A block that takes another path when it is run again saves another number of tensors."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, "checkpoint-segments"):
        loss = gpt_loss(model, batch)
        model.transformer.h[1].register_forward_hook(lambda _, __, y: (y * y).sigmoid())
        model.transformer.h[1].mlp.register_forward_hook(lambda _, __, y: (y * y).sigmoid())
        with pytest.raises(ReconstructionError, match="saved other tensors for their backward when they were rerun"):
            loss.backward()


def test_weights_changed_before_the_backward_are_noticed() -> None:
    """An optimiser's step between forward and backward would have the segment computed with other weights."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, "checkpoint-segments"):
        loss = gpt_loss(model, batch)
        with torch.no_grad():
            model.transformer.h[0].mlp.c_fc.weight.add_(1.0)
        with pytest.raises(TapeError, match="changed in place between forward and backward"):
            loss.backward()


def test_segments_are_for_the_plain_transformer() -> None:
    """A rule that computes something between blocks says which strategies it can have."""
    method = replace(get("bdia"), strategy=SEGMENTS, reversible=False)
    with pytest.raises(MethodError, match="use strategy 'checkpoint' with it"):
        bdia.attach(gpt(), method)


def test_leapfrog_beyond_the_exact_range_is_refused() -> None:
    """Its largest quantity is Q[2h] = x₊ - x₋, of which the headroom takes account."""
    model = gpt()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(300.0)
    with bdia.attach(model, "leapfrog-exact", bits=20), pytest.raises(HeadroomError, match="no headroom at l=20"):
        gpt_loss(model, tokens())


@pytest.mark.parametrize("name", ["checkpoint-segments", "checkpoint-selective", "two-stream", "momentum", "leapfrog"])
def test_an_attached_model_can_be_copied_and_pickled(name: str) -> None:
    """A copy trains as the original does."""
    model, batch = gpt(), tokens()
    with bdia.attach(model, name):
        found = []
        for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            each.zero_grad()
            gpt_loss(each, batch).backward()
            found.append({label: p.grad for label, p in each.named_parameters()})
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@pytest.mark.parametrize("name", ["leapfrog-exact", "two-stream", "momentum", "leapfrog"])
def test_no_side_bits_are_kept(name: str) -> None:
    """What is rebuilt without division needs nothing beside the last state."""
    model = gpt()
    assert get(name).strategy == REVERSIBLE
    with bdia.attach(model, name) as handle:
        gpt_loss(model, tokens())
        assert handle.side_bytes == 0


def test_the_control_computes_what_bdia_does_at_gamma_0() -> None:
    """γ = 0 with quantisation is the plain transformer on a rounded stream, but for the first step's rounding."""
    model, batch = gpt(), tokens()
    losses = []
    for method, options in (("standard-quantised", {}), ("bdia-stored", {"gamma": 0})):
        with bdia.attach(model, method, bits=20, **options), torch.no_grad():  # type: ignore[arg-type]
            losses.append(gpt_loss(model, batch).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert get("standard-quantised").strategy == STORED


def relative(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None]) -> float:
    """The relative L2 error over all gradients together."""
    pairs = [(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True) if a is not None and b is not None]
    error = sum((a.double() - b.double()).square().sum() for a, b in pairs)
    return float((error / sum(b.double().square().sum() for _, b in pairs)) ** 0.5)  # type: ignore[union-attr]
