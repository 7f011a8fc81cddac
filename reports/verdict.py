"""One plain sentence on a run: what was saved, what it cost, whether it was exact. Also where it lost."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bdia.methods import METHODS
from bench import gamma, words
from bench.case import WHOLE
from reports import frontier, frontier_verdict, settings, trained_verdict, units
from reports.arms import arms
from reports.frame import REFERENCE, method_rank, rows
from reports.settings import Row

_PREFERRED = ("bdia", "bdia-naive", "bdia-stored", "checkpoint")
"""Of which method the sentence speaks, where it was measured."""
PREFERRED_BITS = 9
"""Of which l, where there are several: the paper's for images."""
_TELLING = ("depth", "width", "seq", "batch")
_RESULTS = ("activation_bytes", "samples_per_second", "bit_exact", "gradient_error")
"""What a case is measured for: one that failed and has one of these has a result all the same."""
_SAME = 0.005
"""Two sizes that differ by no more than this share are called the same."""


def verdict(frame: pd.DataFrame) -> str:
    """The sentence. It speaks of the deepest and largest case of `bdia`, or of the next method there is, beside
    the others of the same group; then of what failed."""
    found = rows(frame)
    if not found:
        return "No case was recorded."
    if trained := arms(found):
        return trained_verdict.verdict(trained)
    if probes := frontier.probes(found):
        return frontier_verdict.verdict(frontier.largests(found), probes)
    clauses = [clause for clause in (_main_clause(found), _beyond_range(found), _failures(found)) if clause]
    said = "; ".join(clauses) + "."
    return f"Predicted: {said}" if any(row["predicted"] for row in found) else _capitalised(said)


def subject_of(found: Sequence[Row]) -> Row | None:
    """The row the sentence is about: of the first method by preference whose memory was measured, the case of
    the greatest depth, width, sequence and batch, one beside a measured `standard` first."""
    measured = [row for row in found if row["status"] == "ok" and row["activation_bytes"] is not None]
    methods = {row["method"] for row in measured}
    others = sorted(methods - {*_PREFERRED, REFERENCE}, key=method_rank)
    method = next((name for name in (*_PREFERRED, *others, REFERENCE) if name in methods), None)
    candidates = [row for row in measured if row["method"] == method]
    beside = {row["group"] for row in measured if row["method"] == REFERENCE}

    def size(row: Row) -> tuple[Any, ...]:
        telling = tuple(row[axis] or 0 for axis in _TELLING)
        return (
            *telling,
            row["group"] in beside,
            row["bits"] == PREFERRED_BITS,
            row["gamma"] == gamma.DEFAULT,
            [row[axis] in (None, whole) for axis, whole in WHOLE.items()],
            -row["seed"],
        )

    return max(candidates, key=size, default=None)


def _main_clause(found: Sequence[Row]) -> str:
    subject = subject_of(found)
    if subject is None:
        return _reconstruction_clause(found)
    method = subject["method"]
    group = [row for row in found if row["group"] == subject["group"]]
    rivals = _least_cut(row for row in group if row["method"] != method and _worth_naming(row))
    held = f"{method} holds {units.size(subject['activation_bytes'])} of activations"
    beside = " and ".join(_beside(row, subject) for row in rivals).replace(" and checkpoint holds ", " and checkpoint ")
    parts = [f"{held} where {beside}" if beside else held]
    if subject["bits_per_activation"] is not None:
        parts.append(_law(subject))
    if method != REFERENCE:
        if subject["rate_ratio"] is not None:
            parts.append(f"runs at {units.ratio(subject['rate_ratio'])} {REFERENCE}'s rate")
        parts += _correctness(subject, found)
    return f"{_where(subject, found)}{_listed(parts)}"


def _where(subject: Row, found: Sequence[Row]) -> str:
    """Which of the settings the sentence is about: the subject's value on every axis along which memory was, or
    was to be, measured. Rows of reconstructions alone were no candidates: their seeds are not told."""
    candidates = [row for row in found if row["activation_bytes"] is not None or row["status"] != "ok"]
    said = settings.values(subject, settings.varying(candidates))
    *before, last = said or [""]
    return f"at {', '.join(before)}{' and ' if before else ''}{last} " if said else ""


def _worth_naming(row: Row) -> bool:
    return row["method"] in (REFERENCE, "checkpoint") and (row["activation_bytes"] is not None or row["status"] != "ok")


def _least_cut(group: Iterable[Row]) -> list[Row]:
    """Of each method one row: the one whose work is cut into the fewest parts."""
    found: dict[str, Row] = {}
    for row in sorted(group, key=lambda row: [(row[axis] or whole) - whole for axis, whole in WHOLE.items()]):
        found.setdefault(row["method"], row)
    return sorted(found.values(), key=lambda row: method_rank(row["method"]))


def _beside(row: Row, subject: Row) -> str:
    """`standard holds 310.1 MiB (25.2× less)`, or how it ended instead."""
    if row["activation_bytes"] is None:
        endings = {"oom": "ran out of memory", "timeout": "ran out of time", "error": "failed"}
        return f"{row['method']} {endings.get(row['status'], 'was not measured')}"
    said = f"{row['method']} holds {units.size(row['activation_bytes'])}"
    if row["method"] != REFERENCE or not row["activation_bytes"] or not subject["activation_bytes"]:
        return said
    saved = row["activation_bytes"] / subject["activation_bytes"]
    if abs(saved - 1) <= _SAME:
        return f"{said} (the same)"
    return f"{said} ({units.ratio(saved)} less)" if saved >= 1 else f"{said} ({units.ratio(1 / saved)} more)"


def _law(subject: Row) -> str:
    """How it grows with depth: `adds 1.00 bits an activation and block (floor 1)`, or that it does so on no line."""
    if subject["law_linear"] is False:
        return "does not grow along a line in depth"
    floor = subject["law_floor_bits"]
    beside = "" if floor is None else f" (floor {units.integer(floor)})"
    return f"adds {units.bits(subject['bits_per_activation'])} bits an activation and block{beside}"


def _correctness(subject: Row, found: Sequence[Row]) -> list[str]:
    """What is to be said of the rebuilt blocks and of the gradients."""
    said = []
    of_method = [row for row in found if row["method"] == subject["method"] and row["status"] == "ok"]
    tried = [row for row in of_method if row["bit_exact"] is not None]
    inexact = [row for row in tried if not row["bit_exact"]]
    if subject["bit_exact"] and not inexact:
        said.append("rebuilt every block bit for bit")
    elif subject["bit_exact"]:
        said.append(f"rebuilt every block bit for bit, but not in {len(inexact)} of its {len(tried)} cases")
    elif subject["bit_exact"] is not None:
        said.append(f"did not rebuild every block exactly ({_worst(subject)})")
    gradient = subject["gradient_error"]
    if gradient is not None:
        exact = gradient == 0
        said.append("its gradients are exact" if exact else f"its gradients are off by {units.error(gradient)}")
    return said


def _worst(row: Row) -> str:
    if row["reconstruction_finite"] is False:
        return "its error is not finite"
    return f"worst error {units.error(row['worst_max_abs_error'])}"


def _reconstruction_clause(found: Sequence[Row]) -> str:
    """For runs that measured reconstructions only: each method's error at the deepest point."""
    tried = [row for row in found if row["status"] == "ok" and row["bit_exact"] is not None]
    if not tried:
        return _rate_clause(found) or "nothing was measured"
    deepest = max((row["depth"] for row in tried if row["depth"] is not None), default=None)
    methods = sorted({row["method"] for row in tried}, key=lambda name: (not _quantised(name), method_rank(name)))
    said = [_rebuilt([row for row in tried if (row["method"], row["depth"]) == (name, deepest)]) for name in methods]
    where = "" if deepest is None else f"over {words.counted(deepest, 'block')} "
    return where + " while ".join(clause for clause in said if clause)


def _rate_clause(found: Sequence[Row]) -> str:
    """For runs that measured time only: the rates at the deepest point."""
    timed = [row for row in found if row["status"] == "ok" and row["samples_per_second"] is not None]
    deepest = max((row["depth"] for row in timed if row["depth"] is not None), default=None)
    said = [
        f"{row['method']} at {units.ratio(row['rate_ratio'])} {REFERENCE}'s rate"
        for row in timed
        if row["depth"] == deepest and row["rate_ratio"] is not None and row["method"] != REFERENCE
    ]
    if said:
        where = "" if deepest is None else f"at depth {deepest} "
        return f"{where}{' and '.join(said)}; only time was measured"
    return "only time was measured, and nothing to compare it with" if timed else ""


def _rebuilt(cases: Sequence[Row]) -> str:
    if not cases:
        return ""
    method, exact = cases[0]["method"], sum(row["bit_exact"] for row in cases)
    times = f" in all {len(cases)} cases" if len(cases) > 1 else ""
    if exact == len(cases):
        return f"{method} rebuilt every block bit for bit{times}"
    if exact:
        return f"{method} rebuilt every block bit for bit in {exact} of {len(cases)} cases"
    errors = [row["worst_max_abs_error"] for row in cases if row["reconstruction_finite"]]
    if not errors:
        return f"{method} did not rebuild them, its error was not finite"
    said = f"{method} came back with an error of {units.error(max(errors))} at worst"
    growth = [row["error_doublings"] for row in cases if row["error_doublings"] is not None]
    return f"{said}, growing {units.ratio(2 ** statistics.median(growth))} a block" if growth else said


def _beyond_range(found: Sequence[Row]) -> str:
    """Which l lay behind the cliff."""
    # A γ that cannot be reversed is unsupported as well, and no matter of l.
    past = [
        row for row in found if row["status"] == "unsupported" and not gamma.refused_by(row["method"], row["gamma"])
    ]
    beyond = sorted({row["bits"] for row in past if row["bits"] is not None})
    if not beyond:
        return ""
    run = len(beyond) > 2 and beyond == list(range(beyond[0], beyond[-1] + 1))
    values = [units.integer(value) for value in beyond]
    said = f"{values[0]} to {values[-1]}" if run else ", ".join(values)
    return f"l = {said} {'is' if len(beyond) == 1 else 'are'} beyond the exact range of fp32"


def _failures(found: Sequence[Row]) -> str:
    """How many ended otherwise than well: those that have nothing to show, and those of which a part was measured."""
    failed = [row for row in found if row["status"] not in ("ok", "unsupported")]
    partly = [row for row in failed if any(row[field] is not None for field in _RESULTS)]
    nothing = [row for row in failed if all(row[field] is None for field in _RESULTS)]
    clauses = [_ended(nothing, len(found), ("has no result", "have no result"))] if nothing else []
    if partly:
        clauses.append(_ended(partly, len(found), ("was measured in part", "were measured in part")))
    return " and ".join(clauses)


def _ended(rows: Sequence[Row], of: int, did: tuple[str, str]) -> str:
    """`4 of 20 cases have no result (3 oom, 1 timeout)`; `did` is for one, and for several."""
    said = ", ".join(f"{number} {status}" for status, number in Counter(row["status"] for row in rows).items())
    return f"{len(rows)} of {units.cases(of)} {did[len(rows) != 1]} ({said})"


def _quantised(name: str) -> bool:
    return any(method.name == name and method.quantised for method in METHODS)


def _listed(parts: Iterable[str]) -> str:
    *before, last = parts
    return f"{', '.join(before)}, and {last}" if before else last


def _capitalised(text: str) -> str:
    """A capital at the start of a sentence, but not on the name of a method."""
    starts_with_word = text.startswith(("at ", "over ", "nothing ", "only "))
    return text[0].upper() + text[1:] if starts_with_word else text
