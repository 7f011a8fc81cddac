"""A peer on a model: what the meters need of it, and the way back."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, cast

from torch import nn

from bdia.attachment import Blocks
from bdia.backprop import Watcher
from bdia.blocks import find_chains, given_chains
from bdia.methods import STORED
from bench.errors import UnsupportedError
from bench.peers import Peer, packages, resolved
from bench.peers.functions import Watching
from bench.peers.loop import Loop, Sequencer
from bench.peers.watched import watch

_OLD_WAYS = ("TypedStorage is deprecated",)
"""What torch says of libraries that were written for older ones, whoever it takes for the caller."""


class PeerHandle:
    """A peer attached to a model, with the surface of `bdia.Handle` that is measured by. A context manager: leaving it
    detaches. What a library keeps beside activations is its own, and not known here: None."""

    side_bytes: int | None = None
    rng_bytes: int | None = None
    headroom = None

    def __init__(self, chains: Sequence[tuple[str, ...]], watching: Watching, undo: ExitStack) -> None:
        self.chains = tuple(chains)
        """The names of the blocks, chain by chain, in the order they run."""
        self._watching = watching
        self._undo = undo

    def detach(self) -> None:
        """Leaves the model as it was. A second call does nothing."""
        self._undo.close()

    @contextlib.contextmanager
    def observing(self, watcher: Watcher) -> Iterator[None]:
        """Shows `watcher` what each block is given in the forwards begun inside, and what their backwards rebuild."""
        with self._watching.by(watcher):
            yield

    def unguarded(self) -> AbstractContextManager[None]:
        """Without guards: a peer has none."""
        return contextlib.nullcontext()

    def __enter__(self) -> PeerHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def attach(model: nn.Module, peer: Peer, blocks: Blocks | None = None) -> PeerHandle:
    """Has `peer` train the residual blocks of `model`, found as `bdia.attach` finds them, until it is detached.

    Raises: UnsupportedError where its library is not installed, or cannot have this model; AttachError where there are
    no blocks; whatever the library raises as it is imported.
    """
    if peer.missing is not None:
        raise UnsupportedError(peer.missing)
    chains = find_chains(model) if blocks is None else given_chains(model, blocks)
    names = {id(module): name for name, module in model.named_modules()}
    labels = [tuple(names.get(id(block), type(block).__name__) for block in chain) for chain in chains]
    watching = Watching()
    with ExitStack() as undo:
        undo.enter_context(_unmoved_by_old_ways())
        if peer.switch:
            if peer.strategy != STORED:
                switch = cast("Callable[[nn.Module], AbstractContextManager[Any]]", resolved(peer.strategy))
                undo.enter_context(switch(model))
            for chain, of in zip(chains, labels, strict=True):
                watch(chain, of, watching, undo)
        else:
            sequencer = cast("Sequencer", resolved(peer.rule if peer.strategy == STORED else peer.strategy))
            for chain, of in zip(chains, labels, strict=True):
                Loop(chain, of, sequencer, watching, undo, in_pairs=peer.in_pairs)
        return PeerHandle(labels, watching, undo.pop_all())


def load(peer: Peer) -> None:
    """Imports its library, before anything that it must not be imported in.

    Raises: whatever the library raises as it is imported.
    """
    if peer.missing is None:
        with _unmoved_by_old_ways():
            resolved(peer.strategy)


@contextlib.contextmanager
def _unmoved_by_old_ways() -> Iterator[None]:
    """Without the warnings that the libraries' own lines are answered with, as they are imported and as they run."""
    with warnings.catch_warnings():
        for message in _OLD_WAYS:
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", module=rf"({'|'.join(sorted(packages()))})(\.|$)")
        yield
