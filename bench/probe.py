"""What a fresh process finds, so that this one needs no torch and holds no CUDA context: the environment, and what
models from outside the table are."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench import models, signals, supervise, worker
from bench.environment import Environment
from bench.errors import BenchError, UsageError, one_line
from bench.models import ModelSpec

Asked = Literal["auto", "cpu", "cuda"]

# `-P` and the path given first: whatever else is called `bench` where this was started is not meant.
_CODE: Final = "import sys; sys.path.insert(0, sys.argv[1]); from bench import probe; probe.answer(*sys.argv[2:])"
_INTRODUCE: Final = _CODE.replace("answer", "answer_introduced")


class ProbeError(BenchError):
    """torch does not import, or not in the state it should be in."""


class _Answer(msgspec.Struct, frozen=True):
    environment: Environment | None
    problem: str | None = None


class _Introduced(msgspec.Struct, frozen=True):
    models: list[ModelSpec]
    problem: str | None = None


def probe(device: Asked, *, threads: int) -> Environment:
    """The environment of a run on `device`, `auto` being CUDA where there is one, with that many threads.

    Raises: UsageError for CUDA where there is none; ProbeError where torch does not import.
    """
    code, output, errors = _ask(_CODE, device, str(threads))
    if code:
        raise ProbeError(f"torch cannot be used here: {_last(errors, code)}; `bdia-bench doctor` says more")
    answer = msgspec.json.decode(output.splitlines()[-1], type=_Answer)
    if answer.environment is None:
        raise UsageError(f"--device {device}: {answer.problem}; use --device cpu or auto")
    return answer.environment


def introduce(names: Sequence[str]) -> dict[str, ModelSpec]:
    """The specifications of models from outside the table, by name. Files of the user's are run, functions not called.

    Raises: UsageError for a model that is not there, or a file that does not run; ProbeError where the process dies.
    """
    if not names:
        return {}
    code, output, errors = _ask(_INTRODUCE, *names)
    if code:
        raise ProbeError(f"{', '.join(names)} cannot be looked at: {_last(errors, code)}; run it alone to see more")
    answer = msgspec.json.decode(output.splitlines()[-1], type=_Introduced)
    if answer.problem is not None:
        raise UsageError(answer.problem)
    return {spec.name: spec for spec in answer.models}


def _last(errors: str, code: int) -> str:
    """The last line of what a process complained of."""
    return (errors.strip().splitlines() or [f"exit code {code}"])[-1]


def _ask(program: str, *arguments: str) -> tuple[int, str, str]:
    """The exit code of the fresh process, and what it wrote on standard output and error. However this ends, the
    process and what it started are gone."""
    root = str(Path(__file__).resolve().parent.parent)
    theirs, line_of_life = os.pipe()
    try:
        with (
            signals.deferred(),
            subprocess.Popen(
                [sys.executable, "-P", "-c", program, root, *arguments], stdin=theirs,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
            ) as child,
        ):  # fmt: skip
            try:
                with signals.lifted():
                    output, errors = child.communicate()
            finally:
                supervise.kill(child)
    finally:
        os.close(theirs)
        os.close(line_of_life)
    return child.returncode, output, errors


def answer(device: Asked, threads: str) -> None:
    """What the fresh process does: prints the environment, or why there is none, as the last line."""
    worker.live_with_parent()
    from bench import environment

    missing = None if device == "cpu" else cuda_problem()
    if device == "cuda" and missing is not None:
        found = _Answer(None, missing)
    else:
        actual: Literal["cpu", "cuda"] = "cpu" if missing is not None or device == "cpu" else "cuda"
        found = _Answer(environment.capture(actual, threads=int(threads)))
    print(msgspec.json.encode(found).decode())


def answer_introduced(*names: str) -> None:
    """What the fresh process does for `introduce`: prints the specifications, or what is wrong, as the last line."""
    worker.live_with_parent()
    try:
        found = _Introduced([importlib.import_module(models.get(name).builder).introduce(name) for name in names])
    except UsageError as error:
        found = _Introduced([], one_line(error))
    print(msgspec.json.encode(found).decode())


def cuda_problem() -> str | None:
    """Why there is no CUDA device to measure on; None where there is one."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return None
