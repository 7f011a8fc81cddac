"""Loss and accuracy on held-out batches."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bdia
from bdia.models.gpt import GPT, GPTConfig
from bdia.models.vit import ViT, ViTConfig
from bench.data.images import images
from bench.data.text import tokens
from bench.errors import UsageError
from bench.evaluation import evaluate


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(classes=10, width=16, depth=2, heads=2, head_width=8, mlp_width=16, dropout=0.5))


@pytest.mark.parametrize("samples", [7, 64, 359])
def test_batches_of_unequal_size_count_by_their_predictions(vit: ViT, samples: int) -> None:
    """Loss and accuracy are those of all held-out images at once, however they are cut into batches."""
    held = images(None, samples=samples, seed=0, split="validation")
    found = evaluate(vit, held.held_out())
    pictures, labels = next(images(None, samples=359, seed=1, split="validation").held_out())
    with torch.no_grad():
        logits, _ = copy.deepcopy(vit).eval()(pictures)
    assert found.predictions == 359
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.accuracy == (logits.argmax(1) == labels).sum().item() / 359


def test_of_text_every_token_is_a_prediction() -> None:
    """Loss and accuracy of a language model are means over B·T tokens."""
    torch.manual_seed(1)
    model = GPT(GPTConfig(block_size=16, vocab_size=256, n_layer=1, n_head=2, n_embd=8, dropout=0.0, bias=False))
    batches = list(tokens(None, seq=16, samples=4, vocab=256, seed=0, split="validation").held_out(3))
    found = evaluate(model, batches)
    with torch.no_grad():
        answers = [model(inputs, targets) for inputs, targets in batches]
    assert found.predictions == 3 * 4 * 16
    assert found.loss == pytest.approx(sum(loss.item() for _, loss in answers) / 3, rel=1e-6)
    right = sum(
        (logits.argmax(-1) == targets).sum().item() for (logits, _), (_, targets) in zip(answers, batches, strict=True)
    )
    assert found.accuracy == right / 192


@pytest.mark.parametrize("method", [None, "bdia", "bdia-naive", "checkpoint"])
def test_an_evaluation_is_of_the_plain_model_and_leaves_no_trace(vit: ViT, method: str | None) -> None:
    """Whatever is attached, the plain model answers; weights, modes, torch's generator and γ's stay as they were."""
    batches = list(images(None, samples=16, seed=0, split="validation").held_out(2))
    plain = evaluate(vit, batches)
    vit.train()
    vit.blocks[0].eval()
    handle = None if method is None else bdia.attach(vit, method=method)
    weights = copy.deepcopy(vit.state_dict())
    modes = [module.training for module in vit.modules()]
    generator, gamma = torch.get_rng_state(), None if handle is None else copy.deepcopy(handle.state_dict())
    assert evaluate(vit, batches) == plain
    assert [module.training for module in vit.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert handle is None or handle.state_dict() == gamma
    assert all(torch.equal(now, weights[name]) for name, now in vit.state_dict().items())
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_modes_come_back_after_an_error(vit: ViT) -> None:
    """A batch that the model refuses leaves it training."""
    vit.train()
    with pytest.raises(ValueError, match="images of shape"):
        evaluate(vit, [(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64))])
    assert all(module.training for module in vit.modules())


def test_a_loss_that_is_not_finite_is_told(vit: ViT) -> None:
    """Weights that are not finite give a loss that is not, and no error."""
    nn.init.constant_(vit.head.bias, float("nan"))
    found = evaluate(vit, images(None, samples=4, seed=0).held_out(1))
    assert found.loss != found.loss


def test_bf16_is_evaluated_in_its_own_formats(vit: ViT) -> None:
    """Parameters of 16 bits, or autocast, see pixels in their format, and answer near fp32."""
    batches = list(images(None, samples=64, seed=0, split="validation").held_out(1))
    exact = evaluate(vit, batches).loss
    under_autocast = evaluate(vit, batches, amp=True).loss
    halved = evaluate(vit.to(torch.bfloat16), batches).loss
    assert exact != under_autocast == pytest.approx(exact, rel=0.02)
    assert exact != halved == pytest.approx(exact, rel=0.05)


def test_nothing_to_evaluate_on_is_refused(vit: ViT) -> None:
    """No batch at all raises UsageError rather than giving a mean of nothing."""
    with pytest.raises(UsageError, match="no batch to evaluate on"):
        evaluate(vit, [])
