"""Times the commands that read runs, on runs of many records: `.venv/bin/python scripts/scale.py [RECORDS] [DIR]`.

A line a command: CPU seconds and wall seconds of the whole process, and its peak of resident memory. Exits with 1
where one of the commands that have a bar is beyond it: 5 s of CPU, 1 GiB, at 20,000 records.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import large_run  # noqa: E402

RECORDS = 20_000
SECONDS, BYTES = 5.0, 2**30
FORMATS = ("table", "markdown", "csv", "json", "latex", "html")
PROGRAM = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import cli; cli.main()"


def main(count: int, directory: Path) -> int:
    """Makes the runs where they are missing, and times each command."""
    base, leaking = directory / f"base-{count}", directory / f"leaking-{count}"
    for run, leak in ((base, None), (leaking, "bdia")):
        if not run.exists():
            large_run.write(run, large_run.records(count, leaking=leak))
    baseline = directory / f"baseline-{count}.json"
    commands = [["report", base, "--format", name] for name in FORMATS]
    commands += [
        ["report", base, "--format", "markdown", "--caption"],
        ["report", base, "--figures", directory / "figures"],
        ["compare", base, base],
        ["compare", base, leaking],
        ["check", base, "--baseline", baseline, "--update", "--allow-incomplete"],
        ["check", base, "--baseline", baseline],
        ["check", leaking, "--baseline", baseline],
    ]
    within = True
    print(f"{count} records\n  CPU s  wall s  peak MiB  exit")
    for command in commands:
        words = [str(word) for word in command]
        cpu, wall, peak, code = measured(words)
        shown = " ".join(word.replace(f"{directory}/", "") for word in words)
        print(f"{cpu:7.2f} {wall:7.2f} {peak / 2**20:9.0f} {code:5d}  {shown}", flush=True)
        within &= cpu <= SECONDS and peak <= BYTES
    return 0 if within else 1


def measured(words: list[str]) -> tuple[float, float, int, int]:
    """CPU seconds, wall seconds, peak bytes of resident memory and exit code of one command in a fresh process."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return used.ru_utime + used.ru_stime, wall, peak, child.returncode


if __name__ == "__main__":
    given = sys.argv[1:]
    count = int(given[0]) if given else RECORDS
    if len(given) > 1:
        sys.exit(main(count, Path(given[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(count, Path(temporary)))
