"""How long a step of SET-Adam takes beside one of torch's AdamW with foreach, on GPT-2's parameters.

    python scripts/step-times.py [--layers 12] [--width 768] [--vocab 50304] [--rounds 9] [--device cpu]

Paired rounds: each round times one step of every optimiser, one after the other and in turn first, on parameters of its
own; what is told is the median of the rounds' ratios. Run it alone on a machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bdia.optim import SetAdam


def parameters(layers: int, width: int, vocab: int, block: int, device: str) -> list[nn.Parameter]:
    """Tensors of GPT-2's shapes under nanoGPT: no biases, tied output layer."""
    shapes: list[tuple[int, ...]] = [(vocab, width), (block, width)]
    for _ in range(layers):
        shapes += [(width,), (3 * width, width), (width, width), (width,), (4 * width, width), (width, 4 * width)]
    shapes.append((width,))
    made = [nn.Parameter(0.02 * torch.randn(shape, device=device)) for shape in shapes]
    for one in made:
        one.grad = 1e-3 * torch.randn_like(one)
    return made


def seconds(step: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 12), ("width", 768), ("vocab", 50304), ("block", 1024), ("rounds", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    torch.manual_seed(0)
    mine: list[Tensor] = list(parameters(given.layers, given.width, given.vocab, given.block, given.device))
    options = {"lr": 1e-4, "weight_decay": 0.1}
    optimizers = {
        "AdamW, foreach": torch.optim.AdamW(mine, foreach=True, **options),
        "AdamW, single tensor": torch.optim.AdamW(mine, foreach=False, **options),
        "SET-Adam, foreach": SetAdam(mine, foreach=True, **options),
        "SET-Adam, single tensor": SetAdam(mine, foreach=False, **options),
    }
    for optimizer in optimizers.values():  # makes the state, and warms the allocator up
        optimizer.step()
        optimizer.step()
    times: dict[str, list[float]] = {name: [] for name in optimizers}
    names = list(optimizers)
    for turn in range(given.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(seconds(optimizers[name].step, given.device))
    base = times[names[0]]
    print(
        f"{sum(one.numel() for one in mine):,} parameters in {len(mine)} tensors, {given.device}, {given.rounds} rounds"
    )
    for name, taken in times.items():
        ratios = [one / other for one, other in zip(taken, base, strict=True)]
        print(
            f"{name:24} {1e3 * statistics.median(taken):8.1f} ms   {statistics.median(ratios):.2f} of {names[0]}"
            f"   ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
