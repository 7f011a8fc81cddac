"""The doctor's findings on stdout, a line each as they come. Light: it must work where little else does."""

from __future__ import annotations

from collections.abc import Iterable

from bench.doctor import Finding
from reports import units


def show(findings: Iterable[Finding]) -> list[Finding]:
    """Prints each finding, its hint below it, and returns them all."""
    shown = []
    for finding in findings:
        shown.append(finding)
        size = "" if finding.size_bytes is None else units.size(finding.size_bytes)
        print(f"{finding.health:<9}{finding.name:<18}{', '.join(filter(None, (finding.text, size)))}")
        if finding.hint is not None:
            print(f"{'':<27}{finding.hint}")
    return shown
