"""The meters: one measurement each. A meter that cannot measure exactly says so instead of guessing."""

from __future__ import annotations

OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
    "Cannot allocate memory",
)
"""What torch says where it has no exception class of its own for it."""


class MeterError(RuntimeError):
    """What was to be measured cannot be measured exactly; the message says why. Nothing is estimated instead."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that memory ran out, on whatever device."""
    # torch's own class derives from RuntimeError, and by name it can be told without importing torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return says_out_of_memory(str(error))


def says_out_of_memory(text: str) -> bool:
    """Whether a message, or the last words of a process, mean that memory ran out."""
    return text.startswith("MemoryError") or any(known in text for known in OUT_OF_MEMORY)
