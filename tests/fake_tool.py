"""A stand-in for the tool's own cli.py, for tests of `bench.against`: it measures nothing and writes the run that lies
beside it as a template. How it behaves is in the file `behaviour`, and its bytes in the file `bytes`: of the folder it
is started in or, in the tool's own repository, of the code's. Like that of today it knows of --no-figures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CODE = Path(__file__).parent
HERE = CODE if (CODE / "own").exists() else Path.cwd()


def main() -> None:
    words = sys.argv[1:]
    out = Path(words[words.index("--out") + 1])
    print("[1/1] a row of progress", file=sys.stderr, flush=True)
    with Path(os.environ["FAKE_TOOL_LOG"]).open("a") as log:
        log.write(f"{CODE} {Path.cwd()} {' '.join(words[:-2])}\n")
    behaviour = (HERE / "behaviour").read_text().strip() if (HERE / "behaviour").exists() else "ok"
    if behaviour in ("wait", "stubborn"):
        hang(behaviour == "stubborn")
    if behaviour == "old":
        print("bdia-bench: unknown option --gamma: see `bdia-bench run --help`", file=sys.stderr)
        sys.exit(2)
    if behaviour == "crash":
        raise RuntimeError("it broke")
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    out.mkdir(parents=True)
    record = (CODE / "record.template").read_text().replace("12345678", (HERE / "bytes").read_text().strip())
    if behaviour == "lacking":
        record = record.replace('"gradient_error":0.0,', "")
    if behaviour == "newer schema":
        record = record.replace('"schema_version":1', '"schema_version":99')
    (out / "results.jsonl").write_text(record + "\n")
    (out / "run.json").write_text((CODE / "run.template").read_text())
    sys.exit(3 if behaviour == "failed case" else 0)


def hang(stubborn: bool) -> None:
    """Waits to be ended, with a child in a session of its own whose line of life this process holds."""
    waiting = "import os, sys\nwhile os.read(0, 1): pass"
    child = subprocess.Popen([sys.executable, "-c", waiting], stdin=subprocess.PIPE, start_new_session=True)
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids = Path(os.environ["FAKE_TOOL_LOG"]).with_name("pids")
    pids.with_suffix(".part").write_text(f"{os.getpid()} {child.pid}")
    pids.with_suffix(".part").rename(pids)
    time.sleep(600)
