"""Data-parallel training under torchrun: each rank rebuilds its own activations, with γ of its own.

    torchrun --standalone --nproc-per-node 2 examples/train_ddp.py

Shapes: B samples of a step and rank, T tokens.
"""

from __future__ import annotations

import hashlib
import os
from argparse import Namespace
from dataclasses import replace

import command_line
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import bdia
from bdia.models.gpt import GPT, GPTConfig
from bench.data.text import tokens


def main(options: Namespace) -> None:
    if not dist.is_torchelastic_launched():
        raise ValueError("no process group to join: start it with torchrun --standalone --nproc-per-node 2")
    # A card for each rank of this machine, or none.
    cuda = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        train(options, device)
    finally:
        dist.destroy_process_group()


def train(options: Namespace, device: torch.device) -> None:
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(options.seed)
    model = GPT(GPTConfig(options.seq, 256, options.depth, n_head=4, n_embd=options.width)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    text = tokens(options.data, seq=options.seq, samples=options.batch, vocab=256, seed=options.seed)
    unseen = replace(text, seed=options.seed + 1).batch(0)
    before = plain_loss(model, unseen, device)

    # First the method, then DDP: it is the model's own blocks that are attached. One seed will do for all ranks: what
    # is drawn depends on (seed, forward, rank).
    with bdia.attach(model, options.method, bits=options.bits, gamma=options.gamma, seed=options.seed):
        parallel = DistributedDataParallel(model)
        for step in range(options.steps):
            idx, targets = (part.to(device) for part in text.batch(step * ranks + rank))  # each [B, T]
            _, loss = parallel(idx, targets)
            loss.backward()  # DDP's hooks sum the gradients while the blocks below are still being rebuilt
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % 20 == 0:
                dist.all_reduce(loss.detach_(), dist.ReduceOp.SUM)
                if rank == 0:
                    print(f"step {step + 1:4}  loss {loss.item() / ranks:.4f}  mean of {ranks} ranks")

    digests = [""] * ranks
    dist.all_gather_object(digests, digest(model))
    if rank == 0:
        after = plain_loss(model, unseen, device)
        print(f"plain loss {before:.4f} before, {after:.4f} after {options.steps} steps")
        print(f"weights of each rank: {' '.join(digests)}")


@torch.no_grad()
def plain_loss(model: GPT, batch: tuple[Tensor, Tensor], device: torch.device) -> float:
    """The loss in eval mode, where the model is the plain transformer whether a method is attached or not."""
    model.eval()
    loss = model(*(part.to(device) for part in batch))[1]
    model.train()
    return float(loss)


def digest(model: nn.Module) -> str:
    """Twelve hex digits that two models share where all their weights are equal, bit for bit."""
    joined = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return hashlib.sha256(joined.cpu().numpy().tobytes()).hexdigest()[:12]


if __name__ == "__main__":
    parser = command_line.with_method("Trains a GPT on bytes of text, on as many ranks as torchrun starts.")
    parser.add_argument("--steps", type=command_line.count, default=60, help="optimiser steps (%(default)s)")
    command_line.run(main, parser)
