"""Loss and accuracy on held-out batches."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bdia
from bdia.models.gpt import GPT, GPTConfig
from bdia.models.vit import ViT, ViTConfig
from bench.data.images import images
from bench.data.text import tokens
from bench.evaluation import Score, evaluate, judged
from bench.workload import Workload


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(classes=10, width=16, depth=2, heads=2, head_width=8, mlp_width=16, dropout=0.5))


def held_out(samples: int, count: int | None = None) -> list[tuple[Tensor, Tensor]]:
    return list(images(None, samples=samples, seed=0, split="validation").held_out(count))


def workload(model: nn.Module) -> Workload:
    return Workload(model, held_out(1, 1)[0], lambda model, batch: model(*batch)[1])


@pytest.mark.parametrize("samples", [7, 64, 359])
def test_batches_of_unequal_size_count_by_their_samples(vit: ViT, samples: int) -> None:
    """Loss and accuracy are those of all held-out images at once, however they are cut into batches."""
    found = evaluate(workload(vit), held_out(samples))
    ((pictures, labels),) = held_out(359)
    with torch.no_grad():
        logits, _ = copy.deepcopy(vit).eval()(pictures)
    assert found.samples == 359
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.accuracy == (logits.argmax(1) == labels).sum().item() / 359


def test_text_has_a_loss_and_no_accuracy() -> None:
    """The loss of a language model is the mean over its samples; none of them has a class."""
    torch.manual_seed(1)
    model = GPT(GPTConfig(block_size=16, vocab_size=256, n_layer=1, n_head=2, n_embd=8, dropout=0.0, bias=False))
    batches = list(tokens(None, seq=16, samples=4, vocab=256, seed=0, split="validation").held_out(3))
    found = evaluate(workload(model), batches)
    with torch.no_grad():
        losses = [model(*batch)[1].item() for batch in batches]
    assert found.loss == pytest.approx(sum(losses) / 3, rel=1e-6)
    assert found.accuracy is None


@pytest.mark.parametrize("method", [None, "bdia", "bdia-naive", "checkpoint"])
def test_an_evaluation_is_of_the_plain_model_and_leaves_no_trace(vit: ViT, method: str | None) -> None:
    """Whatever is attached, the plain model answers; weights, modes, torch's generator and γ's stay as they were."""
    batches = held_out(16, 2)
    plain = evaluate(workload(vit), batches)
    vit.train()
    vit.blocks[0].eval()
    handle = None if method is None else bdia.attach(vit, method=method)
    weights = copy.deepcopy(vit.state_dict())
    modes = [module.training for module in vit.modules()]
    generator, gamma = torch.get_rng_state(), None if handle is None else copy.deepcopy(handle.state_dict())
    found = evaluate(workload(vit), batches)
    assert (found.loss, found.accuracy) == (plain.loss, plain.accuracy)
    assert [module.training for module in vit.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert handle is None or handle.state_dict() == gamma
    assert all(torch.equal(now, weights[name]) for name, now in vit.state_dict().items())
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_a_rule_that_is_no_plain_model_is_evaluated_as_trained(vit: ViT) -> None:
    """Two streams are two streams at inference as well: the score is not that of the plain model."""
    batches = held_out(64, 1)
    plain = evaluate(workload(vit), batches).loss
    with bdia.attach(vit, method="two-stream"):
        assert evaluate(workload(vit), batches).loss != plain


def test_a_model_that_draws_at_inference_moves_no_generator() -> None:
    """Where the model itself draws in eval mode, torch's generator is put back."""

    class Drawing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = torch.randn(len(pictures), 10) * self.weight
            return logits, F.cross_entropy(logits, labels)

    before = torch.get_rng_state()
    evaluate(workload(Drawing()), held_out(16, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_modes_come_back_after_an_error(vit: ViT) -> None:
    """A batch that the model refuses leaves it training."""
    vit.train()
    with pytest.raises(ValueError, match="images of shape"):
        evaluate(workload(vit), [(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64))])
    assert all(module.training for module in vit.modules())


def test_a_loss_that_is_not_finite_is_none(vit: ViT) -> None:
    """Weights that are not finite give no loss, and neither does an evaluation of nothing."""
    nn.init.constant_(vit.head.bias, float("nan"))
    assert evaluate(workload(vit), held_out(4, 1)).loss is None
    nothing = evaluate(workload(vit), [])
    assert (nothing.loss, nothing.accuracy, nothing.samples) == (None, None, 0)


def test_right_answers_are_counted_forward_by_forward(vit: ViT) -> None:
    """In training mode too, whether labels are given by position or by name; a forward without labels counts for
    nothing, and neither does one after the end."""
    (pictures, labels), *_ = held_out(8)
    with judged(vit) as right:
        answers = [vit(pictures, labels)[0], vit(pictures, labels=labels)[0]]
        vit(pictures)
    vit(pictures, labels)
    assert [int(one) for one in right] == [int((logits.argmax(1) == labels).sum()) for logits in answers]
    assert not any(one.requires_grad for one in right)


def test_a_score_is_read_once_at_its_end(vit: ViT, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding a batch reads nothing back from the device, which would wait for it."""
    batches, read = held_out(8, 3), []
    for name in ("__float__", "__int__", "item", "tolist"):
        plain = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda tensor, plain=plain, name=name: read.append(name) or plain(tensor))
    score, of = Score(), workload(vit)
    for batch in batches:
        score.add(of, batch)
    assert read == []
    assert score.loss is not None
    assert read == ["__float__"]
