"""A pre-activation ResNet for small images (He et al., arXiv 1603.05027, with the widths of their CIFAR models).

Three stages of residual blocks x₊ = x + h(x), the form that BDIA asks for, at full, half and quarter side, with D, 2D
and 4D channels. What lies between two stages changes x's shape, and so is no such block: a transition, as in the
original a block whose shortcut is a strided 1×1 convolution. Each stage is a chain for `bdia.attach`; stem,
transitions and head are stored as ever.

The norm is the original's batch norm. It is as exact as any: a block's rerun has the whole batch again, so its
statistics, and updates the running ones no second time. Two things come with it. Its running statistics are gathered of
x_k as BDIA draws it and used on the plain model's, which varies otherwise, as with dropout (Li et al.,
arXiv 1801.05134): once detached, `torch.optim.swa_utils.update_bn` gathers them anew. And a batch cannot be cut into
micro-batches. Group norm, the other choice, has neither trouble.

Shapes: B batch, C channels of the image, S its side, D width of the first stage, K classes; x of a stage [B, c, s, s].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = 3
GROUP_WIDTH = 8
"""Channels that group norm takes together, where that is the norm: D is a multiple of it."""


@dataclass(frozen=True)
class ResNetConfig:
    """The shape of a ResNet; the defaults have the width of the original's for CIFAR.

    Raises: ValueError for a size below 1, a depth or a width that cannot be shared out, an unknown norm, a dropout
    outside [0, 1).
    """

    channels: int = 3
    classes: int = 10
    width: int = 16
    """D, channels of the first stage; 2D and 4D in the others."""
    depth: int = 9
    """Blocks that keep x's shape, of all stages together, each as many; the transitions come on top."""
    norm: Literal["batch", "group"] = "batch"
    dropout: float = 0.0
    """Between the two convolutions of a block, as in wide ResNets."""

    def __post_init__(self) -> None:
        for name in ("channels", "classes", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a size: expected 1 or more")
        if self.depth % STAGES:
            raise ValueError(f"depth={self.depth} is no multiple of {STAGES}: each stage has as many blocks, change it")
        if self.norm not in ("batch", "group"):
            raise ValueError(f"norm={self.norm!r}: expected 'batch' or 'group'")
        if self.norm == "group" and self.width % GROUP_WIDTH:
            raise ValueError(f"width={self.width} is no multiple of {GROUP_WIDTH}, the channels of a group: change it")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} is not a probability below 1: expected 0 ≤ dropout < 1")


def _norm(config: ResNetConfig, channels: int) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels // GROUP_WIDTH, channels)


def _conv(inputs: int, outputs: int, side: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)


class Block(nn.Module):
    """One residual block, x + h(x): norm, ReLU and a 3×3 convolution, twice. [B, c, s, s] → [B, c, s, s]."""

    def __init__(self, config: ResNetConfig, channels: int) -> None:
        super().__init__()
        self.norm_1 = _norm(config, channels)
        self.conv_1 = _conv(channels, channels, 3)
        self.norm_2 = _norm(config, channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_2 = _conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_1(F.relu(self.norm_1(x)))
        out: Tensor = x + self.conv_2(self.dropout(F.relu(self.norm_2(h))))
        return out


class Transition(nn.Module):
    """What leads from one stage to the next: a block whose shortcut halves the side and doubles the channels as its
    residual does. [B, c, s, s] → [B, 2c, s/2, s/2], an odd side rounded up."""

    def __init__(self, config: ResNetConfig, channels: int) -> None:
        super().__init__()
        self.norm_1 = _norm(config, channels)
        self.shortcut = _conv(channels, 2 * channels, 1, stride=2)
        self.conv_1 = _conv(channels, 2 * channels, 3, stride=2)
        self.norm_2 = _norm(config, 2 * channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_2 = _conv(2 * channels, 2 * channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm_1(x))  # shared with the shortcut, which has no other norm
        h = self.conv_1(x)
        out: Tensor = self.shortcut(x) + self.conv_2(self.dropout(F.relu(self.norm_2(h))))
        return out


class Stage(nn.Module):
    """Blocks of one shape, a chain, behind the transition that leads there; the first stage has none."""

    def __init__(self, config: ResNetConfig, number: int) -> None:
        super().__init__()
        channels = config.width * 2**number
        self.transition = Transition(config, channels // 2) if number else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, channels) for _ in range(config.depth // STAGES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition(x)
        for block in self.blocks:
            x = block(x)
        return x


class ResNet(nn.Module):
    """A ResNet that classifies by the mean of its last stage over all places."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _conv(config.channels, config.width, 3)
        self.stages = nn.ModuleList(Stage(config, number) for number in range(STAGES))
        channels = config.width * 2 ** (STAGES - 1)
        self.norm = _norm(config, channels)
        self.head = nn.Linear(channels, config.classes)
        self._initialise()

    @property
    def chains(self) -> tuple[tuple[nn.Module, ...], ...]:
        """The blocks that keep x's shape, stage by stage."""
        return tuple(tuple(stage.blocks) for stage in self.stages if isinstance(stage, Stage))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits [B, K] of images [B, C, S, S], and their mean cross-entropy where labels [B] are given.

        Raises: ValueError for images of another number of channels.
        """
        if images.dim() != 4 or images.shape[1] != self.config.channels:
            raise ValueError(f"images of shape {tuple(images.shape)}: expected [B, {self.config.channels}, S, S]")
        x = self.stem(images)  # [B, D, S, S]
        for stage in self.stages:
            x = stage(x)
        pooled = F.relu(self.norm(x)).mean((2, 3))  # [B, 4D]
        logits: Tensor = self.head(pooled)  # [B, K]
        if labels is None:
            return logits, None
        # `float` copies only what is 16 bits wide: a cross-entropy in bf16 loses most of its digits.
        return logits, F.cross_entropy(logits.float(), labels)

    def _initialise(self) -> None:
        """He's initial weights for convolutions; what writes to the stream is smaller by √N, as N residuals add up.
        Without that the stream grows with depth, and γ's noise with it."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, Block):
                with torch.no_grad():
                    module.conv_2.weight.mul_(1 / math.sqrt(self.config.depth))
