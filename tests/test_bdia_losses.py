"""The chunked cross-entropy against torch's own, and its memory against arithmetic."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import bdia
from bdia.models.gpt import GPT, GPTConfig
from bench.meters.level import level

CPU = torch.device("cpu")
Gradients = tuple[Tensor, ...]


def made(
    tokens: int, width: int, vocab: int, dtype: torch.dtype = torch.float64, *, ignored: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden [n, D], weight [V, D], bias [V] and targets [n], logits of a spread of about 2."""
    generator = torch.Generator().manual_seed(tokens + width + vocab)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    targets = torch.randint(vocab, (tokens,), generator=generator)
    targets[list(ignored)] = -100
    return normal(tokens, width), normal(vocab, width), normal(vocab), targets


def torchs(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, **options: Any) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, **options)


def distance(ours: Gradients, theirs: Gradients) -> float:
    """The largest of their relative distances."""
    return max(
        float((one.double() - other.double()).norm() / other.double().norm())
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("chunks", [1, 2, 3, 5, 37, 1000])
@pytest.mark.parametrize("ignored", [(), (0, 7, 8, 36)], ids=["all", "some"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_value_and_gradients_are_those_of_the_whole(chunks: int, ignored: tuple[int, ...], reduction: str) -> None:
    """In float64 nothing but rounding is between any number of chunks, uneven ones among them, and torch's own."""
    *values, targets = made(37, 13, 97, ignored=ignored)
    hidden, weight, bias = values
    theirs = torchs(*values, targets, reduction=reduction)
    ours = bdia.chunked_cross_entropy(hidden, weight, targets, chunks, bias=bias, reduction=reduction)
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)
    assert distance(torch.autograd.grad(ours, values), torch.autograd.grad(theirs, values)) < 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_chunk_is_torchs_own(dtype: torch.dtype) -> None:
    """With one chunk value and gradients are the same bits."""
    *values, targets = made(37, 13, 97, dtype, ignored=(3,))
    hidden, weight, bias = values
    theirs, ours = torchs(*values, targets), bdia.chunked_cross_entropy(hidden, weight, targets, 1, bias=bias)
    assert torch.equal(ours, theirs)
    pairs = zip(torch.autograd.grad(ours, values), torch.autograd.grad(theirs, values), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_a_derivative_is_what_finite_differences_say() -> None:
    """autograd's own check of hidden, weight and bias, in chunks of 3, 2 and 2 tokens."""
    hidden, weight, bias, targets = made(7, 3, 5, ignored=(4,))

    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return bdia.chunked_cross_entropy(hidden, weight, targets, 3, bias=bias)

    assert torch.autograd.gradcheck(loss, (hidden, weight, bias))


@pytest.mark.parametrize("trained", [*itertools.product([True, False], repeat=3)])
def test_what_is_frozen_has_no_gradient_and_changes_no_other(trained: tuple[bool, bool, bool]) -> None:
    """Hidden, weight and bias may each be frozen: the gradients of the others are the same bits."""
    *values, targets = made(19, 6, 23, torch.float32)
    whole = bdia.chunked_cross_entropy(values[0], values[1], targets, 4, bias=values[2])
    expected = torch.autograd.grad(whole, values)
    some = [value.detach().requires_grad_(wanted) for value, wanted in zip(values, trained, strict=True)]
    loss = bdia.chunked_cross_entropy(some[0], some[1], targets, 4, bias=some[2])
    assert loss.requires_grad == any(trained)
    if any(trained):
        loss.backward()
    for value, gradient, wanted in zip(some, expected, trained, strict=True):
        assert torch.equal(value.grad, gradient) if wanted else value.grad is None


def test_tokens_that_take_no_part_have_no_gradient() -> None:
    """The rows of ignored targets are 0, and whatever is in them changes nothing."""
    hidden, weight, _, targets = made(11, 6, 23, torch.float32, ignored=(2, 10))
    (gradient,) = torch.autograd.grad(bdia.chunked_cross_entropy(hidden, weight, targets, 3), hidden)
    assert not gradient[[2, 10]].any()
    assert gradient[[0, 1, 3]].abs().amax(1).gt(0).all()
    other = hidden.detach().clone()
    other[[2, 10]] += 1.0
    (again,) = torch.autograd.grad(bdia.chunked_cross_entropy(other.requires_grad_(), weight, targets, 3), other)
    assert torch.equal(again, gradient)


def test_no_token_that_takes_part_is_as_in_torch() -> None:
    """The mean over none is NaN, its gradients are 0; the sum is 0."""
    hidden, weight, _, targets = made(5, 3, 7, ignored=(0, 1, 2, 3, 4))
    loss = bdia.chunked_cross_entropy(hidden, weight, targets, 2)
    assert loss.isnan()
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, (hidden, weight)))
    assert bdia.chunked_cross_entropy(hidden, weight, targets, 2, reduction="sum").item() == 0.0


def test_large_logits_do_not_overflow() -> None:
    """Logits of thousands give a finite loss, as they do in torch."""
    hidden, weight, _, targets = made(9, 6, 23, torch.float32)
    ours = bdia.chunked_cross_entropy(hidden * 1000, weight, targets, 2)
    torch.testing.assert_close(ours, torchs(hidden * 1000, weight, None, targets))
    assert ours.isfinite()


@pytest.mark.parametrize("scale", [0.25, 1 / 3])
def test_the_gradient_that_comes_in_is_heeded(scale: float) -> None:
    """A loss that is scaled, as each part of an accumulated one is, has gradients scaled as much."""
    hidden, weight, _, targets = made(17, 6, 23)
    theirs = torch.autograd.grad(torchs(hidden, weight, None, targets) * scale, (hidden, weight))
    ours = torch.autograd.grad(bdia.chunked_cross_entropy(hidden, weight, targets, 4) * scale, (hidden, weight))
    assert distance(ours, theirs) < 1e-14


@pytest.mark.parametrize("autocast", [True, False], ids=["bf16-amp", "bf16"])
def test_in_16_bits_it_is_as_exact_as_the_whole(autocast: bool) -> None:
    """Against float64, gradients in bf16 are no farther off than torch's own, however many chunks are summed; loss and
    gradients have the dtypes that torch's have."""
    *values, targets = made(256, 32, 300, torch.float32 if autocast else torch.bfloat16)
    hidden, weight, bias = values
    exact = torch.autograd.grad(torchs(*(value.double() for value in values), targets), values)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        whole = F.cross_entropy(F.linear(hidden, weight, bias).float(), targets)
        loss = bdia.chunked_cross_entropy(hidden, weight, targets, 64, bias=bias)
    assert loss.dtype == whole.dtype == torch.float32
    torch.testing.assert_close(loss, whole, rtol=1e-5, atol=0)
    theirs, ours = torch.autograd.grad(whole, values), torch.autograd.grad(loss, values)
    assert [one.dtype for one in ours] == [value.dtype for value in values]
    assert distance(ours, exact) < 1.1 * distance(theirs, exact)


def test_without_grad_mode_nothing_is_kept() -> None:
    """Under no_grad the value is the same, and has no graph."""
    hidden, weight, _, targets = made(17, 6, 23, torch.float32)
    with_graph = bdia.chunked_cross_entropy(hidden, weight, targets, 4)
    with torch.no_grad():
        without = bdia.chunked_cross_entropy(hidden, weight, targets, 4)
    assert torch.equal(with_graph, without)
    assert without.grad_fn is None


@pytest.mark.parametrize("chunks", [2, 8])
def test_the_memory_is_that_of_one_chunk(chunks: int) -> None:
    """In the backward, one chunk's logits and the gradients; what is kept from the forward is a number a token."""
    tokens, width, vocab = 64, 8, 4096
    hidden, weight, _, targets = made(tokens, width, vocab, torch.float32)
    with level(CPU) as meter:
        loss = bdia.chunked_cross_entropy(hidden, weight, targets, chunks)
        meter.mark("forward")
        gradients = torch.autograd.grad(loss, (hidden, weight))
        meter.mark("backward")
    logits, gradient_bytes = 4 * tokens // chunks * vocab, 4 * width * (tokens + vocab)
    assert sum(gradient.nbytes for gradient in gradients) == gradient_bytes
    small = 64 * tokens  # a few numbers a token
    assert meter.change("start", "forward") < small
    assert logits <= meter.rise("start", "forward") < logits + small
    working = 4 * width * tokens // chunks  # a chunk's share of a gradient, before it is put into its place
    assert logits + gradient_bytes <= meter.rise("forward", "backward") < logits + gradient_bytes + working + small


@pytest.mark.parametrize("chunks", [2, 3])
def test_a_gpt_takes_its_loss_in_chunks(chunks: int) -> None:
    """With tied weights and ignored targets a GPT's loss and all gradients are as without, and there are no logits."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=9, vocab_size=31, n_layer=2, n_head=2, n_embd=12))
    idx = torch.randint(31, (3, 9))
    targets = torch.randint(31, (3, 9))
    targets[1, :4] = -1
    parameters = list(model.parameters())
    _, whole = model(idx, targets)
    logits, loss = model(idx, targets, loss_chunks=chunks)
    assert logits is None
    torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
    assert distance(torch.autograd.grad(loss, parameters), torch.autograd.grad(whole, parameters)) < 1e-6
    assert model(idx, loss_chunks=chunks)[0].shape == (3, 9, 31)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": 0}, "chunks=0: expected 1 or more"),
        ({"reduction": "none"}, "reduction='none': expected one of mean, sum"),
        ({"targets": torch.zeros(6, dtype=torch.long)}, "hidden is (5, 3) and targets (6,)"),
        ({"weight": torch.zeros(7, 4)}, "weight (7, 4), bias (7,): expected [..., D], [V, D] and [V]"),
        ({"bias": torch.zeros(8)}, "weight (7, 3), bias (8,): expected [..., D], [V, D] and [V]"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    """Shapes, chunks and reductions that are none raise ValueError with what was expected."""
    hidden, weight, bias, targets = made(5, 3, 7)
    given = {"hidden": hidden, "weight": weight, "targets": targets, "chunks": 2, "bias": bias} | change
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        bdia.chunked_cross_entropy(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
