"""Fingerprints: what a stored measurement rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_records import case

from bench import fingerprint
from bench.case import MEASUREMENTS, Measurement, Plan


def of(
    measure: tuple[Measurement, ...] = MEASUREMENTS, axes: dict[str, Any] | None = None, verify: bool = False,
    **basis: Any,
) -> str:  # fmt: skip
    plan = Plan(case=case("bdia", **(axes or {})), measure=frozenset(measure), verify=verify)
    rest = {"environment": "a", "code": "b", "data": "c", "rounds": 7, "warmup": 1, "threads": 2}
    return fingerprint.of(plan, **(rest | basis))


def test_the_same_is_the_same() -> None:
    """Equal bases have equal fingerprints of 16 hexadecimal digits."""
    assert of() == of()
    assert len(of()) == len(f"{int(of(), 16):016x}") == 16


@pytest.mark.parametrize(
    "change",
    [
        {"environment": "z"}, {"code": "z"}, {"data": "z"}, {"rounds": 8}, {"warmup": 2}, {"threads": 1},
        {"measure": ("memory",)}, {"axes": {"depth": 13}}, {"axes": {"bits": 8}}, {"axes": {"gamma": "0.25"}},
        {"verify": True}, {"axes": {"data": "text.txt"}},
    ],
)  # fmt: skip
def test_every_change_shows(change: dict[str, Any]) -> None:
    """Another case, environment, code, data or setting is another fingerprint."""
    assert of(**change) != of()


def test_rounds_matter_only_to_what_is_timed() -> None:
    """Where no throughput is measured, the number of rounds changes nothing."""
    assert of(("memory",), rounds=8, warmup=2) == of(("memory",))


def test_the_code_digest_follows_the_sources(tmp_path: Path) -> None:
    """A changed, added or renamed Python file changes the digest of the code; other files do not."""
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "inner" / "a.py").write_text("x = 1")
    seen = [fingerprint.code_digest([package])]
    (package / "notes.txt").write_text("y")
    assert fingerprint.code_digest([package]) == seen[0]
    (package / "inner" / "a.py").write_text("x = 2")
    seen.append(fingerprint.code_digest([package]))
    (package / "b.py").write_text("")
    seen.append(fingerprint.code_digest([package]))
    (package / "b.py").rename(package / "c.py")
    seen.append(fingerprint.code_digest([package]))
    assert len(set(seen)) == 4


def test_the_code_is_that_of_both_packages() -> None:
    """The digest covers `bdia` and `bench`, and is the same when asked again."""
    assert fingerprint.code_digest() == fingerprint.code_digest()
    root = Path(fingerprint.__file__).parent.parent
    assert fingerprint.code_digest() == fingerprint.code_digest([root / "bdia", root / "bench"])
