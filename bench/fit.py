"""How deep, and how large a batch: the largest size whose step stays within a limit to memory. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import msgspec

from bench.case import Case
from bench.record import Status

Growing = Literal["depth", "batch"]
AXES: Final[tuple[Growing, ...]] = get_args(Growing)

MOST: Final = {"depth": 128, "batch": 1 << 17}
"""Sizes beyond which no case is counted: from there on the line through the largest two is believed."""
ENDLESS: Final = 10**9


class Found(msgspec.Struct, frozen=True):
    """The largest size on one axis."""

    size: int | None
    """None where not even the smallest fits, or there is no such size."""
    peak_bytes: int | None
    """There, or at the smallest size where that is too large."""
    note: str | None = None
    """Why there is none, or what it rests on."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """What fits of one case within a limit: a line of `fits.jsonl`."""

    case: Case
    limit_bytes: int
    depth: Found | None = None
    """The greatest depth at the case's batch."""
    batch: Found | None = None
    """The largest batch at the case's depth."""
    fingerprint: str = ""
    """Of what it rests on, the limit included."""
    status: Status = "ok"
    """Another where one of the two could not be told, or neither."""
    message: str | None = None


def search(
    peak: Callable[[int], int], limit: int, *, axis: Growing, least: int = 1, step: int = 1, most: int | None = None
) -> Found:
    """The largest n with `peak(n)` ≤ `limit` bytes, given that it grows with n: along the line through the largest two
    that fit, then between what fits and what does not, until n fits and the next does not.

    Args:
        least: the smallest n that there is.
        step: what n is a multiple of, and `least` with it.
        most: how far `peak` is asked; as far as `MOST` unless given.
    """
    cap = MOST[axis] if most is None else most
    cap -= cap % step
    first = peak(least)
    if first > limit:
        return Found(None, first, f"{axis} {least}, the smallest, needs more than the limit")
    known = {least: first}
    below, above = least, None  # the largest that fits, the smallest that does not
    guess, halve = least + step, False
    while above is None or above > below + step:
        if above is None and guess > cap:
            guess = cap
            if guess <= below:
                return _believed(known, limit, axis, step)
        known[guess] = peak(guess)
        width = None if above is None else above - below
        if known[guess] <= limit:
            below = guess
        else:
            above = guess
        if above is None:
            on_line = _on_line(known, limit, step)
            guess = 2 * below if on_line is None else max(below + step, on_line)
            continue
        # On a line n fits and the next does not at once; where it bends or has steps, halving comes to an end as well.
        halve = width is not None and not halve and 2 * (above - below) > width
        between = (below + above) // 2 if halve else _between(known, below, above, limit)
        guess = min(max(between - between % step, below + step), above - step)
    return Found(below, known[below])


def _between(known: dict[int, int], below: int, above: int, limit: int) -> int:
    """Where the line from what fits to what does not reaches the limit."""
    return below + (limit - known[below]) * (above - below) // (known[above] - known[below])


def _on_line(fitting: dict[int, int], limit: int, step: int) -> int | None:
    """The last n at which the line through the largest two that fit is within the limit; None where it is flat."""
    if len(fitting) == 1:
        return next(iter(fitting)) + step
    before, last = sorted(fitting)[-2:]
    each = (fitting[last] - fitting[before]) / (last - before)
    if each <= 0:
        return None
    size = last + int((limit - fitting[last]) // each)
    return size - size % step


def _believed(fitting: dict[int, int], limit: int, axis: Growing, step: int) -> Found:
    last = max(fitting)
    size = _on_line(fitting, limit, step)
    if size is None or size >= ENDLESS:
        return Found(None, fitting[last], f"does not grow with {axis}: {axis} {last} fits as well as a smaller one")
    return Found(size, None, f"by the line through what was counted up to {axis} {last}")
