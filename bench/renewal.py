"""Which runs may become a baseline: what a run lacks would be gated no longer, and what failed would pass from then on,
so neither happens in passing. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench import baseline
from bench.comparison import by_case
from bench.errors import UsageError
from bench.record import UNMEASURED
from bench.stored_run import StoredRun

OPTION: Final = "--allow-incomplete"


def refuse_incomplete(name: str, run: StoredRun, path: Path) -> None:
    """Refuses the run, called `name`, as the baseline in `path`, where cases of it are still to be measured, or fail
    that the baseline does not have as failing already.

    Raises: UsageError; BaselineError where the file there is no baseline.
    """
    _refuse_absent(name, run)
    _refuse_failed(name, run, path)


def _refuse_absent(name: str, run: StoredRun) -> None:
    if run.absent:
        raise UsageError(
            f"--update: {name} lacks {len(run.absent)} of the cases that it is of, such as {run.absent[0]}: go on with "
            f"`{run.going_on}`, or renew the baseline without them by {OPTION}"
        )


def _refuse_failed(name: str, run: StoredRun, path: Path) -> None:
    before = baseline.read(path).of(run.environment) if path.exists() else None
    known = {one.case() for one in before.cases if one.status in UNMEASURED} if before is not None else set()
    failed = [case for case, one in by_case(run.records).items() if one.status in UNMEASURED and case not in known]
    if failed:
        ended = next(one.status for one in run.records if one.case() == failed[0])
        raise UsageError(
            f"--update: {len(failed)} of the cases of {name} failed, such as {failed[0].text()} ({ended}): measure "
            f"them again with `{run.going_on.removesuffix('--resume')}--rerun failed`, or have the baseline hold them "
            f"as failing by {OPTION}"
        )
