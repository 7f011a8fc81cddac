"""Other people's libraries as methods beside bdia's own: the table.

Each stands on the same workload, and its row in the same tables: what it computes is its own function, so compare its
memory, its speed and whether its gradients are right, never its loss. Imports neither torch nor any of the libraries.
A new peer is one file and one line in `PEERS`.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Final, NoReturn

from bdia.distributions import HALF, Gamma
from bdia.errors import MethodError
from bdia.methods import EULER, STORED, Method

if TYPE_CHECKING:
    from bench.case import Case


@dataclass(frozen=True)
class Library:
    """Where a peer comes from."""

    package: str
    """Its name on PyPI."""
    module: str
    """What is imported."""
    install: str
    """The command that installs it."""

    @property
    def installed(self) -> bool:
        # What is imported already is there, whatever its specification says.
        return self.module in sys.modules or importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str | None:
        """That which is installed, if any."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return None


@dataclass(frozen=True, kw_only=True)
class Peer(Method):
    """A library as a method. `rule` names the function that it computes, for plain autograd, and `strategy` its
    adapter: each takes the residual functions of a chain (`bench.peers.functions`), in order, and returns what maps x
    to the chain's output."""

    library: Library
    in_pairs: bool = False
    """Two functions make one step: a block's halves where they are known, else two blocks."""
    switch: bool = False
    """The model runs its blocks itself, as before, and `strategy` names a context manager that takes the model."""

    @property
    def recomputes(self) -> bool:
        """False: what is run again is the library's business, and no dial of bdia's turns it."""
        return False

    def make_rule(self, bits: int, gamma: Gamma = HALF) -> NoReturn:
        """Raises: MethodError, as `bdia.attach` cannot attach a library."""
        raise MethodError(
            f"{self.name} is a library and no rule of bdia's: measure it with bdia-bench or bench.measure"
        )

    @property
    def missing(self) -> str | None:
        """What to do where its library is not installed; None where it is, or where plain autograd stands in for it."""
        if self.strategy == STORED or self.library.installed:
            return None
        return f"{self.name} needs {self.library.package}: {self.library.install}"


_EXTRA: Final = "pip install 'bdia-bench[peers]'"
_ALONE: Final = "pip install --no-deps {}"
"""Of those whose metadata asks for torchvision and more, which nothing that is used here imports."""
_TWO_STREAM: Final = "bench.peers.equations:two_stream"

PEERS: Final[tuple[Peer, ...]] = (
    Peer(
        "peer-revlib", _TWO_STREAM, "bench.peers.revlib:sequence", "two-stream coupling (RevNet) by revlib",
        reversible=True, in_pairs=True, library=Library("revlib", "revlib", _EXTRA),
    ),
    Peer(
        "peer-revtorch", _TWO_STREAM, "bench.peers.revtorch:sequence", "two-stream coupling (RevNet) by RevTorch",
        reversible=True, in_pairs=True, library=Library("revtorch", "revtorch", _EXTRA),
    ),
    Peer(
        "peer-memcnn", _TWO_STREAM, "bench.peers.memcnn:sequence", "two-stream coupling (RevNet) by MemCNN",
        reversible=True, in_pairs=True, library=Library("memcnn", "memcnn", _ALONE.format("memcnn")),
    ),
    Peer(
        "peer-momentumnet", "bench.peers.equations:momentum", "bench.peers.momentumnet:sequence",
        "momentum residual network by momentumnet", reversible=True,
        library=Library("momentumnet", "momentumnet", _ALONE.format("momentumnet")),
    ),
    Peer(
        "hf-checkpoint", EULER, "bench.peers.hf_checkpoint:switched_on",
        "plain transformer (eq. 4), gradient checkpointing of transformers' own, for hf: models", switch=True,
        library=Library("transformers", "transformers", "pip install 'bdia-bench[hf]'"),
    ),
)  # fmt: skip


def names() -> tuple[str, ...]:
    """The names of the table, in its order."""
    return tuple(peer.name for peer in PEERS)


def packages() -> frozenset[str]:
    """The packages that peers alone need, by their names on PyPI."""
    return frozenset(peer.library.package for peer in PEERS if not peer.switch)


@functools.cache
def get(name: str) -> Peer | None:
    """The peer called `name`; None where the table has none."""
    return next((peer for peer in PEERS if peer.name == name), None)


def obstacle(peer: Peer, case: Case) -> tuple[str | None, str] | None:
    """The axis whose value cannot be with this peer, or None where it is this machine that lacks something, and why;
    None where nothing stands in its way as far as that is known without torch."""
    if peer.missing is not None:
        return None, peer.missing
    # A function of the user's may return a model of transformers.
    if peer.switch and (":" not in case.model or case.model.startswith("timm:")):
        return "model", f"{peer.name}: {case.model} is no model of transformers; take --model hf:…, or a function's"
    return None


def resolved(target: str | Callable[..., object]) -> Callable[..., object]:
    """What `module:name` names; imports torch, and the library."""
    if callable(target):
        return target
    module, _, attribute = target.partition(":")
    found: Callable[..., object] = getattr(importlib.import_module(module), attribute)
    return found
