"""The paper's footnote 1: a ResNet that is reversible bit for bit, and itself at inference."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from networks import Errors, gpt_loss, gradients, same
from torch import Tensor, nn

import bdia
from bdia.errors import AttachError
from bdia.methods import METHODS, Method
from bdia.models.resnet import Block, ResNet, ResNetConfig, Transition

ODD = ResNetConfig(channels=2, classes=5, width=8, depth=9, norm="group", dropout=0.2)
BATCHNORM = replace(ODD, width=6, norm="batch")
FLOATING = ("two-stream", "momentum", "leapfrog", "bdia-naive")
NORMS = pytest.mark.parametrize("config", [ODD, BATCHNORM], ids=lambda config: config.norm)


def made(config: ResNetConfig = ODD, seed: int = 0) -> ResNet:
    """In training mode."""
    torch.manual_seed(seed)
    return ResNet(config)


def sample(config: ResNetConfig = ODD, batch: int = 3, side: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, config.channels, side, side, generator=generator)
    return images, torch.randint(config.classes, (batch,), generator=generator)


def stepped(config: ResNetConfig, steps: int = 3, seed: int = 0) -> ResNet:
    """After some optimiser steps of `bdia-stored`."""
    model = made(config, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with bdia.attach(model, "bdia-stored", seed=1):
        for _ in range(steps):
            gpt_loss(model, sample(config, seed=seed)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


@NORMS
@pytest.mark.parametrize(("batch", "channels", "side"), [(2, 1, 4), (3, 2, 9), (2, 3, 32)])
def test_logits_have_a_row_of_classes_for_every_image(
    batch: int, channels: int, side: int, config: ResNetConfig
) -> None:
    """The forward yields logits [B, K] and a scalar loss for any side, odd ones too."""
    config = replace(config, channels=channels)
    logits, loss = made(config)(*sample(config, batch, side))
    assert logits.shape == (batch, 5)
    assert loss is not None
    assert loss.shape == ()


def test_loss_is_the_mean_cross_entropy() -> None:
    """The loss equals the mean of log-sum-exp less the label's logit; without labels there is none."""
    model, (images, labels) = made().eval(), sample()
    logits, loss = model(images, labels)
    wide = logits.double()
    each = wide.logsumexp(-1) - wide.gather(-1, labels[:, None])[:, 0]
    torch.testing.assert_close(loss.double(), each.mean(), rtol=1e-6, atol=0)
    assert model(images)[1] is None


def test_the_number_of_parameters_is_that_on_paper() -> None:
    """Stem, three stages of blocks, two transitions, norm and head."""
    with torch.device("meta"):
        model = ResNet(ResNetConfig())
    d, expected = 16, 0
    for number in range(3):
        c = d * 2**number
        expected += 3 * (2 * 9 * c * c + 4 * c)
        if number:
            expected += 2 * (c // 2) + (c // 2) * c + 9 * (c // 2) * c + 2 * c + 9 * c * c
    expected += 9 * 3 * d + 2 * 4 * d + 4 * d * 10 + 10
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@NORMS
def test_a_block_adds_its_residual_to_the_stream(config: ResNetConfig) -> None:
    """Block(x) − x is two convolutions, each behind norm and ReLU."""
    torch.manual_seed(0)
    block = Block(config, 16).double().eval()
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    h = F.conv2d(F.relu(block.norm_1(x)), block.conv_1.weight, padding=1)
    h = F.conv2d(F.relu(block.norm_2(h)), block.conv_2.weight, padding=1)
    torch.testing.assert_close(block(x) - x, h, rtol=0, atol=1e-12)


def test_a_transition_halves_the_side_and_doubles_the_channels() -> None:
    """Shortcut and residual are of the same activation; an odd side is rounded up."""
    torch.manual_seed(0)
    transition = Transition(ODD, 8).double().eval()
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    a = F.relu(transition.norm_1(x))
    h = F.conv2d(a, transition.conv_1.weight, stride=2, padding=1)
    h = F.conv2d(F.relu(transition.norm_2(h)), transition.conv_2.weight, padding=1)
    expected = F.conv2d(a, transition.shortcut.weight, stride=2) + h
    assert expected.shape == (2, 16, 5, 5)
    torch.testing.assert_close(transition(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 7])
def test_initial_weights_follow_from_the_seed(seed: int) -> None:
    """The same seed gives the same weights bit for bit, another seed others."""
    first, again, other = (made(seed=s).state_dict() for s in (seed, seed, seed + 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_dropout_acts_in_training_only() -> None:
    """Two training forwards differ by their dropout, two in evaluation are equal."""
    model, (images, _) = made(), sample()
    assert not torch.equal(model(images)[0], model(images)[0])
    model.eval()
    assert torch.equal(model(images)[0], model(images)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth=0 is not a size"),
        ({"depth": 8}, "depth=8 is no multiple of 3"),
        ({"width": 12}, "width=12 is no multiple of 8"),
        ({"norm": "layer"}, "norm='layer': expected 'batch' or 'group'"),
        ({"dropout": 1.0}, r"dropout=1\.0 is not a probability"),
    ],
)
def test_impossible_shapes_are_refused_in_one_line(change: dict[str, object], message: str) -> None:
    """A configuration that cannot be raises ValueError in one line with the value."""
    with pytest.raises(ValueError, match=message) as caught:
        replace(ODD, **change)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_images_of_another_shape_are_refused() -> None:
    """Images that the model was not made for raise ValueError naming both shapes."""
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\): expected \[B, 2, S, S\]"):
        made()(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("depth", [3, 9])
def test_each_stage_is_a_chain_unasked(depth: int) -> None:
    """`bdia.attach` finds what `chains` names, in the order they run."""
    model = made(replace(ODD, depth=depth))
    with bdia.attach(model, "bdia") as handle:
        found = handle.chains
    with bdia.attach(model, "bdia", blocks=model.chains) as handle:
        assert handle.chains == found
    n = depth // 3
    assert found == tuple(tuple(f"stages.{stage}.blocks.{block}" for block in range(n)) for stage in range(3))


@NORMS
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_trains_it(method: Method, seed: int, config: ResNetConfig) -> None:
    """Gradients are the stored twin's on trained weights, with dropout: bit for bit, or within the rounding of an
    inverse in floating point; what is rebuilt exactly is `torch.equal` in every block."""
    model, batch = stepped(config, seed=seed), sample(config, batch=5, seed=seed)
    ours, errors = gradients(model, batch, method, seed=seed)
    theirs, _ = gradients(model, batch, method.twin(), seed=seed)
    if method.name in FLOATING:
        assert not same(ours, theirs)
        assert max(errors.largest.values()) < 1e-3
    else:
        assert same(ours, theirs)
    if method.reversible:
        assert errors.equal.keys() == set(range(9))
        assert all(errors.equal.values()) or method.name in FLOATING


@NORMS
@pytest.mark.parametrize("bits", [6, 12])
def test_training_it_without_activations_ends_at_the_same_weights(bits: int, config: ResNetConfig) -> None:
    """Some steps of `bdia` and of `bdia-stored` end with `torch.equal` weights, and running statistics with them."""
    ends = []
    for method in ("bdia", "bdia-stored"):
        model = made(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        torch.manual_seed(4)
        with bdia.attach(model, method, bits=bits, seed=4, verify=method == "bdia"):
            for step in range(4):
                gpt_loss(model, sample(config, batch=4, seed=step)).backward()
                optimizer.step()
                optimizer.zero_grad()
        ends.append(model.state_dict())
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_running_statistics_are_updated_once_a_step() -> None:
    """A rerun in the backward leaves batch norm's statistics and its count of batches alone."""
    model, batch = made(BATCHNORM), sample(BATCHNORM)
    with bdia.attach(model, "bdia", seed=0):
        loss = gpt_loss(model, batch)
        forward = {name: buffer.clone() for name, buffer in model.named_buffers()}
        loss.backward()
    assert {int(value) for name, value in forward.items() if name.endswith("batches_tracked")} == {1}
    assert len(forward) > 3 * 20
    assert all(torch.equal(buffer, forward[name]) for name, buffer in model.named_buffers())


@NORMS
@pytest.mark.parametrize("gamma", [0.5, 0.25])
def test_at_inference_it_is_the_plain_resnet(gamma: float, config: ResNetConfig) -> None:
    """After training, eval output and the names of the state are those of a model that never had a method, attached or
    not, and no module keeps a forward of ours."""
    model, batch = made(config), sample(config)
    names = list(model.state_dict())
    with bdia.attach(model, "bdia", gamma=gamma, seed=0) as handle:
        gpt_loss(model, batch).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert list(model.state_dict()) == names
        fresh = ResNet(config)
        fresh.load_state_dict(model.state_dict())
        plain = fresh.eval()(batch[0])[0]
        assert torch.equal(model.eval()(batch[0])[0], plain)
        handle.detach()
    assert torch.equal(model(batch[0])[0], plain)
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_gamma_is_drawn_by_sample() -> None:
    """Each image has its γ: of the blocks' outputs, the part that x₋ has in x₊ differs between two equal images."""
    model = made(replace(ODD, dropout=0.0))
    images = sample(batch=1)[0].expand(6, -1, -1, -1)
    with bdia.attach(model, "bdia", seed=0):
        logits = model(images)[0]
    assert len(logits.detach().unique(dim=0)) == 6


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("amp", [False, True], ids=["fp32", "autocast"])
def test_formats_of_memory_and_of_numbers_keep_it_exact(amp: bool, layout: torch.memory_format) -> None:
    """Channels last, and blocks that compute in bf16: every x is rebuilt, gradients are the twin's."""
    model, (images, labels) = made().to(memory_format=layout), sample()
    batch = (images.contiguous(memory_format=layout), labels)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            return gpt_loss(model, batch)

    ours, errors = gradients(model, batch, "bdia", loss=loss)
    theirs, _ = gradients(model, batch, "bdia-stored", loss=loss)
    assert errors.equal == dict.fromkeys(range(9), True)
    assert same(ours, theirs)


def test_group_norm_lets_a_batch_be_cut_and_batch_norm_does_not() -> None:
    """Micro-batches are exact with the one, and refused with the other, which normalises over the batch."""
    model, batch, found = made(), sample(batch=5), []
    for method in ("bdia", "bdia-stored"):
        model.zero_grad()
        torch.manual_seed(2)
        with bdia.attach(model, method, seed=2, micro_batches=2, keep=2):
            gpt_loss(model, batch).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert same(*found)
    with pytest.raises(AttachError, match=r"stages\.0\.blocks\.0\.norm_1 is a BatchNorm2d"):
        bdia.attach(made(BATCHNORM), "bdia", micro_batches=2)


@NORMS
def test_a_copy_trains_on_its_own(config: ResNetConfig) -> None:
    """A deep copy of the attached model (an EMA) is exact too, and leaves the original alone."""
    model, batch = made(config), sample(config)
    with bdia.attach(model, "bdia", seed=0) as handle:
        twin = copy.deepcopy(model)
        gpt_loss(twin, batch).backward()
        assert handle.state_dict()["forwards"] == 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in twin.parameters())


def test_side_bits_are_one_an_activation_of_every_chain() -> None:
    """Each stage packs a bit for each element of each block but its first, whose step (19) keeps none."""
    model, images = made(), sample(batch=4, side=8)
    errors = Errors()
    with bdia.attach(model, "bdia", seed=0) as handle, handle.observing(errors):
        gpt_loss(model, images)
        held = handle.side_bytes
    sizes = [errors.forward[call].numel() for call in range(9)]
    assert sizes == [4 * 8 * 64] * 3 + [4 * 16 * 16] * 3 + [4 * 32 * 4] * 3
    assert held == sum(size // 8 for number, size in enumerate(sizes) if number % 3)
