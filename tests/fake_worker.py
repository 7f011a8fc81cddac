"""A child process that measures nothing, for tests of the runner: how it behaves for which method is in the
environment variable FAKE_WORKER, such as `{"time bdia": "crash", "measure standard depth=4": "kill"}`. What it was
asked is appended to the file that FAKE_WORKER_LOG names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    job = json.loads(sys.stdin.readline())
    methods = [member["case"]["method"] for member in job["members"]]
    with Path(os.environ["FAKE_WORKER_LOG"]).open("a") as log:
        log.write(f"{job['kind']} {' '.join(methods)}\n")
    Path(os.environ["FAKE_WORKER_LOG"]).with_suffix(".job").write_text(json.dumps(job))
    behaviours = json.loads(os.environ.get("FAKE_WORKER", "{}"))
    for number, method in enumerate(methods):
        tell(job, type="started", member=number)
        name = f"{job['kind']} {method}"
        at_depth = f"{name} depth={job['members'][number]['case']['depth']}"
        if not act(job, number, behaviours.get(at_depth, behaviours.get(name, "ok"))):
            return


def act(job: dict[str, Any], member: int, behaviour: str) -> bool:
    """Behaves so for one member; whether to go on with the next."""
    times = {"step_seconds": [0.5, 0.25, 0.5], "tokens_per_second": 32.0, "samples_per_second": 4.0}
    fields = times if job["kind"] == "time" else {"activation_bytes": 1000, "loss": 5.5}
    if behaviour == "ok":
        tell(job, type="finished", member=member, fields=fields)
    elif behaviour in ("oom", "unsupported", "error"):
        tell(job, type="finished", member=member, fields={"loss": 2.0}, status=behaviour, message=f"said\n {behaviour}")
        return job["kind"] != "time"
    elif behaviour == "chatty":
        print("a model that prints")
        print("and warns", file=sys.stderr)
        tell(job, type="finished", member=member, fields=fields)
    elif behaviour == "crash":
        raise SystemExit("Traceback of some kind\nRuntimeError: it broke\n\n")
    elif behaviour == "threadless":
        sys.exit("libgomp: Thread creation failed: Resource temporarily unavailable")
    elif behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "kill half-way":
        tell(job, type="measured", member=member, fields={"activation_bytes": 7}, doing="measuring gradients")
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "with peak":
        tell(job, type="finished", member=member, fields={"activation_bytes": 7})
    elif behaviour == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif behaviour == "garbage":
        os.write(job["events"], b"\xff\xfe not an event\n")
        return False
    elif behaviour == "misnamed":
        tell(job, type="finished", member=member, fields={"pekes": 1})
    elif behaviour == "mistyped":
        tell(job, type="finished", member=member, fields={"activation_bytes": "many"})
    elif behaviour == "silent":
        return False
    elif behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(job["events"],))
        time.sleep(600)
    elif behaviour == "orphan":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(job["events"],))
        Path(os.environ["FAKE_WORKER_LOG"]).with_name("orphan").write_text(str(child.pid))
        tell(job, type="finished", member=member, fields=fields)
    else:
        raise SystemExit(f"unknown behaviour {behaviour}")
    return True


def tell(job: dict[str, Any], **event: Any) -> None:
    os.write(job["events"], json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main()
