"""Eval mode while attached: plain (11), or quantised (22), with or without a cache."""

from __future__ import annotations

import pytest
import torch
from networks import gpt, tokens
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import bdia
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
