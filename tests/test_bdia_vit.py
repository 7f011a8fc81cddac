from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bdia.models.vit import PRESETS, Attention, Block, Patches, ViT, ViTConfig, with_shifts

ODD = ViTConfig(
    image_size=6, channels=3, patch_size=3, classes=7, width=10, depth=2, heads=3, head_width=5, mlp_width=11
)


def made(config: ViTConfig = ODD, seed: int = 0) -> ViT:
    torch.manual_seed(seed)
    return ViT(config)


def sample(config: ViTConfig = ODD, batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(batch, config.channels, config.image_size, config.image_size, generator=generator)
    return images, torch.randint(config.classes, (batch,), generator=generator)


@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize(("batch", "channels", "patch"), [(1, 1, 2), (3, 3, 3), (2, 2, 6)])
def test_logits_have_a_row_of_classes_for_every_image(batch: int, channels: int, patch: int, options: bool) -> None:
    """The forward yields logits [B, K] and a scalar loss for odd shapes, with and without the options."""
    config = replace(ODD, channels=channels, patch_size=patch, shifted_patches=options, learned_temperature=options)
    logits, loss = made(config)(*sample(config, batch))
    assert logits.shape == (batch, 7)
    assert loss.shape == ()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_is_the_mean_cross_entropy(seed: int) -> None:
    """The loss equals the mean of log-sum-exp less the label's logit."""
    logits, loss = made(seed=seed).eval()(*sample(seed=seed))
    labels = sample(seed=seed)[1]
    wide = logits.double()
    each = wide.logsumexp(-1) - wide.gather(-1, labels[:, None])[:, 0]
    torch.testing.assert_close(loss.double(), each.mean(), rtol=1e-6, atol=0)


def test_without_labels_there_is_no_loss() -> None:
    """The loss is None where no labels are given."""
    assert made()(sample()[0])[1] is None


@pytest.mark.parametrize("preset", list(PRESETS))
def test_vit_small_has_the_number_of_parameters_on_paper(preset: str) -> None:
    """The paper's model counts as its layers do: patches, tokens, six blocks, norm and head, and the options'."""
    with torch.device("meta"):
        model = ViT(PRESETS[preset])
    d, patch = 512, 3 * 4 * 4
    norm = 2 * d
    block = norm + 3 * d * d + d * d + d + norm + 2 * (d * d + d)
    expected = patch * d + d + d + 65 * d + 6 * block + norm + 10 * d + 10
    if preset == "vit-small-spt":
        expected += 4 * patch * d + 2 * 5 * patch + 6
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_shifted_copies_are_the_image_moved_diagonally() -> None:
    """Each copy holds the pixel that lies `distance` rows and columns away, and 0 where that is off the image."""
    images = torch.arange(1, 2 * 2 * 5 * 5 + 1, dtype=torch.float32).view(2, 2, 5, 5)
    shifted = with_shifts(images, 2)
    assert shifted.shape == (2, 10, 5, 5)
    assert torch.equal(shifted[:, :2], images)
    moves = [(-2, -2), (-2, 2), (2, -2), (2, 2)]
    for number, (down, right) in enumerate(moves, 1):
        copy = shifted[:, 2 * number : 2 * number + 2]
        for row in range(5):
            for column in range(5):
                inside = 0 <= row - down < 5 and 0 <= column - right < 5
                expected = images[:, :, row - down, column - right] if inside else torch.zeros(2, 2)
                assert torch.equal(copy[:, :, row, column], expected)


@pytest.mark.parametrize("shifted", [False, True])
def test_a_patch_is_embedded_from_its_own_pixels(shifted: bool) -> None:
    """Patch number r·(S/p) + c is the linear layer of the pixels of row r and column c of the grid of patches."""
    torch.manual_seed(0)
    patches = Patches(replace(ODD, shifted_patches=shifted)).double()
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    seen = with_shifts(images, 1) if shifted else images
    found = patches(images)
    assert found.shape == (2, 4, 10)
    for row in range(2):
        for column in range(2):
            pixels = seen[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3].flatten(1)
            expected = patches.embed(patches.norm(pixels))
            torch.testing.assert_close(found[:, 2 * row + column], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("learned", [False, True])
def test_attention_is_softmax_over_all_tokens_or_all_others(learned: bool) -> None:
    """Attention equals a softmax over products times the temperature, without the diagonal if it is learned."""
    torch.manual_seed(0)
    attention = Attention(replace(ODD, learned_temperature=learned)).double().eval()
    temperature = 1 / math.sqrt(5)
    if learned:
        assert attention.log_temperature.exp().item() == pytest.approx(temperature)
        temperature = 0.7
        with torch.no_grad():
            attention.log_temperature.fill_(math.log(temperature))
    x = torch.randn(2, 5, 10, dtype=torch.float64)
    q, k, v = (x @ attention.qkv.weight.T).split(15, dim=-1)
    heads = []
    for cut in (slice(0, 5), slice(5, 10), slice(10, 15)):
        scores = q[..., cut] @ k[..., cut].transpose(1, 2) * temperature
        if learned:
            scores = scores.masked_fill(torch.eye(5).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ v[..., cut])
    torch.testing.assert_close(attention(x), attention.out(torch.cat(heads, -1)), rtol=0, atol=1e-12)


def test_with_two_tokens_each_attends_to_the_other_alone() -> None:
    """The masked diagonal leaves a token of two with nothing but the other's value."""
    torch.manual_seed(0)
    config = replace(ODD, patch_size=6, learned_temperature=True)
    attention = Attention(config).double().eval()
    x = torch.randn(3, 2, 10, dtype=torch.float64)
    values = (x @ attention.qkv.weight.T)[..., 30:]
    torch.testing.assert_close(attention(x), attention.out(values.flip(1)), rtol=0, atol=1e-12)


def test_the_temperature_learns() -> None:
    """A backward leaves a finite gradient, not 0, on every block's temperature."""
    model = made(replace(ODD, learned_temperature=True))
    model(*sample())[1].backward()
    for block in model.blocks:
        gradient = block.attention.log_temperature.grad
        assert bool(gradient.isfinite().all())
        assert bool(gradient.any())


def test_the_mask_is_no_part_of_the_state() -> None:
    """The diagonal mask moves with the model but is not saved in its state_dict."""
    model = made(replace(ODD, learned_temperature=True))
    assert any(name.endswith("others") for name, _ in model.named_buffers())
    assert not any(name.endswith("others") for name in model.state_dict())


def test_a_block_is_attention_then_mlp_each_added_to_the_stream() -> None:
    """Block(x) − x is f(x) + g(x + f(x)), eq. 4."""
    torch.manual_seed(0)
    block = Block(ODD).double().eval()
    x = torch.randn(2, 5, 10, dtype=torch.float64)
    f = block.attention(block.norm_1(x))
    g = block.mlp(block.norm_2(x + f))
    torch.testing.assert_close(block(x) - x, f + g, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 7])
def test_initial_weights_follow_from_the_seed(seed: int) -> None:
    """The same seed gives the same weights bit for bit, another seed others."""
    first, again, other = (made(seed=s).state_dict() for s in (seed, seed, seed + 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["positions"], other["positions"])


def test_dropout_acts_in_training_only() -> None:
    """Two training forwards differ by their dropout, two in evaluation are equal."""
    model, (images, _) = made(), sample()
    assert not torch.equal(model(images)[0], model(images)[0])
    model.eval()
    assert torch.equal(model(images)[0], model(images)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 4}, "image_size=6 is not a multiple of patch_size=4"),
        ({"depth": 0}, "depth=0 is not a size"),
        ({"mlp_width": 0}, "mlp_width=0 is not a size"),
        ({"embedding_dropout": -0.1}, "embedding_dropout=-0.1 is not a probability"),
        ({"patch_size": 1, "shifted_patches": True}, "patch_size=1 has no half"),
    ],
)
def test_impossible_shapes_are_refused_in_one_line(change: dict[str, float], message: str) -> None:
    """A configuration that cannot be raises ValueError in one line with the value."""
    with pytest.raises(ValueError, match=message) as caught:
        replace(ODD, **change)
    assert "\n" not in str(caught.value)


def test_images_of_another_shape_are_refused() -> None:
    """Images that the model was not made for raise ValueError naming both shapes."""
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\): expected \[B, 3, 6, 6\]"):
        made()(torch.zeros(1, 3, 8, 8))
