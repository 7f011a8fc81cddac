"""The environment as a fresh process finds it, so that this one needs no torch and holds no CUDA context."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

import msgspec

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
    root = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-P", "-c", _CODE, root, device, str(threads)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ProbeError(f"torch cannot be used here: {said[-1]}; `bdia-bench doctor` says more")
    answer = msgspec.json.decode(done.stdout.splitlines()[-1], type=_Answer)
    if answer.environment is None:
        raise UsageError(f"--device {device}: {answer.problem}; use --device cpu or auto")
    return answer.environment


def answer(device: Asked, threads: str) -> None:
    """What the fresh process does: prints the environment, or why there is none, as the last line."""
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
