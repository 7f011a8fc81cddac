"""The verdict of the gate as JUnit XML, which nearly every CI can show: one test case a case.

Made with the standard library's ElementTree: the packages that write JUnit wrap these few elements, and none of them
keeps characters out that XML cannot hold. The order of elements and the attributes are those that the schema of
Ant's reports requires, the strictest around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree

from bench.case import Case
from bench.check import Verdicts
from bench.comparison import Comparison
from bench.tolerance import Metric
from reports import phrases

HOST: Final = "localhost"
"""The schema's word for a host that is not told: whose machine it was is nobody's business."""

LAW: Final[Metric] = "bits_per_activation"


def junit(verdicts: Verdicts, at: datetime) -> bytes:
    """The whole file, of a check at the time `at`. A test case fails where the gate closes on one of its comparisons,
    and is skipped where there was nothing to compare: a case that is new, or that ended as badly before."""
    groups = _groups(verdicts.comparisons)
    cases = [_case(verdicts.suite, found, verdicts.reruns) for found in groups]
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": _token(verdicts.suite),
            "package": "bdia-bench",
            "id": "0",
            "timestamp": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "hostname": HOST,
            "tests": str(len(cases)),
            "failures": str(sum(case.find("failure") is not None for case in cases)),
            "errors": "0",
            "skipped": str(sum(case.find("skipped") is not None for case in cases)),
            "time": "0",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    told = [("run", verdicts.run), ("baseline", verdicts.baseline), *(("mismatch", one) for one in verdicts.mismatch)]
    for name, value in told:
        ElementTree.SubElement(properties, "property", {"name": name, "value": phrases.printable(value)})
    suite.extend(cases)
    ElementTree.SubElement(suite, "system-out").text = phrases.printable(verdicts.counted)
    ElementTree.SubElement(suite, "system-err")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    whole: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return whole + b"\n"


def _groups(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """The comparisons of each case together; the memory law of a series is a case of its own."""
    found: dict[tuple[Case, bool], list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault((comparison.case, comparison.metric == LAW), []).append(comparison)
    return list(found.values())


def _case(suite: str, found: Sequence[Comparison], reruns: Mapping[Case, str]) -> ElementTree.Element:
    first = found[0]
    name = f"{first.case.label()}{' over depth' if first.metric == LAW else ''}"
    # No time was taken: that of measuring is not the check's.
    named = {"classname": _token(f"{suite}.{first.case.method}"), "name": _token(name), "time": "0"}
    element = ElementTree.Element("testcase", named)
    bad = [comparison for comparison in found if comparison.regression]
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        failure = ElementTree.SubElement(
            element, "failure", {"type": bad[0].verdict, "message": phrases.sentence(bad[0]) + more}
        )
        texts = [phrases.text(comparison, None) for comparison in bad[:-1]]
        failure.text = "\n".join([*texts, phrases.text(bad[-1], reruns.get(first.case))])
    elif (reason := _skipped(found)) is not None:
        ElementTree.SubElement(element, "skipped", {"message": reason})
    return element


def _skipped(found: Sequence[Comparison]) -> str | None:
    """Why a case was not compared; None where it was."""
    whole = next((comparison for comparison in found if comparison.metric is None), None)
    if whole is None:
        return None
    if whole.verdict == "new":
        return f"new, with nothing to compare with: {whole.new}"
    return f"{whole.new}, as before" if whole.verdict == "same" and whole.new != "ok" else None


def _token(text: str) -> str:
    """What the schema takes as a name: one line, without spaces at its ends or in a row."""
    return " ".join(phrases.printable(text).split()) or "unnamed"
