"""What others published on the same questions. Data alone: none of it is measured here, and none is a target.

`v2` is the paper's later version (arXiv 2407.09093v2, ICML 2025). Its numbers are second-hand here: from reviews of it
that agree with one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Quantity = Literal["accuracy", "peak", "epoch"]
PAPER: Final = "v2 of the paper"
RERUN: Final = "an independent re-run"


@dataclass(frozen=True)
class Published:
    """One row of published numbers, by the name of the method here."""

    quantity: Quantity
    source: str
    on: str
    """In a word or two: the data, or how much of it a step."""
    setting: str
    """What else it was measured with."""
    unit: str
    """As it was published: v2's peak is in MB, whatever it took those for."""
    decimals: int
    values: Mapping[str, float]


_V2: Final = "ViT-small, K=6, l=9, SET-Adam, 3 runs"
_LAPTOP: Final = "ViT-small on a laptop GPU, fp32; every block's output is kept, and a whole byte a side bit"
TABLE_1: Final = (
    Published("accuracy", PAPER, "CIFAR-10", _V2, "%", 2, {"standard": 88.15, "two-stream": 86.22, "bdia": 89.10}),
    Published("accuracy", PAPER, "CIFAR-100", _V2, "%", 2, {"standard": 61.86, "two-stream": 61.89, "bdia": 66.09}),
    Published("peak", PAPER, "batch 128", _V2, "MB", 1, {"standard": 1570.6, "two-stream": 572.7, "bdia": 693.4}),
    Published("peak", RERUN, "batch 128", _LAPTOP, "MiB", 0, {"standard": 1508, "two-stream": 730, "bdia": 909}),
    Published("epoch", RERUN, "batch 128", _LAPTOP, "s", 1, {"standard": 59.2, "two-stream": 90.2, "bdia": 83.4}),
)
GAMMA: Final = (
    Published(
        "accuracy",
        PAPER,
        "CIFAR-10",
        "ViT-small, no quantisation; ±¼ and ±0.6 are said to lie between these",
        "%",
        2,
        {"0": 88.15, "0.5": 89.12},
    ),
)
"""By |γ|."""
BY_EXPERIMENT: Final[Mapping[str, tuple[Published, ...]]] = {"table1": TABLE_1, "fig2": TABLE_1[:2], "gamma": GAMMA}
"""The published rows that an experiment is to be read beside."""
