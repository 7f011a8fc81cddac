"""The least recomputation that fits into so many bytes: where the dial is to stand, found by asking. No torch.

Bytes are about affine in the samples, so that a few small steps tell where to look; what is taken was asked for at the
full batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bdia import sizes
from bdia.dial import Dial
from bdia.errors import BudgetError, MethodError

Held = Callable[[int, Dial], float]
"""The most bytes that the blocks hold in a step of so many samples with that dial; infinite where memory ran out."""

_FEW: Final = 4
"""So many samples are asked for as they are, without a guess first."""
_NEARLY: Final = 0.95
"""Room for so much of another block is reason enough to try it."""


@dataclass(frozen=True)
class Plan:
    """Where the dial stands for a budget, and what the blocks held there when they were tried."""

    dial: Dial
    nbytes: int
    """What they held at the most, with `samples` samples."""
    limit: int
    """The budget, in bytes."""
    samples: int


def parse(budget: int | str) -> int:
    """The bytes of a budget.

    Raises: MethodError for anything but a positive number of bytes, or a size such as `8GiB`.
    """
    nbytes = sizes.parse(budget) if isinstance(budget, str) else budget
    if type(nbytes) is not int or nbytes < 1:
        raise MethodError(f"budget={budget!r}: expected a size such as '8GiB', or a number of bytes above 0")
    return nbytes


def choose(held: Held, *, samples: int, blocks: int, limit: int, divisible: bool = True) -> Plan:
    """As few parts inside each block as fit, and then as many of the last blocks with their graph kept. More parts
    would make no room for graphs, which are freed before the first rerun.

    Args:
        blocks: how many there are, each of which can keep its graph.
        divisible: whether a batch can be cut inside the blocks.

    Raises: BudgetError where not even single samples fit.
    """
    guess = _Guess(held, samples, blocks)
    stored = Dial(keep=blocks)
    if guess.kept(blocks) <= limit and (nbytes := held(samples, stored)) <= limit:
        return Plan(stored, int(nbytes), limit, samples)
    cuts = list(_cuts(samples)) if divisible else [1]
    least = math.inf
    for micro_batches in cuts:
        dial = Dial(micro_batches=micro_batches)
        # The last is asked whatever the guess is: it may fit all the same, and if not, it says how much would do.
        if guess.cut(micro_batches) <= limit or micro_batches == cuts[-1]:
            nbytes = held(samples, dial)
            if nbytes <= limit:
                return _keeping(held, guess, Plan(dial, int(nbytes), limit, samples), blocks)
            least = min(least, nbytes)
    cut = f" cut into single ones ({samples} micro-batches)" if divisible and samples > 1 else ""
    raise BudgetError(
        f"budget of {sizes.text(limit)}: the blocks hold {sizes.text(least)} at the least, with {samples} "
        f"samples{cut}; give as much, or a smaller batch",
        limit=limit,
        needed=None if math.isinf(least) else int(least),
    )


def _cuts(samples: int) -> Iterator[int]:
    """The numbers of parts that differ in how large the largest is."""
    before = 0
    for count in range(1, samples + 1):
        largest = -(-samples // count)
        if largest != before:
            yield count
        before = largest


def _keeping(held: Held, guess: _Guess, plan: Plan, blocks: int) -> Plan:
    """`plan` with as many blocks kept as fit."""
    limit, samples, each = plan.limit, plan.samples, guess.each_kept
    beyond = blocks  # does not fit
    without = plan.nbytes
    over = (guess.kept(blocks) - limit) / each
    keep = blocks - math.ceil(max(1.0, over)) if math.isfinite(over) else blocks // 2
    while plan.dial.keep + 1 < beyond:
        keep = min(max(keep, plan.dial.keep + 1), beyond - 1)
        nbytes = held(samples, Dial(keep, plan.dial.micro_batches))
        room = (limit - nbytes) / each
        if nbytes > limit:
            beyond = keep
            keep = math.floor(keep + room) if math.isfinite(room) else keep // 2
            continue
        plan = Plan(Dial(keep, plan.dial.micro_batches), int(nbytes), limit, samples)
        if room < _NEARLY and nbytes > without:  # below that, what is rerun takes more than what is kept
            break
        keep += max(1, int(room))
    return plan


class _Guess:
    """What the blocks should hold at the full batch, from what they hold with a few samples."""

    def __init__(self, held: Held, samples: int, blocks: int) -> None:
        self._asked: dict[tuple[int, Dial], float] = {}
        self._held = held
        self._samples = samples
        self._blocks = blocks

    def cut(self, micro_batches: int) -> float:
        """With the batch in so many parts and no graph kept."""
        if self._samples <= _FEW:
            return self._ask(self._samples, Dial(micro_batches=micro_batches))
        if micro_batches == 1:
            return self._along(Dial())
        # constant + u·samples + w·(samples of the largest part)
        two, four = self._ask(2, Dial(micro_batches=2)), self._ask(4, Dial(micro_batches=4))
        each = (four - two) / 2
        part = self._ask(4, Dial(micro_batches=2)) - four
        constant = two - 2 * each - part
        return constant + each * self._samples + part * -(-self._samples // micro_batches)

    def kept(self, keep: int) -> float:
        """With the graphs of the last `keep` blocks kept, close to all of them."""
        return self._along(Dial(self._blocks)) - (self._blocks - keep) * self.each_kept

    @property
    def each_kept(self) -> float:
        """What one more block with its graph kept adds: at least a byte."""
        few = min(2, self._samples)
        one = self._ask(few, Dial(self._blocks)) - self._ask(few, Dial(self._blocks - 1))
        return max(1.0, one / few * self._samples) if math.isfinite(one) else max(1.0, self._ask(1, Dial()))

    def _along(self, dial: Dial) -> float:
        """On the line through one and two samples."""
        if self._samples <= 2:
            return self._ask(self._samples, dial)
        one, two = self._ask(1, dial), self._ask(2, dial)
        return one + (two - one) * (self._samples - 1) if math.isfinite(two) else math.inf

    def _ask(self, samples: int, dial: Dial) -> float:
        key = samples, dial
        if key not in self._asked:
            self._asked[key] = self._held(samples, dial)
        return self._asked[key]
