"""The environment as a fresh process finds it, so that this one needs no torch and holds no CUDA context."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench import supervise, worker
from bench.environment import Environment
from bench.errors import BenchError, UsageError

Asked = Literal["auto", "cpu", "cuda"]

# `-P` and the path given first: whatever else is called `bench` where this was started is not meant.
_CODE: Final = "import sys; sys.path.insert(0, sys.argv[1]); from bench import probe; probe.answer(*sys.argv[2:])"


class ProbeError(BenchError):
    """torch does not import, or not in the state it should be in."""


class _Answer(msgspec.Struct, frozen=True):
    environment: Environment | None
    problem: str | None = None


def probe(device: Asked, *, threads: int) -> Environment:
    """The environment of a run on `device`, `auto` being CUDA where there is one, with that many threads.

    Raises: UsageError for CUDA where there is none; ProbeError where torch does not import.
    """
    code, output, errors = _ask(device, str(threads))
    if code:
        said = errors.strip().splitlines() or [f"exit code {code}"]
        raise ProbeError(f"torch cannot be used here: {said[-1]}; `bdia-bench doctor` says more")
    answer = msgspec.json.decode(output.splitlines()[-1], type=_Answer)
    if answer.environment is None:
        raise UsageError(f"--device {device}: {answer.problem}; use --device cpu or auto")
    return answer.environment


def _ask(*arguments: str) -> tuple[int, str, str]:
    """The exit code of the fresh process, and what it wrote on standard output and error. However this ends, the
    process and what it started are gone."""
    root = str(Path(__file__).resolve().parent.parent)
    theirs, line_of_life = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, root, *arguments], stdin=theirs,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as child:  # fmt: skip
            try:
                output, errors = child.communicate()
            finally:
                supervise.kill(child)
    finally:
        os.close(theirs)
        os.close(line_of_life)
    return child.returncode, output, errors


def answer(device: Asked, threads: str) -> None:
    """What the fresh process does: prints the environment, or why there is none, as the last line."""
    threading.Thread(target=worker.exit_with_parent, daemon=True).start()
    from bench import environment

    missing = None if device == "cpu" else cuda_problem()
    if device == "cuda" and missing is not None:
        found = _Answer(None, missing)
    else:
        actual: Literal["cpu", "cuda"] = "cpu" if missing is not None or device == "cpu" else "cuda"
        found = _Answer(environment.capture(actual, threads=int(threads)))
    print(msgspec.json.encode(found).decode())


def cuda_problem() -> str | None:
    """Why there is no CUDA device to measure on; None where there is one."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None
