"""Losses in chunks of tokens, as cases have them: the bench's GPT, models of transformers, and those that cannot."""

from __future__ import annotations

from typing import Any

import measuring
import pytest
import torch
from synthetic_records import case
from torch import Tensor
from torch.overrides import TorchFunctionMode

import bdia
from bench.case import MEASUREMENTS, Case, Plan
from bench.errors import UnsupportedError
from bench.meters.memory import measure_memory
from bench.workload import Workload, build

SIZES = {"depth": 2, "width": 16, "heads": 2, "seq": 12, "batch": 3}


def of(model: str = "gpt", chunks: int = 1, **axes: Any) -> Case:
    return case(axes.pop("method", "standard"), model=model, loss_chunks=chunks, **(SIZES | {"vocab": 300} | axes))


def gradients(workload: Workload) -> tuple[float, dict[str, Tensor]]:
    """The loss and all gradients, without dropout, all but the loss itself in float64: models take that in fp32."""
    model = workload.model.double().eval()
    loss = workload.loss(model, workload.batch)
    loss.backward()
    return float(loss.detach()), {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }


class Largest(TorchFunctionMode):
    """The most elements that any result of a torch function has."""

    elements = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize(
    ("model", "untied"),
    [("gpt", False), ("hf:gpt2", False), ("hf:llama", True), ("hf:bert", False), ("hf:t5", False), ("hf:opt", False)],
)
@pytest.mark.parametrize("chunks", [2, 5, 36])
def test_loss_and_gradients_are_the_models_own(model: str, untied: bool, chunks: int) -> None:
    """Causal, masked and encoder-decoder, tied to the embedding or not, with labels that take no part: in any number of
    chunks, uneven ones among them, all gradients are those of the model's own loss."""
    own, theirs = gradients(build(of(model)))
    ours, chunked = gradients(build(of(model, chunks)))
    assert ours == pytest.approx(own, rel=1e-6)
    assert chunked.keys() == theirs.keys()
    assert any("lm_head" in name for name in chunked) == untied
    scale = max(float(gradient.norm()) for gradient in theirs.values())
    for name, gradient in chunked.items():
        # Of a bias of keys the true gradient is 0, and rounding is all there is of it.
        assert float((gradient - theirs[name]).norm()) <= 1e-6 * float(theirs[name].norm()) + 1e-15 * scale, name


@pytest.mark.parametrize("model", ["gpt", "hf:gpt2", "hf:bert"])
def test_no_logits_of_all_tokens_are_made(model: str) -> None:
    """With a vocabulary that outweighs everything else, no tensor of the forward has as many elements as all logits."""
    vocab = 20_000
    logits = SIZES["batch"] * SIZES["seq"] * vocab
    for chunks in (1, 6):
        workload = build(of(model, chunks, vocab=vocab))
        with Largest() as largest:
            workload.loss(workload.model, workload.batch)
        # What lies between is the embedding itself, of V·D elements.
        assert largest.elements >= logits if chunks == 1 else largest.elements <= max(logits / 6, vocab * 16)


def test_a_model_is_as_it_was_beside_its_loss() -> None:
    """After a loss in chunks the output layer is the model's own again, and so is its training mode."""
    workload = build(of("hf:gpt2", 4))
    assert workload.model.training
    workload.loss(workload.model, workload.batch)
    assert "forward" not in vars(workload.model.lm_head)
    logits = workload.model(input_ids=workload.batch["input_ids"]).logits
    assert logits.shape == (SIZES["batch"], SIZES["seq"], 300)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("hf:gemma2", "does something to its logits after its output layer"),
        ("hf:cohere", "does something to its logits after its output layer"),
        ("hf:bart", "does not run without its output layer"),
    ],
)
def test_a_model_whose_loss_is_another_is_unsupported(model: str, why: str) -> None:
    """Caps, scales and biases after the output layer would be left out, so the case is a row with the reason."""
    with pytest.raises(UnsupportedError, match=f"loss_chunks 4: {model} {why}"):
        build(of(model, 4))
    assert build(of(model)).loss is not None
    found = measuring.measured(Plan(case=of(model, 4), measure=frozenset({"memory"})))
    assert found.status == "unsupported"
    assert (found.message or "").endswith("so its loss cannot be taken in chunks; leave --loss-chunks out")
    assert "\n" not in (found.message or "")


@pytest.mark.parametrize("dtype", ["fp32", "bf16-amp", "bf16"])
@pytest.mark.parametrize("model", ["gpt", "hf:gpt2"])
def test_every_number_format_takes_its_loss_in_chunks(model: str, dtype: str) -> None:
    """The loss is fp32 and near the whole's, and every parameter has a gradient of its own format."""
    losses = []
    for chunks in (1, 4):
        workload = build(of(model, chunks, dtype=dtype))
        workload.model.eval()
        loss = workload.loss(workload.model, workload.batch)
        loss.backward()
        losses.append(float(loss.detach()))
        assert loss.dtype == torch.float32
        wanted = torch.bfloat16 if dtype == "bf16" else torch.float32
        assert {weight.grad.dtype for weight in workload.model.parameters() if weight.grad is not None} == {wanted}
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("model", ["gpt", "hf:gpt2"])
def test_bdia_is_exact_with_a_loss_in_chunks(model: str) -> None:
    """Every meter takes the chunked loss, together with a step in parts."""
    plan = Plan(
        case=of(model, 3, method="bdia", accumulate=2, micro_batches=1),
        measure=frozenset(MEASUREMENTS) - {"throughput"},
    )
    found = measuring.measured(plan)
    assert (found.status, found.message) == ("ok", None)
    assert (found.fields["bit_exact"], found.fields["gradient_error"]) == (True, 0.0)


def test_the_memory_of_logits_is_that_of_one_chunk() -> None:
    """Of a model that is nearly all logits, 8 chunks leave about an eighth, and the output layer's gradient."""
    vocab = 8192

    def activations(chunks: int) -> int:
        workload = build(of(chunks=chunks, vocab=vocab, seq=32, batch=4))
        with bdia.attach(workload.model, "checkpoint", blocks=workload.blocks) as handle:
            return measure_memory(workload, handle, workload.device).activation_bytes

    logits, weights = 4 * 4 * 32 * vocab, 4 * vocab * SIZES["width"]
    whole, chunked = activations(1), activations(8)
    assert whole > 2 * logits
    # A chunk's logits, the gradient of the tied weights beside the one that is kept, and what the blocks hold.
    assert chunked < logits / 8 + weights + 200_000 < whole / 4
