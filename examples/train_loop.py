"""A plain PyTorch loop: a GPT on bytes of text, its blocks trained with exact reversible backprop.

    python examples/train_loop.py                               # 60 steps of `bdia`
    python examples/train_loop.py --method standard             # the same model, plainly
    python examples/train_loop.py --steps 30 --save half.pt     # stop half way, and go on …
    python examples/train_loop.py --steps 60 --resume half.pt   # … to the weights of 60 steps at a stretch, bit for bit

Shapes: B batch, T tokens.
"""

from __future__ import annotations

import pickle
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

import command_line
import torch

import bdia
from bdia.models.gpt import GPT, GPTConfig
from bench.data.text import Tokens, tokens

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
EVERY = 20
"""Steps between two lines."""


def main(options: Namespace) -> None:
    torch.manual_seed(options.seed)
    model = GPT(GPTConfig(options.seq, 256, options.depth, n_head=4, n_embd=options.width, dropout=0.1)).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    text = tokens(options.data, seq=options.seq, samples=options.batch, vocab=256, seed=options.seed)
    unseen = replace(text, seed=options.seed + 1)
    before = plain_loss(model, unseen)

    with bdia.attach(model, options.method, bits=options.bits, gamma=options.gamma, seed=options.seed) as handle:
        first = load(options.resume, model, optimizer, handle) if options.resume else 0
        if first >= options.steps:
            raise ValueError(f"--steps {options.steps}: the checkpoint is of step {first}; give a later one")
        for step in range(first, options.steps):
            idx, targets = (part.to(DEVICE) for part in text.batch(step))  # each [B, T]
            _, loss = model(idx, targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % EVERY == 0:
                print(f"step {step + 1:4}  loss {loss.item():.4f}  plain {plain_loss(model, unseen):.4f}")
        room = handle.headroom
        exact = f", exact up to --bits {room.largest_bits}" if room is not None else ""
        print(f"{options.method}: {handle.side_bytes:,} bytes of side bits a forward{exact}")
        if options.save:
            save(options.save, options.steps, model, optimizer, handle)

    # Detached: the model has its own forward again, and its parameters kept their names throughout.
    print(f"plain loss {before:.4f} before, {plain_loss(model, unseen):.4f} after {options.steps} steps")


@torch.no_grad()
def plain_loss(model: GPT, text: Tokens) -> float:
    """The loss in eval mode, where the model is the plain transformer whether a method is attached or not."""
    model.eval()
    losses = []
    for step in range(4):
        idx, targets = (part.to(DEVICE) for part in text.batch(step))
        losses.append(model(idx, targets)[1].item())
    model.train()
    return float(sum(losses) / len(losses))


def save(path: Path, step: int, model: GPT, optimizer: torch.optim.Optimizer, handle: bdia.Handle) -> None:
    """Writes all that the next step depends on."""
    state = {
        "step": step,
        "config": asdict(model.config),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "gamma": handle.state_dict(),  # else the next forwards would draw the first ones' γ again
        "rng": torch.get_rng_state(),  # dropout's
        "cuda_rng": torch.cuda.get_rng_state_all(),
    }
    torch.save(state, path)


def load(path: Path, model: GPT, optimizer: torch.optim.Optimizer, handle: bdia.Handle) -> int:
    """Takes up what `save` wrote, and returns the step to go on with.

    Raises: ValueError for a file that is no such checkpoint, or one of another shape.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        config = GPTConfig(**state["config"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
        raise ValueError(f"--resume {path}: expected a file that --save wrote") from None
    if config != model.config:
        raise ValueError(f"--resume {path} holds {config}: give the --depth, --width and --seq it was saved with")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    handle.load_state_dict(state["gamma"])
    torch.set_rng_state(state["rng"])
    torch.cuda.set_rng_state_all(state["cuda_rng"])
    return int(state["step"])


if __name__ == "__main__":
    parser = command_line.with_method("Trains a GPT on bytes of text in a plain loop.")
    parser.add_argument("--steps", type=command_line.count, default=60, help="the step to stop at (%(default)s)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="where to write a checkpoint at the end")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="the checkpoint to go on from")
    command_line.run(main, parser)
