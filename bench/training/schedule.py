"""The learning rate of each step. Imports no torch."""

from __future__ import annotations

import math

from bench.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """That of optimiser step `step`, of `recipe.steps` counted from 1.

    It rises in a line to `lr` over the warm-up, and `cosine` then falls along half a cosine to `min_lr`, which it would
    reach in the step after the last (nanoGPT's, whose steps are counted from 0).
    """
    if step <= recipe.warmup_steps:
        return recipe.lr * step / (recipe.warmup_steps + 1)
    if recipe.schedule == "constant":
        return recipe.lr
    done = (step - 1 - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1.0 + math.cos(math.pi * done))
