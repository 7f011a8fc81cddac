"""Whose backward a watch looks at: the arm's own method, or the reversible ones of its model. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bdia import methods
from bdia.dial import WHOLE, Dial
from bdia.methods import Method
from bench import gamma, resolve
from bench.case import Case
from bench.points import FALLBACK

NAIVE = "_naive"
"""What the names of points by eq. 16 end with, where they stand beside the arm's own."""
_PLAIN_RULES = (methods.EULER, methods.QUANTISED_EULER, methods.BDIA, methods.QUANTISED_BDIA)


@dataclass(frozen=True)
class Subject:
    """A method as a watch attaches it. What it finds is called `name + suffix`."""

    method: Method
    bits: int | None
    gamma: str | None
    dial: Dial
    suffix: str = ""


def is_plain(method: Method) -> bool:
    """Whether the model is the plain one in eval mode. Of a rule from outside the table that is not known."""
    return method.rule in _PLAIN_RULES


def stream_of(case: Case) -> Subject:
    """What runs the stream that `case` trains with: rounded where that is known how, so that there is an l to name."""
    own = resolve.method(case.method)
    if own.quantised or not is_plain(own):
        return _own(case)
    return _standing_in(case, methods.get("bdia-stored" if own.draws_gamma else "standard-quantised"))


def rebuilders(case: Case) -> tuple[Subject, ...]:
    """The methods whose rebuilding is looked at: the case's own where it rebuilds, else BDIA by eq. 24, which computes
    what the case trains or what that is in eval mode; and beside either, with the same γ, BDIA by eq. 16. None that
    the γ does not allow."""
    own = resolve.method(case.method)
    found = []
    if own.reversible:
        found.append(_own(case))
    elif is_plain(own):
        found.append(_standing_in(case, methods.get("bdia")))
    if is_plain(own) and own.name != "bdia-naive":
        found.append(_standing_in(case, methods.get("bdia-naive"), NAIVE))
    return tuple(
        subject for subject in found if subject.gamma is None or gamma.obstacle(subject.method, subject.gamma) is None
    )


def _own(case: Case) -> Subject:
    return Subject(resolve.method(case.method), case.bits, case.gamma, case.dial)


def _standing_in(case: Case, method: Method, suffix: str = "") -> Subject:
    bits = int(FALLBACK["bits"]) if case.bits is None else case.bits
    given = gamma.DEFAULT if case.gamma is None else case.gamma
    return Subject(method, bits if method.quantised else None, given if method.draws_gamma else None, WHOLE, suffix)
