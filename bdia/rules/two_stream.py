"""Two streams coupled (RevNet, Gomez et al., arXiv 1707.04585): (a, b) → (b, a + h(b)), block by block.

Two such steps are RevNet's y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁), with the residual of one block as F and that of the next
as G; the way back is a = b₊ - h(b). RevViT (Mangalam et al., CVPR 2022) splits one block instead: its F is attention,
its G the MLP, and both happen in one block. A block of a model as it is cannot be split, so here whole blocks take
turns: each block is one step, and of N blocks half add to one stream and half to the other. As in RevViT both streams
start as x; what the model is handed is their mean, where RevViT joins them for its head, so that shapes stay.

Shapes: a, b, x, y [B, …], B samples.
"""

from __future__ import annotations

from torch import Tensor

from bdia.equations import couple, lead_back_through_mean, uncouple
from bdia.quantize import STREAM_DTYPE
from bdia.sidebits import SideBits
from bdia.updates import State


class TwoStream:
    """The state is (a, b): b is what the next block is given, a what its residual is added to."""

    chained = True
    draws_gamma = False
    reversible = True
    exact = False
    bits: int | None = None
    side_bits = 0
    reach = 1.0
    evaluates_plain = False

    def start(self, x: Tensor) -> State:
        x = x.to(STREAM_DTYPE)
        return x, x

    def input(self, state: State) -> Tensor:
        return _both(state)[1]

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        a, b = _both(state)
        return (b, couple(a, b, y)), None

    def input_back(self, state: State) -> Tensor:
        return _both(state)[0]

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        b, after = _both(state)
        return uncouple(after, b, y), b

    def output(self, state: State) -> Tensor:
        """Their mean: a new tensor, which no later step reads."""
        a, b = _both(state)
        return (a + b) * 0.5

    def resume(self, state: State, x: Tensor) -> State:
        """b = 2x - a as autograd sees it, though b's bits are kept: so all that the blocks above contribute to the
        gradient of b is seen by hooks on x, and by whoever else waits for x's gradient (FSDP gathers weights then)."""
        a, b = _both(state)
        return a, lead_back_through_mean(b, a, x)


def _both(state: State) -> tuple[Tensor, Tensor]:
    a, b = state
    assert a is not None
    assert b is not None
    return a, b
