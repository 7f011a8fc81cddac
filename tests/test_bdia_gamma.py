"""γ: its distribution, and what it depends on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import Errors, gpt, gpt_loss, gradients, same, tokens
from torch import Tensor, nn

import bdia
from bdia.distributions import Gamma, Normal, PlusMinus, Uniform
from bdia.errors import MethodError
from bdia.gamma import GammaSource
from bdia.methods import METHODS

DEPTH, WIDTH, SAMPLES = 6, 12, 40


def draw(source: GammaSource, calls: int = 6, batch: int = 4) -> torch.Tensor:
    rows = source.begin(3)  # fewer than the calls: the table is drawn again
    return torch.stack([rows.next(torch.zeros(batch, 5, 2)) for _ in range(calls)])


def test_gamma_is_per_sample_and_per_call() -> None:
    """γ has one value a sample, in the stream's rank, and takes both values."""
    gamma = draw(GammaSource(0), calls=100, batch=7)
    assert gamma.shape == (100, 7, 1, 1)
    assert set(gamma.unique().tolist()) == {-0.5, 0.5}
    assert abs(gamma.mean().item()) < 0.08


def test_a_seed_fixes_every_forward() -> None:
    """Two sources of one seed agree forward by forward; forwards and seeds differ from one another."""
    one, two, other = GammaSource(3), GammaSource(3), GammaSource(4)
    first, second = draw(one), draw(one)
    assert torch.equal(first, draw(two))
    assert torch.equal(second, draw(two))
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw(other))


def test_torchs_generator_is_left_alone() -> None:
    """Drawing γ neither reads nor moves torch's global generator, even where the seed comes from it."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = draw(GammaSource())
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    assert torch.equal(first, draw(GammaSource()))


def test_the_state_can_be_saved_and_loaded() -> None:
    """A source goes on where another one's state was taken."""
    source = GammaSource(11)
    draw(source)
    state = source.state_dict()
    expected = draw(source)
    restored = GammaSource(0)
    restored.load_state_dict(state)
    assert torch.equal(draw(restored), expected)


def test_negative_and_large_seeds_are_seeds() -> None:
    """Any integer will do."""
    assert not torch.equal(draw(GammaSource(-1), calls=20), draw(GammaSource(2**63), calls=20))


class Steps(Errors):
    """A watcher that keeps x_0 … x_{N-1}, for a model whose blocks are known functions."""

    def gammas(self, blocks: list[nn.Module], last: Tensor) -> Tensor:
        """γ of each step but the first and each sample [N - 1, B], solved for in x₊ = x + h + γ(x₋ - x + h), which is
        (10) in other words, where its factor is largest."""
        states = [*(self.forward[k].double() for k in range(len(blocks))), last.double()]
        solved = []
        for k in range(1, len(blocks)):
            h = blocks[k](states[k].float()).double() - states[k]
            factor = (states[k - 1] - states[k] + h).flatten(1)
            rest = (states[k + 1] - states[k] - h).flatten(1)
            place = factor.abs().argmax(1, keepdim=True)
            gamma = rest.gather(1, place) / factor.gather(1, place)
            assert torch.allclose(rest, gamma * factor, atol=1e-4)  # one γ for all of a sample
            solved.append(gamma.flatten())
        return torch.stack(solved)


class Smooth(nn.Module):
    """x + sin(Wx)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).sin()


class Loop(nn.Module):
    """Blocks in a row."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def drawn_in_training(gamma: Any, method: str = "bdia-unquantised") -> Tensor:
    """The γ of one forward [N - 1, B], told from the states alone."""
    torch.manual_seed(0)
    model, x, steps = Loop([Smooth() for _ in range(DEPTH)]).train(), torch.randn(SAMPLES, 3, WIDTH), Steps()
    with torch.no_grad(), bdia.attach(model, method, gamma=gamma, seed=1) as handle, handle.observing(steps):
        last = model(x)
    return steps.gammas(list(model.blocks), last)


class Skewed:
    """A distribution of one's own: ±¼, and now and then ±1."""

    magnitude = None

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        signs = torch.randint(0, 2, shape, generator=generator).mul(2).sub(1)
        return signs * torch.where(torch.rand(shape, generator=generator) < 0.2, 1.0, 0.25)


@pytest.mark.parametrize(
    ("gamma", "magnitudes"),
    [
        (None, [0.5]),
        (0.25, [0.25]),
        (1, [1.0]),
        (0.3, [0.3]),
        ("0.125", [0.125]),
        (PlusMinus(0.7), [0.7]),
        (Skewed(), [0.25, 1.0]),
    ],
)
def test_gamma_takes_the_magnitudes_asked_for(gamma: Any, magnitudes: list[float]) -> None:
    """However it is written, γ is +g or -g, each about as often, and constant over a sample."""
    drawn = drawn_in_training(gamma)
    assert drawn.shape == (DEPTH - 1, SAMPLES)
    distances = (drawn.abs()[..., None] - torch.tensor(magnitudes)).abs()
    assert distances.amin(-1).max() < 1e-4
    assert all(distances[..., place].min() < 1e-4 for place in range(len(magnitudes)))
    assert 0.35 < drawn.gt(0).double().mean() < 0.65
    assert all(row.gt(0).any() and row.lt(0).any() for row in drawn)  # drawn a sample
    assert len({tuple(row.sign().tolist()) for row in drawn}) == DEPTH - 1  # and a block


def test_gamma_may_be_uniform() -> None:
    """`uniform:g` fills [-g, g], and nothing beyond."""
    for gamma in ("uniform:0.5", Uniform(0.5)):
        drawn = drawn_in_training(gamma)
        assert drawn.abs().max() <= 0.5 + 1e-4
        counts = torch.histc(drawn.float(), 4, -0.5, 0.5) / drawn.numel()
        assert all(0.15 < share < 0.35 for share in counts.tolist())


def test_gamma_may_be_normal() -> None:
    """`normal:s` has standard deviation s and mean 0."""
    for gamma in ("normal:0.3", Normal(0.3)):
        drawn = drawn_in_training(gamma)
        assert drawn.std().item() == pytest.approx(0.3, rel=0.2)
        assert drawn.mean().abs() < 0.1


@pytest.mark.parametrize(
    ("gamma", "message"),
    [
        (1.5, "γ is 1.5: expected 0 to 1"),
        (-0.5, "γ is -0.5: expected 0 to 1"),
        ("half", "gamma='half': expected a number"),
        ("beta:2", "gamma='beta:2': expected a number"),
        ("uniform:2", "limit of a uniform γ is 2"),
        ("nan", "expected a number"),
        (True, "gamma=True: expected a number"),
        ([0.5], r"gamma=\[0.5\]: expected a number"),
    ],
)
def test_what_is_no_distribution_is_refused(gamma: Any, message: str) -> None:
    """The error gives the value and the forms there are."""
    with pytest.raises(MethodError, match=message):
        bdia.attach(gpt(2), "bdia-stored", gamma=gamma)


@pytest.mark.parametrize("gamma", ["uniform:0.5", "normal:0.3", 0.3, 0.75, 0, 2.0**-9, Skewed()])
def test_gamma_that_is_no_power_of_two_cannot_be_reversed_exactly(gamma: Any) -> None:
    """`bdia` refuses it and names the method that takes it, which trains."""
    model = gpt(3)
    with pytest.raises(MethodError, match=r"must be 2\^-m.*use method 'bdia-stored'"):
        bdia.attach(model, "bdia", gamma=gamma)
    with bdia.attach(model, "bdia-stored", gamma=gamma) as handle:
        gpt_loss(model, tokens()).backward()
        assert handle.side_bytes == 0


@pytest.mark.parametrize("method", [method.name for method in METHODS if not method.draws_gamma])
def test_gamma_is_refused_where_none_is_drawn(method: str) -> None:
    """A setting that would do nothing is an error."""
    with pytest.raises(MethodError, match=f"{method} draws no γ"):
        bdia.attach(gpt(2), method, gamma=0.25)


@pytest.mark.parametrize(("gamma", "side_bits"), [(1, 0), (0.5, 1), (0.25, 2), ("0.125", 3), (2.0**-8, 8)])
@pytest.mark.parametrize("seed", [0, 1])
def test_powers_of_two_are_reversed_exactly(gamma: Any, side_bits: int, seed: int) -> None:
    """|γ| = 2^-m rebuilds every x with `torch.equal`, gives the twin's gradients, and holds m bits an element of all
    blocks but the first: m·⌈E/8⌉ bytes each."""
    model, batch, outcomes = gpt(7, dropout=0.1, seed=seed), tokens(seed=seed), {}
    for method in ("bdia", "bdia-stored"):
        model.zero_grad()
        torch.manual_seed(seed)
        errors = Errors()
        with bdia.attach(model, method, gamma=gamma, seed=seed, verify=method == "bdia") as handle:
            with handle.observing(errors):
                loss = gpt_loss(model, batch)
            if method == "bdia":
                assert handle.side_bytes == 6 * side_bits * -(-3 * 7 * 12 // 8)
            loss.backward()
        outcomes[method] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        assert method != "bdia" or errors.equal == dict.fromkeys(range(7), True)
    assert same(outcomes["bdia"], outcomes["bdia-stored"])


class Stepped(nn.Module):
    """x + h, where h is a multiple of 2^-7 below 1, so that fp32 rounds nothing of (19) and (21) but what Q_l does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).sin().mul(128).round() / 128


@pytest.mark.parametrize("m", [0, 1, 2, 3])
def test_the_quantised_update_is_that_of_the_paper(m: int) -> None:
    """Each state follows (18)-(21), computed again in integers, units of 2^-l; (20) for m bits takes x₋ to the nearest
    multiple of 2^(m-l), halfway cases up."""
    bits, g = 5, 2.0**-m
    torch.manual_seed(0)
    model, x, steps = Loop([Stepped() for _ in range(DEPTH)]).train(), torch.randn(SAMPLES, 3, WIDTH), Steps()
    with torch.no_grad(), bdia.attach(model, "bdia", bits=bits, gamma=g, seed=1) as handle, handle.observing(steps):
        last = model(x)
    states = [*(steps.forward[k].double() for k in range(DEPTH)), last.double()]
    outputs = [block(state.float()).double() for block, state in zip(model.blocks, states[:-1], strict=True)]
    units = [(state * 2**bits).round().long() for state in states]
    assert torch.equal(units[0], (x.double() * 2**bits).round().long())  # (18)
    h = outputs[0] - states[0]
    assert torch.equal(units[1], units[0] + (h * 2**bits).round().long())  # (19)
    for k in range(1, DEPTH):
        h = outputs[k] - states[k]
        expected = []
        for gamma in (g, -g):
            first = (units[k - 1] + 2**m // 2) // 2**m * (1 if gamma > 0 else -1)  # (20)
            second = (((1 - gamma) * states[k] + (1 + gamma) * h) * 2**bits).round().long()
            expected.append(first + second)  # (21)
        agree = [units[k + 1].eq(each).flatten(1).all(1) for each in expected]
        assert (agree[0] | agree[1]).all()
        assert agree[0].any()
        assert agree[1].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_gamma_zero_is_the_plain_transformer(seed: int) -> None:
    """`bdia-unquantised` with γ = 0 has the loss and the gradients of the plain model, bit for bit."""
    model, batch = gpt(5, dropout=0.1, seed=seed), tokens(seed=seed)
    plain, _ = gradients(model, batch, "standard", seed=seed)

    model.zero_grad()
    torch.manual_seed(seed)
    with bdia.attach(model, "bdia-unquantised", gamma=0):
        gpt_loss(model, batch).backward()
    assert same({name: parameter.grad for name, parameter in model.named_parameters()}, plain)


def test_distributions_are_gammas() -> None:
    """What the module names, and what one writes oneself, satisfies the protocol."""
    assert all(isinstance(each, Gamma) for each in (PlusMinus(), Uniform(), Normal(), Skewed()))


def test_the_tokens_of_a_sample_share_its_gamma() -> None:
    """γ belongs to samples wherever the batch lies: in [T, B, D], as torch's layers have it by default, all tokens of
    a sample share it."""
    for batch_first in (False, True):
        layer = nn.TransformerEncoderLayer(WIDTH, 3, 20, dropout=0.0, batch_first=batch_first, norm_first=True)
        model = nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False).train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            for k, block in enumerate(model.layers):
                block.linear2.bias.fill_(float(k * k))  # h = k², whatever x is
        x = torch.zeros((16, 9, WIDTH) if batch_first else (9, 16, WIDTH))
        with bdia.attach(model, "bdia", seed=2):
            y = model(x)[..., 0]
        samples = y if batch_first else y.T  # [B, T]
        assert torch.equal(samples, samples[:, :1].expand_as(samples))
        assert len(samples[:, 0].unique()) > 2
