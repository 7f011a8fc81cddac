"""The paper's ViT-small: a pre-norm vision transformer for 32×32 images.

Its shape is that of kentaroy47/vision-transformers-cifar10. Two options make attention work on small sets of
images (Lee et al., arXiv 2112.13492): shifted patch tokens, and locality self-attention (a learned temperature,
and no token attends to itself).

Shapes: B batch, C channels, S image side, p patch side, P patches = (S/p)², L tokens = P + 1, D width,
H heads, d width of a head, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a ViT; the defaults are the paper's ViT-small.

    Raises: ValueError for a size below 1, a dropout outside [0, 1), a patch that does not divide the image, a
    patch too small to shift by half.
    """

    image_size: int = 32
    channels: int = 3
    patch_size: int = 4
    classes: int = 10
    width: int = 512
    depth: int = 6
    heads: int = 8
    head_width: int = 64
    mlp_width: int = 512
    dropout: float = 0.1
    """After attention and inside the MLP."""
    embedding_dropout: float = 0.1
    """On the tokens, before the first block."""
    shifted_patches: bool = False
    """Each patch also sees the image shifted by half a patch in the four diagonal directions."""
    learned_temperature: bool = False
    """Attention learns its temperature and leaves out the diagonal."""

    def __post_init__(self) -> None:
        sizes = ("image_size", "channels", "patch_size", "classes", "width", "depth", "heads", "head_width")
        for name in (*sizes, "mlp_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a size: expected 1 or more")
        for name in ("dropout", "embedding_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)} is not a probability below 1: expected 0 ≤ {name} < 1")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}: change either"
            )
        if self.shifted_patches and self.patch_size < 2:
            raise ValueError("patch_size=1 has no half to shift by: use 2 or more, or shifted_patches=False")

    @property
    def tokens(self) -> int:
        """L, the patches and the class token."""
        side: int = self.image_size // self.patch_size
        return side * side + 1


PRESETS: dict[str, ViTConfig] = {
    "vit-small": ViTConfig(),
    "vit-small-spt": ViTConfig(shifted_patches=True, learned_temperature=True),
}


def with_shifts(images: Tensor, distance: int) -> Tensor:
    """Images, then four copies moved diagonally by `distance`, zeros moving in: [B, C, S, S] → [B, 5C, S, S].

    In the order up-left, up-right, down-left, down-right (Lee et al.; the repository this model follows
    shifts by one pixel along the axes instead).
    """
    copies = [images]
    for down in (-distance, distance):
        for right in (-distance, distance):
            copies.append(F.pad(images, (right, -right, down, -down)))  # a negative pad crops
    return torch.cat(copies, dim=1)


class Patches(nn.Module):
    """Cuts images into patches and embeds each: [B, C, S, S] → [B, P, D]."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.shifted = config.shifted_patches
        channels = config.channels * (5 if self.shifted else 1)
        features = channels * config.patch_size**2
        self.norm = nn.LayerNorm(features) if self.shifted else nn.Identity()
        self.embed = nn.Linear(features, config.width)

    def forward(self, images: Tensor) -> Tensor:
        if self.shifted:
            images = with_shifts(images, self.patch_size // 2)  # [B, 5C, S, S]
        p = self.patch_size
        batch, channels, side, _ = images.shape
        grid = images.reshape(batch, channels, side // p, p, side // p, p)  # [B, C, S/p, p, S/p, p]
        patches = grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # [B, P, C·p·p]
        out: Tensor = self.embed(self.norm(patches))
        return out


class Attention(nn.Module):
    """Self-attention over all tokens, f of eq. 4 behind its layer norm: [B, L, D] → [B, L, D]."""

    others: Tensor
    """[L, L], False on the diagonal."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.head_width
        self.qkv = nn.Linear(config.width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.learned = config.learned_temperature
        if self.learned:
            # One element rather than a scalar: FSDP cannot shard a scalar.
            self.log_temperature = nn.Parameter(torch.tensor([-0.5 * math.log(config.head_width)]))
            others = ~torch.eye(config.tokens, dtype=torch.bool)
            self.register_buffer("others", others, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).chunk(3, dim=-1)  # three of [B, L, H·d]
        q, k, v = (part.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in qkv)  # each [B, H, L, d]
        if self.learned:
            q = q * self.log_temperature.exp()
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.others, scale=1.0)  # [B, H, L, d]
        else:
            y = F.scaled_dot_product_attention(q, k, v)  # [B, H, L, d]
        y = y.transpose(1, 2).flatten(2)  # [B, L, H·d]
        out: Tensor = self.dropout(self.out(y))
        return out


class Block(nn.Module):
    """One residual block, x + h(x) with h(x) = f(x) + g(x + f(x)) (eq. 4): [B, L, D] → [B, L, D]."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.norm_2 = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, config.mlp_width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.mlp_width, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x))
        out: Tensor = x + self.mlp(self.norm_2(x))
        return out


class ViT(nn.Module):
    """A vision transformer that classifies by the last state of its class token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = Patches(config)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.width))
        self.positions = nn.Parameter(torch.randn(1, config.tokens, config.width))
        self.dropout = nn.Dropout(config.embedding_dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits [B, K] of images [B, C, S, S], and their mean cross-entropy where labels [B] are given.

        Raises: ValueError for images of another shape.
        """
        config = self.config
        expected = (config.channels, config.image_size, config.image_size)
        if images.shape[1:] != expected:
            raise ValueError(f"images of shape {tuple(images.shape)}: expected [B, {', '.join(map(str, expected))}]")
        patches = self.patches(images)  # [B, P, D]
        tokens = torch.cat((self.class_token.expand(len(images), -1, -1), patches), dim=1)  # [B, L, D]
        x = self.dropout(tokens + self.positions)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))  # [B, K]
        if labels is None:
            return logits, None
        # `float` copies only what is 16 bits wide: a cross-entropy in bf16 loses most of its digits.
        return logits, F.cross_entropy(logits.float(), labels)
