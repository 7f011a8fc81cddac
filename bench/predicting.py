"""The jobs of a child that predicts: what a case would hold, and how large one may be within a limit."""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec

from bench import checkpoints, fit, models, obstacles, probing, resolve
from bench.case import Plan
from bench.diagnosis import diagnosis
from bench.errors import UsageError, one_line
from bench.fakes.deeper import Deeper, deeper
from bench.fakes.figures import Fields, count
from bench.fit import Found, Growing
from bench.protocol import Finished
from bench.record import Status

ON_CPU = "as on a CPU: the card's kernels, and its allocator's blocks of 512 bytes, are others"


def predict(member: int, plan: Plan) -> Finished:
    """The memory fields of the plan's record, and in its message what they rest on, where that is not the case itself,
    counted."""
    try:
        fields, how = _predicted(plan)
    except Exception as error:  # whatever a model or a method raises is a row
        return Finished(member, {}, *diagnosis(error))
    said = [text for text in (how, None if plan.case.device == "cpu" else ON_CPU) if text is not None]
    return Finished(member, fields, "ok", f"predicted {'; '.join(said)}" if said else None)


def largest(member: int, plan: Plan, limit: int) -> Finished:
    """The greatest depth and the largest batch of the plan's case whose step stays within `limit` bytes: what can be
    told of them, and why not of the other."""
    found: Fields = {}
    failed: dict[Growing, tuple[Status, str]] = {}
    for axis in fit.AXES:
        try:
            found[axis] = msgspec.to_builtins(_largest(plan, axis, limit))
        except Exception as error:  # whatever a model or a method raises is a row
            failed[axis] = diagnosis(error)
    if not failed:
        return Finished(member, found, message=None if plan.case.device == "cpu" else ON_CPU)
    (axis, (status, message)), *_ = failed.items()
    return Finished(member, found, status, f"{axis}: {message}" if found else message)


def _largest(plan: Plan, axis: Growing, limit: int) -> Found:
    case = plan.case
    if getattr(case, axis) is None:
        return Found(None, None, f"{case.model} settles its own {axis}")
    if axis == "depth" and checkpoints.is_one(case.model):
        return Found(None, None, f"a checkpoint has the depth that it has, {case.depth}")
    least = obstacles.smallest(resolve.method(case.method), case, axis)

    rests: list[str | None] = []

    def peak(number: int) -> int:
        sized = msgspec.structs.replace(plan, case=msgspec.structs.replace(case, **{axis: number}))
        nbytes, how = _peak(sized)
        rests.append(how)
        return nbytes

    step = models.factor(case.model, axis)
    lines = _lines(plan) if axis == "depth" else None
    if lines is None:
        found = fit.search(peak, limit, axis=axis, least=least, step=step)
        # Of what was probed it says so, as a record would.
        return msgspec.structs.replace(found, note="; ".join(filter(None, (found.note, rests[-1]))) or None)
    return fit.search(
        lambda depth: lines.peak(depth) if depth >= lines.first else peak(depth), limit, axis=axis, least=least,
        step=step, most=fit.ENDLESS,
    )  # fmt: skip


def _lines(plan: Plan) -> Deeper | None:
    """How high steps of any depth reach; None where that has to be counted depth by depth, or cannot be counted."""
    if _not_counted(plan) is not None:
        return None
    try:
        return deeper(plan)
    except UsageError:
        raise
    except Exception:  # of whatever fake tensors do not satisfy; `_predicted` will say it
        return None


@cache
def _peak(plan: Plan) -> tuple[int, str | None]:
    """Bytes, and what they rest on."""
    found, how = _predicted(plan)
    return int(found["peak_bytes"]), how


def _predicted(plan: Plan) -> tuple[Fields, str | None]:
    """The figures, counted on fake tensors. Where the model's code asks for values that those do not have, by real
    steps at small sizes: then it is said so."""
    why = _not_counted(plan)
    if why is None:
        try:
            return count(plan), None
        except UsageError:
            raise
        except Exception as error:  # whatever code of others raises, where nothing has a value or anywhere
            why = _in_vain(plan, error)
            if why is None:
                raise
    fields, how = probing.probe(plan)
    return fields, f"{how}, as fake tensors will not do: {why}"


def _in_vain(plan: Plan, error: Exception) -> str | None:
    """Why fake tensors will not do; None where they do at the smallest size, so that the case itself cannot be."""
    small = probing.smallest(plan)
    if small.case != msgspec.structs.replace(plan.case, device="cpu"):
        try:
            count(small)
        except Exception as smaller:  # as above
            error = smaller
        else:
            return None
    why = _IN_VAIN[plan.case.model, plan.case.method] = one_line(f"{type(error).__name__}: {error}")[:200]
    return why


def _not_counted(plan: Plan) -> str | None:
    """Why fake tensors will not do for the plan's model and method, if that is known."""
    return _IN_VAIN.get((plan.case.model, plan.case.method))


_IN_VAIN: Final[dict[tuple[str, str], str]] = {}
"""Why fake tensors did not do, for each model and method of which that is known."""
