"""A child process that trains nothing, for tests of training runs: how it behaves for which arm is in the environment
variable FAKE_TRAINER, such as `{"probe bdia": "oom", "train bdia": "kill"}`. What it was asked is appended to the file
that FAKE_TRAINER_LOG names."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    job = json.loads(sys.stdin.readline())
    (member,) = job["members"]
    case = member["case"]
    name = f"{job['kind']} {case['arm']}"
    with Path(os.environ["FAKE_TRAINER_LOG"]).open("a") as log:
        log.write(f"{name} {case['seed']}\n")
    tell(job, type="started", member=0)
    behaviour = json.loads(os.environ.get("FAKE_TRAINER", "{}")).get(name, "ok")
    if behaviour == "oom":
        tell(job, type="finished", member=0, fields={}, status="oom", message="no room")
        return
    if job["kind"] == "probe":
        tell(job, type="finished", member=0, fields={"activation_bytes": 1000, "peak_bytes": 2000})
        return
    checkpoint = Path(job["directory"]) / "checkpoints" / f"{case['arm']}-{case['seed']}" / "step-5"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint.parent / "model.safetensors").write_bytes(b"")
    for step in (0, 5):
        point = {"arm": case["arm"], "seed": case["seed"], "step": step, "name": "validation_loss", "value": 1.5}
        tell(job, type="stepped", member=0, step=step, points=[point])
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "wait":
        time.sleep(600)
    fields = {"trained_steps": 10, "validation_loss": 1.25, "train_seconds": 2.0, "weights_digest": "d"}
    tell(job, type="finished", member=0, fields=fields)


def tell(job: dict[str, Any], **event: Any) -> None:
    os.write(job["events"], json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main()
