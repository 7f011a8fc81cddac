"""A child process that measures nothing, for tests of the frontier: memory follows a line in the batch, whose two
numbers for each method are in the environment variable FAKE_MEMORY, as in `{"standard": [100, 40]}`. A method may say
more: `oom_above` and `error_above`, batches beyond which it fails, and `trained`, bytes that training takes on top.
What it was asked is appended to the file that FAKE_LOG names, and beside it what it was held to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    job = json.loads(sys.stdin.readline())
    cases = [member["case"] for member in job["members"]]
    with Path(os.environ["FAKE_LOG"]).open("a") as log:
        log.write(f"{job['kind']} {' '.join(name(case) for case in cases)}\n")
    with Path(os.environ["FAKE_LOG"]).with_suffix(".limits").open("a") as limits:
        limits.write(f"{job['kind']} {job['memory_limit']} {job['card_limit']} {job['step_limit']}\n")
    memory = json.loads(os.environ["FAKE_MEMORY"])
    for number, case in enumerate(cases):
        tell(job, {"type": "started", "member": number})
        said = answer(job, memory[case["method"]], case)
        tell(job, {"type": "finished", "member": number, **said})
        if said.get("status") and job["kind"] == "time":
            return


def name(case: dict[str, Any]) -> str:
    parts = case["micro_batches"] or 1
    return f"{case['method']}{'' if parts == 1 else f'/{parts}'}@{case['batch']}"


def answer(job: dict[str, Any], known: list[Any], case: dict[str, Any]) -> dict[str, Any]:
    base, slope, *more = known
    special = more[0] if more else {}
    batch, peak = case["batch"], base + slope * case["batch"] // (case["micro_batches"] or 1)
    if batch > special.get("error_above", batch):
        return {"fields": {}, "status": "error", "message": "RuntimeError: no such position"}
    if batch > special.get("oom_above", batch):
        return {"fields": {}, "status": "oom", "message": "out of memory"}
    if job["kind"] == "time":
        if special.get("untimed"):
            return {"fields": {}, "status": "oom", "message": "out of memory"}
        step = batch * special.get("seconds", 1.0)
        rate = {"samples_per_second": batch / step, "tokens_per_second": 64 * batch / step}
        return {"fields": {"step_seconds": [step] * job["rounds"], "rounds_id": f"{os.getpid()}", **rate}}
    if job["kind"] == "confirm":
        if peak + special.get("trained", 0) > job["step_limit"]:
            return {"fields": {}, "status": "oom", "message": "20 training steps take more"}
        return {"fields": {"confirmed_steps": 20}}
    parts = {"parameters": base, "block": peak - base}
    fields = {"peak_bytes": peak, "static_bytes": base, "activation_bytes": peak - base, "peak_parts": parts}
    return {"fields": fields}


def tell(job: dict[str, Any], event: dict[str, Any]) -> None:
    os.write(job["events"], json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main()
