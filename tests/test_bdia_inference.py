"""Eval mode while attached: plain (11), or quantised (22), with or without a cache."""

from __future__ import annotations

import pytest
import torch
from networks import gpt, tokens
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import bdia
from bdia.errors import MethodError
from bdia.quantize import quantize


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=32, bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0) if parameter.dim() > 1 else None
    return model


@pytest.mark.parametrize("bits", [4, 9])
def test_quantised_inference_is_equation_22(bits: int) -> None:
    """x₊ = Q_l[block(x)], from Q_l[x_0], with and without gradients."""
    model, (idx, _) = gpt().eval(), tokens()
    with torch.no_grad():
        x = model.transformer.drop(model.transformer.wte(idx) + model.transformer.wpe(torch.arange(idx.shape[1])))
        x = quantize(x, bits)
        for block in model.transformer.h:
            x = quantize(block(x), bits)
        expected = model.lm_head(model.transformer.ln_f(x))
        plain = model(idx)[0]
    with bdia.attach(model, "bdia", bits=bits, inference="quantised"):
        assert torch.equal(model(idx)[0], expected)
        with torch.no_grad():
            assert torch.equal(model(idx)[0], expected)
    assert not torch.equal(expected, plain)
    assert torch.equal(model(idx)[0], plain)


@pytest.mark.parametrize("method", ["standard", "bdia"])
@pytest.mark.parametrize("gamma", [-0.5, 0.1, 0.25, 1])
def test_a_gamma_kept_at_inference_is_equation_10(gamma: float, method: str) -> None:
    """x₊ = γx₋ + (1−γ)x + (1+γ)h(x) from x_1 = block(x_0), whatever method trains, and nothing of its γ is drawn."""
    model, (idx, _) = gpt().eval(), tokens()
    with torch.no_grad():
        before = model.transformer.wte(idx) + model.transformer.wpe(torch.arange(idx.shape[1]))
        first, *others = model.transformer.h
        x = first(before)
        for block in others:
            h = block(x) - x
            before, x = x, gamma * before + (1 - gamma) * x + (1 + gamma) * h
        expected = model.lm_head(model.transformer.ln_f(x))
    with bdia.attach(model, method, inference=gamma, seed=0) as handle:
        state = handle.state_dict()
        torch.testing.assert_close(model(idx)[0], expected, rtol=1e-5, atol=1e-5)
        assert handle.state_dict() == state
        trained = model.train()(idx)[0]
    assert not torch.equal(trained, model.eval()(idx)[0]) or method == "standard"


@pytest.mark.parametrize("gamma", [0, 0.0, -0.0])
def test_a_gamma_of_zero_at_inference_is_the_plain_transformer(gamma: float) -> None:
    """(10) at γ = 0 is (4), bit for bit, with gradients and without."""
    model, batch = gpt().eval(), tokens()
    plain = model(*batch)[0]
    with bdia.attach(model, "bdia", inference=gamma):
        assert torch.equal(model(*batch)[0], plain)
        with torch.no_grad():
            assert torch.equal(model(*batch)[0], plain)


@pytest.mark.parametrize("inference", ["exact", 1.5, -2, float("nan"), True, None])
def test_an_inference_that_is_none_is_refused(inference: object) -> None:
    """The error has the value and what there is."""
    with pytest.raises(MethodError, match=r"inference=.*: expected 'plain', 'quantised', or a γ from -1 to 1"):
        bdia.attach(gpt(), inference=inference)  # type: ignore[arg-type]


@pytest.mark.parametrize("inference", ["quantised", 0.25])
def test_a_method_that_is_never_plain_has_no_other_inference(inference: float | str) -> None:
    """What two streams compute in eval mode is settled by the method."""
    with pytest.raises(MethodError, match=rf"inference={inference!r}: two-stream is no plain transformer"):
        bdia.attach(gpt(), "two-stream", inference=inference)  # type: ignore[arg-type]


def _generated(model: LlamaForCausalLM, use_cache: bool) -> Tensor:
    prompt = torch.arange(3, 10).repeat(2, 1)
    with torch.no_grad():
        return model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False, use_cache=use_cache
        )


@pytest.mark.parametrize("inference", ["plain", "quantised"])
def test_generation_uses_its_cache(inference: str) -> None:
    """Token by token with a cache gives the tokens of whole prefixes without one."""
    model = llama().eval()
    with bdia.attach(model, "bdia", inference=inference):
        assert torch.equal(_generated(model, True), _generated(model, False))


def test_rollouts_in_training_mode_use_their_cache() -> None:
    """Without gradients nothing is rerun, so the cache is the model's own: it fills."""
    model = llama().train()
    with bdia.attach(model, "bdia", gamma=None, seed=0), torch.no_grad():
        outputs = model(torch.arange(3, 10).repeat(2, 1), use_cache=True)
    assert outputs.past_key_values.get_seq_length() == 7


def test_a_training_forward_leaves_the_cache_empty() -> None:
    """With gradients the cache is left out, as under Hugging Face's own gradient checkpointing."""
    model = llama().train()
    with bdia.attach(model, "bdia", seed=0):
        outputs = model(torch.arange(3, 10).repeat(2, 1), use_cache=True)
    assert outputs.past_key_values.get_seq_length() == 0
