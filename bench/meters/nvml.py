"""What NVIDIA's management library says of a card: the memory this process holds on it, its name, its driver.

NVML's figure is wider than the allocator's: it counts the CUDA context, kernels and libraries as well.
Where there is no NVML, no driver, no card or no figure, the answer is None; nothing is raised.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """A card as NVML sees it."""

    name: str
    driver: str
    total_bytes: int


def process_bytes(uuid: str, pid: int | None = None) -> int | None:
    """Bytes that process `pid` (this one by default) holds on the card of that UUID.

    None as well where NVML lists no such process, as in a container whose process numbers are its own, or has
    no figure for it, as under Windows' display driver model.
    """
    wanted = os.getpid() if pid is None else pid

    def read(nvml: Any, card: Any) -> int | None:
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(card):
            if process.pid == wanted and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    return _ask(uuid, read)


def card(uuid: str) -> Card | None:
    """The card of that UUID."""

    def read(nvml: Any, handle: Any) -> Card:
        return Card(
            name=_text(nvml.nvmlDeviceGetName(handle)),
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            total_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        )

    return _ask(uuid, read)


def _ask(uuid: str, read: Callable[[Any, Any], T | None]) -> T | None:
    """`read(nvml, card)` between NVML's init and shutdown; None where NVML refuses at any point.

    Cards go by UUID: NVML's numbers ignore CUDA_VISIBLE_DEVICES, and its order need not be CUDA's.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return read(pynvml, pynvml.nvmlDeviceGetHandleByUUID(_nvml_uuid(uuid)))
    except pynvml.NVMLError:
        return None
    finally:
        _shut_down(pynvml)


def _shut_down(nvml: Any) -> None:
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        return


def _nvml_uuid(uuid: str) -> str:
    """CUDA leaves out the prefix that NVML wants."""
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
