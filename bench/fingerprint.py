"""What a measurement rests on, as one digest: a record is used again only where nothing of it has changed.

Imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

import bdia
import bench
from bench import data as datasets
from bench import models, private, resolve
from bench.case import Plan


def of(plan: Plan, *, environment: str, code: str, data: str, rounds: int, warmup: int, threads: int) -> str:
    """The fingerprint of a plan: 16 hexadecimal digits.

    Args:
        environment: a text that is equal where measurements may be compared (hardware, versions).
        code: `code_digest()`.
        data: `bench.data.digest()` of the case's data.
        rounds, warmup: of no account where the plan has no throughput.
    """
    timed = "throughput" in plan.measure
    # How often checkpoints are written changes nothing that is measured.
    training = plan.training and msgspec.structs.replace(
        plan.training, recipe=msgspec.structs.replace(plan.training.recipe, checkpoint_every=1)
    )
    basis = (
        private.case(plan.case), sorted(plan.measure), plan.verify, training, environment, code,
        resolve.source(plan.case.method), models.source(plan.case.model), data, threads, rounds if timed else 0,
        warmup if timed else 0,
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(basis)).hexdigest()[:16]


def of_all(
    plans: Sequence[Plan], *, environment: str, code: str, rounds: int, warmup: int, threads: int
) -> dict[Plan, str]:
    """The fingerprints of a run's plans; the data of each is read once.

    Raises: UsageError where data cannot be read.
    """
    digests = {path: datasets.digest(path) for path in {plan.case.data for plan in plans}}
    return {
        plan: of(
            plan, environment=environment, code=code, data=digests[plan.case.data], rounds=rounds, warmup=warmup,
            threads=threads,
        )
        for plan in plans
    }  # fmt: skip


def code_digest(roots: Iterable[Path] | None = None) -> str:
    """Digest of the sources of `bdia` and `bench`: names and contents of their Python files."""
    folders = [Path(source).parent for package in (bdia, bench) if (source := package.__file__)]
    digest = hashlib.sha256()
    for root in folders if roots is None else roots:
        for file in sorted(root.rglob("*.py")):
            content = file.read_bytes()
            digest.update(f"{root.name}/{file.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
