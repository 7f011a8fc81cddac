"""Two real processes, for what is distributed."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

Case = Callable[[], Any]


def on_two_ranks(cases: dict[str, Case], folder: Path) -> dict[str, list[Any]]:
    """What each case returns on rank 0 and on rank 1. One pair of processes serves all cases, since starting them
    takes longer than running them; a case that raises returns its traceback, as text, and does not stop the others."""
    mp.spawn(_run, (cases, str(folder)), nprocs=2)
    ranks = [torch.load(folder / f"rank{rank}", weights_only=False) for rank in range(2)]
    return {name: [results[name] for results in ranks] for name in cases}


def _run(rank: int, cases: dict[str, Case], folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # both ranks are here; the host's own name may not resolve
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    results: dict[str, Any] = {}
    for name, case in cases.items():
        try:
            results[name] = case()
        except Exception:
            results[name] = traceback.format_exc()
    torch.save(results, Path(folder) / f"rank{rank}")
    dist.destroy_process_group()
