"""Global switches that change what a kernel computes: taken in the forward, put back for a rerun in the backward.

Autocast is not among them: `torch.utils.checkpoint` captures and restores it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def _attribute(holder: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return (lambda: getattr(holder, name)), (lambda value: setattr(holder, name, value))


_cuda = torch.backends.cuda

_SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    # Its on, off and warn-only in one
    "determinism": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    # Which attention kernel scaled_dot_product_attention may pick
    "SDPA backend flash": (_cuda.flash_sdp_enabled, _cuda.enable_flash_sdp),
    "SDPA backend efficient": (_cuda.mem_efficient_sdp_enabled, _cuda.enable_mem_efficient_sdp),
    "SDPA backend math": (_cuda.math_sdp_enabled, _cuda.enable_math_sdp),
    "SDPA backend cuDNN": (_cuda.cudnn_sdp_enabled, _cuda.enable_cudnn_sdp),
    # How many bits a product keeps. The legacy reader (`get_float32_matmul_precision`) raises once a program has used
    # these, while these read what the legacy writer set.
    "matmul precision on CUDA": _attribute(torch.backends.cuda.matmul, "fp32_precision"),
    "matmul precision on CPU": _attribute(torch.backends.mkldnn.matmul, "fp32_precision"),  # type: ignore[attr-defined]
}

Ambient = tuple[Any, ...]


def capture() -> Ambient:
    """The switches as they stand."""
    return tuple(read() for read, _ in _SWITCHES.values())


def named() -> dict[str, Any]:
    """The switches as they stand, by names that an error can use."""
    return dict(zip(_SWITCHES, capture(), strict=True))


@contextlib.contextmanager
def restored(then: Ambient) -> Iterator[None]:
    """The switches as they stood `then`, and afterwards as they stood before."""
    now = capture()
    _write(now, then)
    try:
        yield
    finally:
        _write(then, now)


def _write(current: Ambient, wanted: Ambient) -> None:
    for (_, write), is_, should in zip(_SWITCHES.values(), current, wanted, strict=True):
        if is_ != should:
            write(should)
