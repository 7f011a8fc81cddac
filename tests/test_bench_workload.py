from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import bdia
from bench.case import Case
from bench.errors import UsageError
from bench.meters.stream import Stream
from bench.workload import Workload, build, train

GPT = Case(
    method="standard", model="gpt", depth=2, width=12, heads=3, seq=7, batch=3, bits=None, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=1, data=None,
)  # fmt: skip
VIT = msgspec.structs.replace(GPT, model="vit", width=10, heads=2, seq=None, vocab=None)
RESNET = msgspec.structs.replace(VIT, model="resnet", depth=6, width=8, heads=None)
CASES = [GPT, VIT, msgspec.structs.replace(VIT, model="vit-spt"), RESNET]
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)


def weights(workload: Workload) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in workload.model.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_gpt_counts_its_tokens() -> None:
    """B·T tokens a step, in as many blocks as the case is deep."""
    workload = build(GPT)
    assert (workload.samples, workload.tokens) == (3, 21)
    assert len(workload.blocks) == 2
    assert list(workload.blocks) == list(workload.model.transformer.h)
    assert [tuple(part.shape) for part in workload.batch] == [(3, 7), (3, 7)]


def test_a_vit_counts_samples_alone() -> None:
    """A ViT has no tokens to count a rate by."""
    workload = build(VIT)
    assert (workload.samples, workload.tokens) == (3, None)
    assert list(workload.blocks) == list(workload.model.blocks)
    assert [tuple(part.shape) for part in workload.batch] == [(3, 3, 32, 32), (3,)]


@EACH
def test_a_watcher_measures_the_stream(case: Case) -> None:
    """One forward tells B·T·D; for a ViT, T counts the class token; for a ResNet it is the mean of its stages."""
    workload, stream = build(case), Stream()
    with bdia.attach(workload.model, "standard", blocks=workload.blocks) as handle:
        for _ in range(2):
            with handle.observing(stream):
                workload.loss(workload.model, workload.batch)
    if case.model == "resnet":
        assert stream.elements == 3 * 8 * (32 * 32 + 2 * 16 * 16 + 4 * 8 * 8) // 3
    else:
        assert stream.elements == case.batch * (case.seq or 65) * case.width


def test_a_resnet_has_a_chain_a_stage() -> None:
    """Depth counts the blocks of all stages; a sample is an image, as a ViT's is."""
    workload = build(RESNET)
    assert (workload.samples, workload.tokens) == (3, None)
    assert workload.blocks == workload.model.chains
    assert [len(chain) for chain in workload.blocks] == [2, 2, 2]
    assert [tuple(part.shape) for part in workload.batch] == [(3, 3, 32, 32), (3,)]


@EACH
@pytest.mark.parametrize("seed", [0, 3])
def test_a_workload_follows_from_its_case(case: Case, seed: int) -> None:
    """Two builds of a case have equal weights and batches whatever was drawn before, and methods share them."""
    case = msgspec.structs.replace(case, seed=seed)
    first = build(case)
    torch.rand(5)
    again = build(msgspec.structs.replace(case, method="bdia", bits=9))
    assert same(weights(first), weights(again))
    assert all(torch.equal(one, two) for one, two in zip(first.batch, again.batch, strict=True))
    assert not same(weights(first), weights(build(msgspec.structs.replace(case, seed=seed + 1))))


@EACH
def test_training_is_the_same_whatever_ran_before(case: Case) -> None:
    """Two trainings of a case end with equal weights, though other random numbers were drawn in between."""
    first, again, other = build(case), build(case), build(case)
    train(first, 2)
    other.loss(other.model, other.batch)
    torch.rand(5)
    train(again, 2)
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(build(case)))


def test_training_leaves_no_gradients_and_the_batch_as_it_was() -> None:
    """After training no parameter has a gradient, and the measured batch is none of those trained on."""
    workload = build(GPT)
    before = [part.clone() for part in workload.batch]
    train(workload, 3)
    assert all(parameter.grad is None for parameter in workload.model.parameters())
    assert all(torch.equal(one, two) for one, two in zip(before, workload.batch, strict=True))
    for step in (1, 2, 3):
        assert not torch.equal(workload.batches(step)[0], workload.batch[0])


def test_training_takes_one_optimiser_step_a_batch() -> None:
    """Each of the steps moves AdamW's own counter by one; none leaves the weights alone."""
    workload = build(GPT)
    before = weights(workload)
    train(workload, 0)
    assert same(before, weights(workload))
    train(workload, 3)
    assert {int(state["step"]) for state in workload.optimizer.state.values()} == {3}


def test_training_learns() -> None:
    """The loss of the measured batch falls over training on other batches of the same text."""
    workload = build(msgspec.structs.replace(GPT, width=24, batch=8, seq=16))
    before = workload.loss(workload.model, workload.batch).item()
    train(workload, 40)
    assert workload.loss(workload.model, workload.batch).item() < before - 0.5


def test_the_loss_is_the_models_own() -> None:
    """In fp32 the loss is the cross-entropy of the model's logits with the batch's targets."""
    workload = build(GPT)
    inputs, targets = workload.batch
    logits, _ = workload.model(inputs)
    expected = F.cross_entropy(logits.view(-1, 256), targets.view(-1))
    assert torch.equal(workload.loss(workload.model, workload.batch), expected)


@pytest.mark.parametrize(
    ("dtype", "parameters", "stream"),
    [
        ("fp32", torch.float32, torch.float32),
        ("bf16-amp", torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16),
    ],
)
@EACH
def test_number_formats(case: Case, dtype: str, parameters: torch.dtype, stream: torch.dtype) -> None:
    """bf16-amp computes layers in bf16 on fp32 parameters and stream, bf16 has all in bf16; losses are fp32. What a
    ResNet's stream begins with is a layer's output, and no sum with a parameter."""
    workload = build(msgspec.structs.replace(case, dtype=dtype))
    seen: list[torch.dtype] = []
    first = workload.blocks[0]
    block = first[0] if isinstance(first, tuple) else first
    block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    linear = next(part for part in block.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d))
    linear.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    loss = workload.loss(workload.model, workload.batch)
    assert {parameter.dtype for parameter in workload.model.parameters()} == {parameters}
    if case.model == "resnet" and dtype == "bf16-amp":
        stream = torch.bfloat16
    assert seen == [stream, torch.float32 if dtype == "fp32" else torch.bfloat16]
    assert loss.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")
    train(workload, 1)
    assert bool(workload.loss(workload.model, workload.batch).isfinite())


def test_the_vocabulary_may_be_larger_than_the_data_needs() -> None:
    """Bytes can be fed to a model with nanoGPT's vocabulary."""
    workload = build(msgspec.structs.replace(GPT, vocab=300))
    assert workload.model.lm_head.out_features == 300
    assert int(workload.batch[0].max()) < 256


def test_the_users_data_is_used(tmp_path: Path) -> None:
    """The batch comes from the file that the case names."""
    path = tmp_path / "train.bin"
    path.write_bytes(np.full(50, 40000, dtype="<u2").tobytes())
    workload = build(msgspec.structs.replace(GPT, vocab=50304, data=str(path)))
    assert set(workload.batch[0].unique().tolist()) == {40000}


def test_the_options_of_the_vit_are_on_in_its_variant() -> None:
    """vit-spt has the shifted patch tokens and the learned temperature, vit neither."""
    plain, variant = build(VIT).model.config, build(msgspec.structs.replace(VIT, model="vit-spt")).model.config
    assert (plain.shifted_patches, plain.learned_temperature) == (False, False)
    assert (variant.shifted_patches, variant.learned_temperature) == (True, True)
    assert plain.mlp_width == plain.width == plain.heads * plain.head_width == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gtp"}, "unknown model 'gtp'"),
        ({"heads": 5}, "n_embd=12 is not divisible by n_head=5"),
        ({"model": "vit", "heads": 5}, "width=12 is not divisible by heads=5"),
        ({"depth": 0}, "n_layer=0"),
        ({"model": "resnet", "depth": 4, "width": 8}, "model resnet: depth=4 is no multiple of 3"),
        ({"seq": None}, "needs the axis seq"),
        ({"vocab": 100}, "outside a vocabulary of 100"),
        ({"data": "nowhere.txt"}, "'nowhere.txt' is not there"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(change: dict[str, object], message: str) -> None:
    """An impossible case raises UsageError in one line."""
    with pytest.raises(UsageError, match=message) as caught:
        build(msgspec.structs.replace(GPT, **change))
    assert "\n" not in str(caught.value)
