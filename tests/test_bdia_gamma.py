"""γ: its distribution, and what it depends on."""

from __future__ import annotations

import torch

from bdia.gamma import GammaSource


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
