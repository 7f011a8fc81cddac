"""What BDIA's training forward makes of the loss of a plainly trained model, by the size of γ.

    python examples/loss_by_gamma.py

Trains a GPT on bytes of text plainly; then the same weights, on the same batches, under each function. No gradient is
taken: training mode selects the function that a method computes, with or without one.

Shapes: B batch, T tokens.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import command_line
import torch

import bdia
from bdia.distributions import PlusMinus, side_bits
from bdia.models.gpt import GPT, GPTConfig
from bench.data.text import Tokens, tokens

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GAMMAS = (0.5, 0.25, 0.125)
EVALUATED = 32
"""Batches that the loss is the mean of; each sample and block draws γ anew."""


def main(options: Namespace) -> None:
    torch.manual_seed(options.seed)
    # No dropout: training mode then differs from eval mode by the method alone.
    model = GPT(GPTConfig(options.seq, 256, options.depth, n_head=4, n_embd=options.width)).to(DEVICE)
    text = tokens(options.data, seq=options.seq, samples=options.batch, vocab=256, seed=options.seed)
    unseen = replace(text, seed=options.seed + 1)
    train(model, text, options.steps)

    print(f"after {options.steps} plain steps, mean training loss of {EVALUATED} batches")
    plain = training_loss(model, unseen)
    print(f"standard    {plain:.4f}")
    for size in GAMMAS:
        with bdia.attach(model, "bdia", bits=options.bits, gamma=size, seed=options.seed):
            loss = training_loss(model, unseen)
        print(
            f"bdia ±{size:<5g} {loss:.4f}  {loss - plain:+.4f}  side bits an activation: {side_bits(PlusMinus(size))}"
        )


def train(model: GPT, text: Tokens, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        idx, targets = (part.to(DEVICE) for part in text.batch(step))  # each [B, T]
        model(idx, targets)[1].backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def training_loss(model: GPT, text: Tokens) -> float:
    model.train()
    losses = [model(*(part.to(DEVICE) for part in text.batch(step)))[1].item() for step in range(EVALUATED)]
    return float(sum(losses) / len(losses))


if __name__ == "__main__":
    parser = command_line.parser("The training loss of a plainly trained GPT under BDIA, by the size of γ.")
    parser.add_argument("--steps", type=command_line.count, default=300, help="plain steps before (%(default)s)")
    command_line.run(main, parser)
