"""Whether a backward rebuilds what the forward computed: checksums always, and on request everything at once.

An ordinary backward compares in the end, in one synchronisation: the lowest x, to which all inversions lead, and every
y, since where a block adds less than 2^-l to the stream Q_l would round a wrong y to the right x, and the gradients be
wrong all the same. `verify` compares every x, y and word of side bits as soon as it is there, and says what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bdia.backprop import circumstances
from bdia.backprop.circumstances import Circumstances, Look
from bdia.backprop.digest import Digest, checksum, digest
from bdia.errors import ReconstructionError
from bdia.sidebits import SideBits

Checks = Literal["off", "checksum", "verify"]

REPEAT = "make the block repeatable, or use method 'bdia-stored'"


class Ledger:
    """The checksums of one forward, compared at the end of its backward."""

    def __init__(self) -> None:
        self._expected: dict[tuple[int, str], tuple[str, Tensor]] = {}
        self._differences: list[tuple[str, Tensor]] = []

    def expect(self, index: int, kind: str, name: str, tensor: Tensor) -> None:
        """Notes x or y (`kind`) of call `index`, which is one of the block called `name`."""
        self._expected[index, kind] = (name, checksum(tensor))

    def rebuilt(self, index: int, kind: str, tensor: Tensor) -> None:
        """Compares, on the device and without waiting, where there is something to compare with."""
        expected = self._expected.pop((index, kind), None)
        if expected is not None:
            name, then = expected
            self._differences.append((name, checksum(tensor) != then))

    @property
    def pending(self) -> bool:
        """Whether there are comparisons to be read."""
        return bool(self._differences)

    def settle(self) -> None:
        """Reads all comparisons in one synchronisation.

        Raises: ReconstructionError that names the highest block that differs.
        """
        if not self._differences:
            return
        names, differ = zip(*self._differences, strict=True)
        self._differences = []
        wrong = [name for name, differs in zip(names, torch.stack(differ).tolist(), strict=True) if differs]
        if wrong:
            raise ReconstructionError(
                f"{wrong[0]} computed something else when it was rerun, so these gradients are wrong: a counter, a "
                f"cache, a random draw outside torch, another precision or attention backend; attach with verify=True "
                f"to see what differed, {REPEAT}",
                block=wrong[0],
            )


@dataclass
class Evidence:
    """What `verify` remembers of one call."""

    name: str
    index: int
    x: Digest
    y: Digest
    before: Look
    after: Look
    side: Tensor | None = None

    def keep(self, kept: SideBits) -> None:
        """Notes the side bits that the call keeps."""
        self.side = _sum(kept)

    def check_side(self, kept: SideBits | None) -> None:
        """Raises: ReconstructionError where the side bits are not those that were kept."""
        if kept is not None and self.side is not None and not torch.equal(_sum(kept), self.side):
            raise ReconstructionError(
                f"{self._call()}: its side bits (eq. 20) were changed between forward and backward, so what they give "
                f"back would be wrong: something wrote into memory that is not its own",
                block=self.name,
            )

    def check_x(self, x: Tensor, reason: Callable[[], str]) -> None:
        """Raises: ReconstructionError where x is not that of the forward; `reason` says what took it back wrongly."""
        if not self.x.same(x):
            raise self._error("x", self.x, x, reason())

    def check_y(self, y: Tensor, before: Look, after: Look, again: Callable[[], Tensor]) -> None:
        """Raises: ReconstructionError where y is not that of the forward, though x is. `again` runs the block once
        more, as it was rerun."""
        if self.y.same(y):
            return
        reasons = Circumstances(self.before, self.after, before, after).reasons()
        said = "; ".join(reasons) or circumstances.unrepeatable(again)
        raise self._error("y", self.y, y, f"what differed: {said}; {REPEAT}")

    def _error(self, what: str, then: Digest, now: Tensor, reason: str) -> ReconstructionError:
        difference = then.difference(now)
        values = " is not what it was in the forward"
        if difference.forward is not None:
            values = f" was {difference.forward!r} in the forward and is {difference.rebuilt!r} now"
        return ReconstructionError(
            f"{self._call()}: {what}, at {difference.where},{values}, so these gradients would be wrong; {reason}",
            block=self.name,
            element=difference.where,
            forward=difference.forward,
            rebuilt=difference.rebuilt,
        )

    def _call(self) -> str:
        return f"{self.name} (call {self.index})"


def gather(name: str, index: int, x: Tensor, y: Tensor, before: Look, after: Look) -> Evidence:
    """What `verify` remembers of call `index`, one of the block called `name`: y = block(x)."""
    return Evidence(name, index, digest(x), digest(y), before, after)


def unlike(
    name: str, index: int, evidence: Evidence | None, before: Look | None, after: Look, error: Exception
) -> ReconstructionError:
    """What to raise where a rerun saved more tensors than the first run did, as torch's checkpoint noticed: `error`."""
    reasons: list[str] = []
    if evidence is not None and before is not None:
        reasons = Circumstances(evidence.before, evidence.after, before, after).reasons()
    said = "; ".join(reasons) or str(error).splitlines()[0]
    return ReconstructionError(
        f"{name} (call {index}) took another path when it was rerun; what differed: {said}; {REPEAT}", block=name
    )


def _sum(kept: SideBits) -> Tensor:
    """Side bits as numbers weighted by place, so that no two bits trade places unseen."""
    flat = kept.packed.reshape(-1).to(torch.int32)
    return (flat * torch.arange(1, flat.numel() + 1, dtype=torch.int32, device=flat.device)).sum(dtype=torch.int32)
