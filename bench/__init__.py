"""The harness: cases and suites, child processes, meters, records. `reports` renders what it stores.

For one's own training step: `bench.Workload(model, batch, loss)` is what `--model FILE.py:FUNCTION` returns, and
`bench.measure(workload, "bdia")` measures it in this process, as in a test. Importing this package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.inprocess import Result as Result
    from bench.inprocess import measure as measure
    from bench.workload import Workload as Workload

_HOMES = {"Result": "bench.inprocess", "Workload": "bench.workload", "measure": "bench.inprocess"}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
