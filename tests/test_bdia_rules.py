"""The rules beside BDIA's: each forward against independent arithmetic, each inverse against its forward."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import gpt, gpt_loss, gradients, same, tokens, trained
from torch import Tensor, nn

import bdia
from bdia.errors import HeadroomError, MethodError, TapeError
from bdia.methods import get
from bdia.quantize import quantize
from bdia.rules.leapfrog import ExactLeapfrog, Leapfrog
from bdia.rules.momentum import Momentum
from bdia.rules.two_stream import TwoStream
from bdia.updates import Rule

RULES: dict[str, Callable[[], Rule]] = {
    "two-stream": TwoStream,
    "momentum": Momentum,
    "leapfrog": Leapfrog,
    "leapfrog-exact": lambda: ExactLeapfrog(9),
}
FLOATING = ["two-stream", "momentum", "leapfrog"]
SHAPE = (3, 7, 5)


def stream(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def residual(k: int, x: Tensor) -> Tensor:
    """h of block k, in the dtype of x."""
    return torch.sin(x + k) * 0.5


def forward(rule: Rule, x: Tensor, blocks: int) -> list[Any]:
    """All states of a forward."""
    states = [rule.start(x)]
    for k in range(blocks):
        given = rule.input(states[-1])
        state, kept = rule.step(states[-1], given + residual(k, given), None)
        assert kept is None
        states.append(state)
    return states


def expected(name: str, x: Tensor, blocks: int) -> Tensor:
    """What the model is handed after `blocks` blocks, written out as the papers have it, in float64."""
    x = x.double()
    if name == "two-stream":  # RevNet, two blocks at a time
        a, b = x, x
        for k in range(0, blocks, 2):
            a = a + residual(k, b)
            if k + 1 < blocks:
                b = b + residual(k + 1, a)
        return (a + b) / 2
    if name == "momentum":
        v = torch.zeros_like(x)
        for k in range(blocks):
            v = 0.9 * v + (1 - 0.9) * residual(k, x)
            x = x + v
        return x
    before, x = x, x + residual(0, x)
    for k in range(1, blocks):
        before, x = x, before + 2 * residual(k, x)
    return x


@pytest.mark.parametrize("name", FLOATING)
@pytest.mark.parametrize("blocks", [1, 2, 7, 8])
@pytest.mark.parametrize("seed", range(3))
def test_the_forward_is_the_papers(name: str, blocks: int, seed: int) -> None:
    """Against float64, to fp32 rounding."""
    rule = RULES[name]()
    made = rule.output(forward(rule, stream(seed), blocks)[-1])
    assert torch.allclose(made.double(), expected(name, stream(seed), blocks), rtol=0, atol=3e-5)


@pytest.mark.parametrize("bits", [1, 6, 9, 14])
def test_exact_leapfrog_rounds_twice_h(bits: int) -> None:
    """x₊ = x₋ + Q_l[2h] from x_0 = Q_l[x_0] and x_1 = x_0 + Q_l[h], in float64."""
    rule, scale = ExactLeapfrog(bits), 2.0**bits
    states = forward(rule, stream(0), 6)
    for k, (state, after) in enumerate(itertools.pairwise(states)):
        before, x = state
        h = (x + residual(k, x)).double() - x.double()
        rounded = ((h if before is None else 2 * h) * scale).round() / scale
        base = x if before is None else before
        assert torch.equal(after[1].double(), base.double() + rounded)
    assert torch.equal(states[0][1], quantize(stream(0), bits))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_undo_takes_back_what_step_did(name: str, seed: int) -> None:
    """Step by step back to the first: leapfrog with Q bit for bit, the others to rounding, and not always exactly."""
    rule, exact = RULES[name](), True
    states = forward(rule, stream(seed), 9)
    state = states[-1]
    for k in range(8, -1, -1):
        x = rule.input_back(state)
        then = rule.input(states[k])
        assert torch.allclose(x, then, rtol=0, atol=1e-5)
        exact &= torch.equal(x, then)
        if k:
            state = rule.undo(state, x + residual(k, x), None, None)
    assert exact is rule.exact is (name == "leapfrog-exact")


@pytest.mark.parametrize("name", RULES)
def test_gradients_are_those_of_the_function_written_out(name: str) -> None:
    """Through every step, and through the x that the model passes on, against autograd in float64."""
    model = _Stack(7)
    x = stream(1)[..., :5]
    handle = bdia.attach(model, get(name).twin(), bits=20)
    with handle:
        ours = torch.autograd.grad((model(x) * stream(2)).sum(), list(model.parameters()))
    double = _Stack(7).double()
    double.load_state_dict(model.state_dict())
    states = x.double(), x.double()
    v = torch.zeros_like(x.double())
    for k, block in enumerate(double.blocks):
        a, b = states
        h = block(b) - b
        if name == "momentum":
            v = 0.9 * v + 0.1 * h
            states = b, b + v
        elif name == "two-stream":
            states = b, a + h
        else:
            states = b, (b + h if k == 0 else a + 2 * h)
    out = sum(states) / 2 if name == "two-stream" else states[1]
    theirs = torch.autograd.grad((out * stream(2).double()).sum(), list(double.parameters()))
    for our, their in zip(ours, theirs, strict=True):
        assert torch.allclose(our.double(), their, rtol=1e-3, atol=1e-4)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).sin()


class _Stack(nn.Module):
    """A loop over blocks that shows each x to `between`."""

    def __init__(self, depth: int, between: Callable[[int, Tensor], Tensor] = lambda k, x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(_Block() for _ in range(depth))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        for k, block in enumerate(self.blocks):
            x = self.between(k, block(x))
        return x


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 33])
@pytest.mark.parametrize("bits", [6, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_leapfrog_rebuilds_every_block(depth: int, bits: int, seed: int) -> None:
    """Odd sizes, several depths and seeds: `torch.equal` throughout, and the gradients of the stored twin."""
    model, batch = gpt(depth, seed=seed), tokens(seed=seed)
    ours, errors = gradients(model, batch, "leapfrog-exact", bits=bits)
    stored, _ = gradients(model, batch, get("leapfrog-exact").twin(), bits=bits)
    assert errors.equal == dict.fromkeys(range(depth), True)
    assert same(ours, stored)


def test_exact_leapfrog_needs_no_side_bits() -> None:
    """It is exact on trained weights too, and holds nothing for it."""
    batch = tokens()
    with trained(gpt(12), batch, steps=20) as model:
        ours, errors = gradients(model, batch, "leapfrog-exact")
        stored, _ = gradients(model, batch, get("leapfrog-exact").twin())
        with bdia.attach(model, "leapfrog-exact") as handle:
            gpt_loss(model, batch)
            assert (handle.side_bytes, handle.rng_bytes) == (0, 0)
    assert all(errors.equal.values())
    assert same(ours, stored)


@pytest.mark.parametrize("name", FLOATING)
@pytest.mark.parametrize("training", [0, 20])
def test_floating_inverses_stay_close(name: str, training: int) -> None:
    """24 blocks back: no doubling a block as with eq. 16, whose error is 1000 times as large here."""
    batch = tokens()
    with trained(gpt(24), batch, steps=training) as model:
        _, errors = gradients(model, batch, name)
        _, doubling = gradients(model, batch, "bdia-naive")
    worst = max(errors.largest.values())
    assert 0 < worst < 1e-4
    assert max(doubling.largest.values()) > 1000 * worst


def test_exact_leapfrog_guards_its_range() -> None:
    """Beyond the range where fp32 holds every multiple of 2^-l: an error that names an l which does."""
    model, batch = gpt(4), tokens()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(4000)
    with bdia.attach(model, "leapfrog-exact", bits=14), pytest.raises(HeadroomError) as caught:
        gpt_loss(model, batch)
    assert caught.value.largest_bits is not None
    _, errors = gradients(model, batch, "leapfrog-exact", bits=caught.value.largest_bits)
    assert all(errors.equal.values())
    with bdia.attach(model, "leapfrog-exact", bits=14, on_overflow="store") as handle:
        gpt_loss(model, batch).backward()
        assert handle.overflows == 1


@pytest.mark.parametrize("name", RULES)
def test_16_bit_models_keep_an_fp32_stream(name: str) -> None:
    """Though x has 16 bits between the blocks of a bf16 model, what is rebuilt is fp32: off by what one rounding of a
    block's input to bf16 can make of its last bit, where the rule is not exact."""
    model, batch = gpt(7).to(torch.bfloat16), tokens()
    ours, errors = gradients(model, batch, name)
    stored, _ = gradients(model, batch, get(name).twin())
    assert {x.dtype for x in errors.forward.values()} == {torch.float32}
    assert max(errors.largest.values()) < 1e-2
    close = [torch.allclose(ours[key], stored[key], rtol=0.1, atol=1e-2) for key in ours]
    assert same(ours, stored) if name == "leapfrog-exact" else all(close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", RULES)
def test_gradient_hooks_on_x_are_called_between_all_blocks(name: str, dtype: torch.dtype) -> None:
    """Also where the x that a model passes on is no tensor of the state, and what a hook changes counts."""
    grads = {}
    for reversed_too in (False, True):
        seen: list[float] = []

        def hooked(k: int, x: Tensor, seen: list[float] = seen) -> Tensor:
            x.register_hook(lambda grad: (seen.append(float(grad.float().norm())), grad * 0.5)[1])
            return x

        model = _Stack(5, hooked).to(dtype)
        with bdia.attach(model, name if reversed_too else get(name).twin()):
            model(stream(1).to(dtype)).float().square().sum().backward()
        assert len(seen) == 5
        grads[reversed_too] = [parameter.grad.float() for parameter in model.parameters()]
    for ours, theirs in zip(grads[True], grads[False], strict=True):
        assert torch.allclose(ours, theirs, rtol=0.1 if dtype is torch.bfloat16 else 1e-4, atol=1e-2)
    model = _Stack(5).to(dtype)
    with bdia.attach(model, name):
        model(stream(1).to(dtype)).float().square().sum().backward()
    assert not torch.allclose(model.blocks[0].inner.weight.grad.float(), grads[True][0], rtol=0.1)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("meddle", "message"), [(lambda x: x + 1, "another x"), (lambda x: x.add_(1), "changed in place"),
                            (lambda x: x.detach(), "detached"), (lambda x: x[:, :-1], "another x")],
)  # fmt: skip
def test_a_change_of_x_between_two_blocks_is_refused(name: str, meddle: Any, message: str) -> None:
    """An error that names the call, never a wrong gradient."""
    model = _Stack(5, lambda k, x: meddle(x) if k == 2 else x)
    with bdia.attach(model, name), pytest.raises(TapeError, match=message) as caught:
        model(stream(1))
    assert "call 3" in str(caught.value)


def test_what_two_streams_hand_over_last_may_be_changed() -> None:
    """Their mean is no tensor of the state: changing it in place after the blocks leaves the way back as it is."""
    grads = []
    for in_place in (True, False):
        model = _Stack(4, lambda k, x, in_place=in_place: x if k < 3 else (x.mul_(3) if in_place else x * 3))
        with bdia.attach(model, "two-stream"):
            model(stream(1)).sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_momentum_without_mu_has_no_inverse() -> None:
    """μ outside (0, 1) is refused, with the cure."""
    for mu in (0.0, 1.0, -0.5):
        with pytest.raises(MethodError, match="expected a number between 0 and 1"):
            Momentum(mu)


def test_the_control_is_the_plain_transformer_on_a_quantised_stream() -> None:
    """`standard-quantised` is BDIA's γ = 0: the same bits of loss and gradients, and near the plain model's."""
    model, batch = gpt(), tokens()
    ours, _ = gradients(model, batch, "standard-quantised")
    model.zero_grad()
    with bdia.attach(model, "bdia-stored", gamma=0):
        gpt_loss(model, batch).backward()
    with_bdia = {name: parameter.grad for name, parameter in model.named_parameters()}
    plain, _ = gradients(model, batch, "standard")
    for name, gradient in plain.items():
        assert torch.allclose(ours[name], with_bdia[name], rtol=1e-2, atol=1e-3)
        assert torch.allclose(ours[name], gradient, rtol=0.1, atol=0.05)
    assert not same(ours, plain)
