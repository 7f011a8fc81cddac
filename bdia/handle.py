"""The handle of an attached method: what it keeps, what it draws, how to watch it, and the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from bdia.backprop import Numbered, Watcher
from bdia.budget import Plan
from bdia.chain import Chain
from bdia.dial import Dial
from bdia.errors import AttachError
from bdia.quantize import Headroom


class Removable(Protocol):
    """Something done to a model that can be undone."""

    def check(self) -> None:
        """Raises: AttachError where it cannot be undone as things are."""

    def remove(self) -> None: ...


class Handle:
    """A method attached to a model. A context manager: leaving it detaches."""

    def __init__(self, chains: Sequence[Chain], patches: Sequence[Removable]) -> None:
        self._chains = tuple(chains)
        self._patches = list(patches)

    def detach(self) -> None:
        """Gives the modules their own `forward` back. A second call does nothing.

        Raises: AttachError where somebody else has replaced one of them since.
        """
        for patch in self._patches:
            patch.check()
        while self._patches:
            self._patches.pop().remove()

    @property
    def chains(self) -> tuple[tuple[str, ...], ...]:
        """The names of the blocks, chain by chain, in the order they run."""
        return tuple(chain.names for chain in self._chains)

    @property
    def dial(self) -> Dial:
        """Where the dial stands: of a budget, where it was set for the last forward that trained."""
        return Dial(sum(chain.keep for chain in self._chains), self._chains[0].micro_batches)

    @property
    def plan(self) -> Plan | None:
        """What was found for a budget; None without one, and before the first forward that trains."""
        planner = self._chains[0].planner
        return None if planner is None else planner.plan

    @property
    def side_bytes(self) -> int:
        """Bytes of side information (eq. 20), as held at the end of the last forward."""
        return sum(chain.summary.side_bytes for chain in self._chains)

    @property
    def rng_bytes(self) -> int:
        """Bytes of RNG states, as held at the end of the last forward."""
        return sum(chain.summary.rng_bytes for chain in self._chains)

    @property
    def headroom(self) -> Headroom | None:
        """How much of the exact range the last forward used, of the chain that came closest to its end; None for a rule
        that does not quantise."""
        rooms = [chain.summary.headroom for chain in self._chains if chain.summary.headroom is not None]
        return min(rooms, key=lambda room: room.largest_bits or 0, default=None)

    @property
    def overflows(self) -> int:
        """Forwards since attaching that left the exact range and were stored where they did (`on_overflow="store"`); of
        several chains, those of the one with the most."""
        return max(chain.overflows for chain in self._chains)

    @contextlib.contextmanager
    def observing(self, watcher: Watcher) -> Iterator[None]:
        """Shows `watcher` what the forwards begun inside make and keep, and what their backwards rebuild."""
        numbered = Numbered(watcher)
        before = [chain.watcher for chain in self._chains]
        for chain in self._chains:
            chain.watcher = numbered
        try:
            yield
        finally:
            for chain, watching in zip(self._chains, before, strict=True):
                chain.watcher = watching

    @contextlib.contextmanager
    def unguarded(self) -> Iterator[None]:
        """Leaves out the range guard and all checks in the forwards begun inside: to measure an error, never to
        train."""
        before = [chain.guarded for chain in self._chains]
        for chain in self._chains:
            chain.guarded = False
        try:
            yield
        finally:
            for chain, guarded in zip(self._chains, before, strict=True):
                chain.guarded = guarded

    def state_dict(self) -> dict[str, int]:
        """What it takes to draw the same γ again: the seed, and the forwards counted, chain by chain where there are
        several."""
        return {
            key + (f".{number}" if number else ""): value
            for number, chain in enumerate(self._chains)
            for key, value in chain.gamma.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on drawing γ where `state` was taken.

        Raises: AttachError where it is not of as many chains, or holds anything but whole numbers.
        """
        expected = self.state_dict().keys()
        if state.keys() != expected or not all(type(value) is int for value in state.values()):
            raise AttachError(
                f"the state {dict(state)} does not fit: expected whole numbers for {', '.join(expected)}, as "
                f"state_dict() gives them for this model's chains"
            )
        for number, chain in enumerate(self._chains):
            suffix = f".{number}" if number else ""
            chain.gamma.load_state_dict({key: state[key + suffix] for key in ("seed", "forwards")})

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.detach()
        except AttachError as failure:
            if error is None:
                raise
            error.add_note(f"and the method is still attached: {failure}")
