"""Step times of several methods, paired: round i times one step of each, side by side on one model.

What slows a machine for a while slows every member of a round alike, so ratios are taken within rounds. The order
rotates from round to round, as a step is not without effect on the next (caches, clock, temperature).
"""

from __future__ import annotations

import gc
import statistics
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Member:
    """One method of a group. `attach` puts it onto the shared model until the context it returns is left."""

    name: str
    attach: Callable[[], AbstractContextManager[object]]


class MemberError(RuntimeError):
    """A member raised, so the rounds are void: drop it and measure the others anew, gradients set to None first.
    `__cause__` is what it raised."""

    def __init__(self, member: str, round_index: int, cause: BaseException) -> None:
        super().__init__(f"{member} failed in round {round_index}: {type(cause).__name__}: {cause}")
        self.member = member
        self.round_index = round_index


def measure_rounds(
    members: Sequence[Member],
    step: Callable[[], object],
    *,
    rounds: int,
    warmup: int,
    sync: Callable[[], object],
) -> dict[str, list[float]]:
    """Seconds of each timed step, by member; entry i of every list is of round i.

    Args:
        members: at least one, with names that differ.
        step: one training step of the shared model, forward to optimiser, `zero_grad(set_to_none=True)` included.
        rounds: timed rounds, at least 1.
        warmup: rounds before them that are not timed.
        sync: waits for the device; called before the clock is read, at both ends (`torch.cuda.synchronize`, or a
            function that does nothing on a CPU).

    Weights drift from step to step unless `attach` puts them back, which is not timed.

    Raises: MemberError where attaching or stepping raised; ValueError for no members, names given twice, rounds
    under 1 or warmup under 0.
    """
    names = [member.name for member in members]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"members are {names}: expected at least one, and no name twice")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds={rounds}, warmup={warmup}: expected at least 1 and at least 0")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with _steady_collector():
        for index in range(-warmup, rounds):
            for member in rotated(members, index + warmup):
                try:
                    elapsed = _time_step(member, step, sync)
                except Exception as error:
                    traceback.clear_frames(error.__traceback__)  # or they keep the failed step's tensors alive
                    raise MemberError(member.name, index, error) from error
                if index >= 0:
                    seconds[member.name].append(elapsed)
    return seconds


def rotated(members: Sequence[Member], turns: int) -> list[Member]:
    """The members in the order of round `turns`: over any `len(members)` rounds each goes once at every place."""
    cut = turns % len(members)
    return [*members[cut:], *members[:cut]]


def rate(step_seconds: Sequence[float], items: int) -> float:
    """Items a second, from the median step.

    Raises: ValueError where no step was timed.
    """
    if not step_seconds:
        raise ValueError("no steps were timed: expected at least one")
    return items / statistics.median(step_seconds)


def paired_ratio(seconds: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of seconds_i / reference_i: above 1 where the first is slower.

    Raises: ValueError where the two are not of the same rounds.
    """
    if not seconds or len(seconds) != len(reference):
        raise ValueError(
            f"{len(seconds)} and {len(reference)} rounds: expected the same rounds of both, and at least one"
        )
    return statistics.median(ours / theirs for ours, theirs in zip(seconds, reference, strict=True))


def _time_step(member: Member, step: Callable[[], object], sync: Callable[[], object]) -> float:
    """Seconds of one step with the member attached. Attaching, detaching and collecting garbage are not timed."""
    gc.collect()
    with member.attach():
        sync()
        start = perf_counter()
        step()
        sync()
        return perf_counter() - start


@contextmanager
def _steady_collector() -> Iterator[None]:
    """No collection but those asked for, and those look only at what was made since: all of torch's modules need
    not be gone through before each step."""
    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()
