"""Update rules: what the forward computes, beside its inverse. The arithmetic is in `bdia.equations`.

Shapes: x, y [B, …]; γ [B, 1, …], or with ones elsewhere where the samples lie along another dimension. B samples.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from bdia import distributions
from bdia.distributions import HALF, Gamma, PlusMinus
from bdia.equations import first_step, invert, invert_quantised, rejoin, step, step_quantised, straight_through
from bdia.errors import MethodError
from bdia.quantize import MAX_BITS, STREAM_DTYPE, quantize, shift_of, to_multiple
from bdia.sidebits import SideBits

State = tuple[Tensor | None, ...]
"""What a rule carries from block to block: x alone, two successive x, two streams, position and velocity, …"""


class Rule(Protocol):
    """The arithmetic of the stream. The engine runs the blocks; a rule says what they are given and what becomes of
    their y, and how to go back. Stateless: one object serves every forward."""

    chained: bool
    """The state holds more than the x that a model passes from block to block."""
    draws_gamma: bool
    reversible: bool
    """Whether `undo` exists."""
    exact: bool
    """`undo` rebuilds the state bit for bit."""
    bits: int | None
    """l of eq. 17, for a rule whose stream is quantised."""
    side_bits: int
    """Bits an element of what `step` says must be kept."""
    reach: float
    """The largest |γ|: how much of x₋ there is in x₊."""
    evaluates_plain: bool
    """Eval mode runs the plain transformer, which is what the rule is on average over γ. Otherwise it runs the rule."""

    def start(self, x: Tensor) -> State:
        """The state before the first block, from the model's x_0."""
        ...

    def input(self, state: State) -> Tensor:
        """x_k, which the next block is given."""
        ...

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        """The state after the block that returned y, and what `undo` needs besides it: side bits, as bool, or as uint8
        where there are several an element; or None."""
        ...

    def input_back(self, state: State) -> Tensor:
        """x_k again, from the state after its step."""
        ...

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        """The state before a step, from the state after it, y computed again, and what the step kept. Runs outside
        autograd, and never for the first step: before that there is nothing to rebuild."""
        ...

    def output(self, state: State) -> Tensor:
        """The x handed to the model."""
        ...

    def resume(self, state: State, x: Tensor) -> State:
        """The same state with the gradient of its last tensor led through x, which is what the model passed on of
        `output(state)`: that tensor, a view of it, or a narrower copy. Hooks on x see the gradient then."""
        ...


class Euler:
    """The plain transformer (4): x₊ = x + h(x) = y. Nothing to undo with: it forgets x."""

    chained = False
    draws_gamma = False
    reversible = False
    exact = True
    bits: int | None = None
    side_bits = 0
    reach = 0.0
    evaluates_plain = True

    def start(self, x: Tensor) -> State:
        return (x,)

    def input(self, state: State) -> Tensor:
        return _x(state)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        return (y,), None

    def input_back(self, state: State) -> Tensor:
        raise MethodError("the plain transformer (eq. 4) has no inverse: use strategy 'stored' or 'checkpoint'")

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        raise MethodError("the plain transformer (eq. 4) has no inverse: use strategy 'stored' or 'checkpoint'")

    def output(self, state: State) -> Tensor:
        return _x(state)

    def resume(self, state: State, x: Tensor) -> State:
        return led_through(state, x)


class QuantisedEuler(Euler):
    """The plain transformer on a quantised stream (22): x₊ = Q_l[x + h(x)] = Q_l[y], from Q_l[x_0]. What inference
    computes where it is to be quantised too, and BDIA's γ = 0."""

    chained = True  # so that the stream of a 16-bit model keeps its fp32 bits from block to block

    def __init__(self, bits: int) -> None:
        self._l = checked_bits(bits)
        self.bits = bits

    def start(self, x: Tensor) -> State:
        return (straight_through(x.to(STREAM_DTYPE), self._l),)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        return (straight_through(y, self._l),), None


class Bdia:
    """BDIA (6), (10), inverted in floating point by (16). Each inversion doubles the rounding error it is given.

    The state is (x_{k-1}, x_k); before the first block (None, x_0).
    """

    chained = True
    draws_gamma = True
    exact = False
    bits: int | None = None
    side_bits = 0
    evaluates_plain = True

    def __init__(self, gamma: Gamma = HALF) -> None:
        self.reversible = gamma.magnitude != 0.0  # (16) divides by γ
        self.reach = 1.0 if gamma.magnitude is None else gamma.magnitude

    def start(self, x: Tensor) -> State:
        return None, x.to(STREAM_DTYPE)

    def input(self, state: State) -> Tensor:
        return _x(state)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = state
        if before is None:  # (6)
            return (x, y), None
        assert x is not None
        assert gamma is not None
        return (x, step(before, x, y, gamma)), None

    def input_back(self, state: State) -> Tensor:
        x = state[0]
        assert x is not None
        return x

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = state
        assert x is not None
        assert after is not None
        assert gamma is not None
        return invert(after, x, y, gamma), x

    def output(self, state: State) -> Tensor:
        return _x(state)

    def resume(self, state: State, x: Tensor) -> State:
        return led_through(state, x)


class FixedBdia(Bdia):
    """BDIA (10) with one γ for all samples and blocks: what a model that was trained with a random γ computes where one
    is kept at inference. At γ = 0, the mean of what it was trained with, that is the plain transformer (11).

    Raises: MethodError for a γ outside [-1, 1].
    """

    draws_gamma = False

    def __init__(self, gamma: float) -> None:
        super().__init__(PlusMinus(abs(gamma)))
        self.reversible = False  # nothing goes back through inference
        self._gamma = gamma

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        return super().step(state, y, y.new_full((1,) * y.dim(), self._gamma))


class QuantisedBdia(Bdia):
    """Quantised BDIA (18)-(21). For |γ| = 2^-m inverted bit for bit by (24), with m side bits an element; for other
    distributions of γ (Remark 1) there is no inverse, and no need of side bits.

    The state is (x_{k-1}, x_k), both multiples of 2^-l in fp32; before the first block (None, Q_l[x_0]). Gradients
    pass straight through Q_l: the paper does not say, and this is what makes it train.
    """

    exact = True

    def __init__(self, bits: int, gamma: Gamma = HALF) -> None:
        super().__init__(gamma)
        self._l = checked_bits(bits)
        self.bits = bits
        self._m = distributions.side_bits(gamma)
        self.reversible = self._m is not None
        self.side_bits = self._m or 0

    def start(self, x: Tensor) -> State:
        return None, straight_through(x.to(STREAM_DTYPE), self._l)  # (18)

    def step(self, state: State, y: Tensor, gamma: Tensor | None) -> tuple[State, Tensor | None]:
        before, x = state
        assert x is not None
        if before is None:
            return (x, first_step(x, y, self._l)), None
        assert gamma is not None
        side = None
        if self._m is None:
            first = quantize(before.detach() * gamma, self._l)
        else:
            multiple, side = to_multiple(before.detach(), self._l, self._m)  # (20)
            first = multiple.mul_(gamma) if self._m else multiple * gamma
        return (x, step_quantised(before, first, x, y, gamma, self._l)), side

    def undo(self, state: State, y: Tensor, gamma: Tensor | None, kept: SideBits | None) -> State:
        x, after = state
        assert x is not None
        assert after is not None
        assert gamma is not None
        shift = None if kept is None else shift_of(kept.unpack(), self._l, self.side_bits)
        return invert_quantised(after, x, y, gamma, shift, self._l), x


def led_through(state: State, x: Tensor) -> State:
    """`Rule.resume` where the model is handed the state's last tensor."""
    stream = _x(state)
    return *state[:-1], x if x.dtype == stream.dtype else rejoin(stream, x)


def checked_bits(bits: int) -> int:
    """l, as a rule's factory is given it.

    Raises: MethodError where it is out of range.
    """
    if type(bits) is not int or not 1 <= bits <= MAX_BITS:
        raise MethodError(f"bits={bits}: l must be an int from 1 to {MAX_BITS}, since fp32 has 24 bits in all; try 9")
    return bits


def _x(state: State) -> Tensor:
    x = state[-1]
    assert x is not None
    return x
