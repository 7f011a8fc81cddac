"""The meters: one measurement each. A meter that cannot measure exactly says so instead of guessing."""

from __future__ import annotations


class MeterError(RuntimeError):
    """What was to be measured cannot be measured exactly; the message says why. Nothing is estimated instead."""
