"""Exact bit-level reversible transformers: BDIA update rules, backprop strategies, and attaching them to a model.

    import bdia
    handle = bdia.attach(model, method="bdia", bits=9)   # in place; parameter names stay as they are
    ...                                                  # train as before
    handle.detach()

Importing this package imports no torch: names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bdia.attachment import attach as attach
    from bdia.attachment import detach as detach
    from bdia.errors import AttachError as AttachError
    from bdia.errors import BdiaError as BdiaError
    from bdia.errors import BudgetError as BudgetError
    from bdia.errors import HeadroomError as HeadroomError
    from bdia.errors import MethodError as MethodError
    from bdia.errors import ReconstructionError as ReconstructionError
    from bdia.errors import TapeError as TapeError
    from bdia.handle import Handle as Handle
    from bdia.losses import chunked_cross_entropy as chunked_cross_entropy
    from bdia.methods import METHODS as METHODS
    from bdia.methods import Method as Method
    from bdia.optim import SetAdam as SetAdam
    from bdia.rehearsal import Rehearsal as Rehearsal
    from bdia.rehearsal import rehearse as rehearse

_HOMES = {
    "attach": "bdia.attachment",
    "chunked_cross_entropy": "bdia.losses",
    "detach": "bdia.attachment",
    "Handle": "bdia.handle",
    "AttachError": "bdia.errors",
    "BdiaError": "bdia.errors",
    "BudgetError": "bdia.errors",
    "HeadroomError": "bdia.errors",
    "MethodError": "bdia.errors",
    "ReconstructionError": "bdia.errors",
    "TapeError": "bdia.errors",
    "METHODS": "bdia.methods",
    "Method": "bdia.methods",
    "SetAdam": "bdia.optim",
    "Rehearsal": "bdia.rehearsal",
    "rehearse": "bdia.rehearsal",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bdia' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
