from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bdia.models.gpt import GPT, PRESETS, Attention, GPTConfig

ODD = GPTConfig(block_size=9, vocab_size=13, n_layer=3, n_head=3, n_embd=15)


def made(config: GPTConfig = ODD, seed: int = 0) -> GPT:
    torch.manual_seed(seed)
    return GPT(config)


def sample(config: GPTConfig = ODD, batch: int = 2, tokens: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randint(config.vocab_size, (batch, tokens + 1), generator=generator)
    return both[:, :-1].contiguous(), both[:, 1:].contiguous()


@pytest.mark.parametrize(
    ("batch", "tokens", "width", "heads", "bias"), [(1, 1, 5, 5, False), (3, 7, 12, 3, True), (2, 9, 7, 1, False)]
)
def test_logits_have_a_row_of_the_vocabulary_for_every_token(
    batch: int, tokens: int, width: int, heads: int, bias: bool
) -> None:
    """The forward yields logits [B, T, V] and a scalar loss for odd shapes."""
    config = replace(ODD, n_embd=width, n_head=heads, bias=bias)
    logits, loss = made(config)(*sample(config, batch, tokens))
    assert logits.shape == (batch, tokens, config.vocab_size)
    assert loss.shape == ()


def test_without_targets_there_is_no_loss() -> None:
    """The loss is None where no targets are given, and the logits are the same."""
    model, (idx, targets) = made(), sample()
    logits, loss = model(idx)
    assert loss is None
    assert torch.equal(logits, model(idx, targets)[0])


@pytest.mark.parametrize("changed", [1, 4, 6])
def test_a_token_changes_no_logits_before_it(changed: int) -> None:
    """A changed token leaves the logits of all earlier positions as they were and changes its own."""
    model, (idx, _) = made().double(), sample()
    other = idx.clone()
    other[:, changed] = (other[:, changed] + 1) % ODD.vocab_size
    before, after = model(idx)[0], model(other)[0]
    torch.testing.assert_close(after[:, :changed], before[:, :changed], rtol=0, atol=1e-12)
    assert (after[:, changed] - before[:, changed]).abs().max() > 1e-3


@pytest.mark.parametrize("bias", [False, True])
def test_attention_is_softmax_over_the_past(bias: bool) -> None:
    """Attention equals a softmax over scaled products with all earlier tokens, computed head by head."""
    torch.manual_seed(1)
    attention = Attention(replace(ODD, bias=bias)).double()
    x = torch.randn(2, 7, 15, dtype=torch.float64)
    q, k, v = (x @ attention.c_attn.weight.T + (attention.c_attn.bias if bias else 0)).split(15, dim=-1)
    heads = []
    for cut in (slice(0, 5), slice(5, 10), slice(10, 15)):
        scores = q[..., cut] @ k[..., cut].transpose(1, 2) / math.sqrt(5)
        past = torch.ones(7, 7).tril().bool()
        heads.append(scores.masked_fill(~past, -math.inf).softmax(-1) @ v[..., cut])
    torch.testing.assert_close(attention(x), attention.c_proj(torch.cat(heads, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_is_the_mean_cross_entropy(seed: int) -> None:
    """The loss equals the mean of log-sum-exp less the target's logit, targets of -1 left out."""
    model, (idx, targets) = made(seed=seed), sample(seed=seed)
    targets[0, 3] = -1
    logits, loss = model(idx, targets)
    wide, kept = logits.double(), targets >= 0
    each = wide.logsumexp(-1) - wide.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    torch.testing.assert_close(loss.double(), each[kept].mean(), rtol=1e-6, atol=0)


def test_loss_of_16_bit_logits_is_computed_in_32() -> None:
    """A bf16 model has a loss in fp32, that of its bf16 logits."""
    model, (idx, targets) = made().bfloat16(), sample()
    logits, loss = model(idx, targets)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert torch.equal(loss, torch.nn.functional.cross_entropy(logits.float().view(-1, 13), targets.view(-1)))


def test_output_layer_is_tied_to_the_token_embedding() -> None:
    """One tensor is both the output layer and the embedding, and its gradient has a share of each."""
    model, (idx, targets) = made(), sample()
    assert model.lm_head.weight is model.transformer.wte.weight
    assert "lm_head.weight" not in dict(model.named_parameters())
    model(idx, targets)[1].backward()
    rows = model.transformer.wte.weight.grad.abs().sum(-1)
    assert bool((rows > 0).all()), "the output layer reaches every row, the embedding only those of the sample"


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset: str, count: int) -> None:
    """With biases and the unpadded vocabulary each preset has as many parameters as the published GPT-2."""
    with torch.device("meta"):
        model = GPT(replace(PRESETS[preset], vocab_size=50257, bias=True))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_character_model_has_the_number_of_parameters_on_paper() -> None:
    """nanoGPT's character model has 12·D² + 2·D a block, its embeddings and one norm, without biases."""
    with torch.device("meta"):
        model = GPT(PRESETS["char"])
    expected = (65 + 256) * 384 + 6 * (12 * 384**2 + 2 * 384) + 384
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_parameter_names_are_those_of_nanogpt() -> None:
    """A block's parameters and those around the blocks bear nanoGPT's names."""
    names = set(made(replace(ODD, n_layer=1, bias=True)).state_dict())
    layers = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    block = {f"transformer.h.0.{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    around = {"transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"}
    assert names == block | around | {"lm_head.weight"}


@pytest.mark.parametrize("seed", [0, 7])
def test_initial_weights_follow_from_the_seed(seed: int) -> None:
    """The same seed gives the same weights bit for bit, another seed others."""
    first, again, other = (made(seed=s).state_dict() for s in (seed, seed, seed + 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["transformer.wte.weight"], other["transformer.wte.weight"])


def test_initial_weights_have_the_scales_of_gpt_2() -> None:
    """Weights have deviation 0.02, those that write to the stream 0.02/√(2N), and biases are 0."""
    model = made(replace(ODD, n_layer=8, n_embd=96, vocab_size=512, bias=True))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 2:
            expected = 0.02 / math.sqrt(16) if name.endswith("c_proj.weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.1), name


def test_without_dropout_a_forward_draws_no_random_number() -> None:
    """With dropout 0 the generator's state is the same after a training forward, so nothing need be stored."""
    model, (idx, targets) = made(), sample()
    before = torch.get_rng_state()
    model(idx, targets)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_acts_in_training_only() -> None:
    """Two training forwards with dropout differ, two in evaluation are equal."""
    model, (idx, _) = made(replace(ODD, dropout=0.5)), sample()
    assert not torch.equal(model(idx)[0], model(idx)[0])
    model.eval()
    assert torch.equal(model(idx)[0], model(idx)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_embd": 10}, "n_embd=10 is not divisible by n_head=3"),
        ({"n_layer": 0}, "n_layer=0 is not a size"),
        ({"vocab_size": -1}, "vocab_size=-1 is not a size"),
        ({"dropout": 1.0}, "dropout=1.0 is not a probability"),
        ({"dropout": float("nan")}, "dropout=nan is not a probability"),
    ],
)
def test_impossible_shapes_are_refused_in_one_line(change: dict[str, float], message: str) -> None:
    """A configuration that cannot be raises ValueError in one line with the value."""
    with pytest.raises(ValueError, match=message) as caught:
        replace(ODD, **change)
    assert "\n" not in str(caught.value)


def test_a_sample_longer_than_the_positions_is_refused() -> None:
    """More tokens than block_size raise ValueError naming both."""
    with pytest.raises(ValueError, match="10 tokens exceed block_size=9"):
        made()(torch.zeros(1, 10, dtype=torch.long))
