"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import pytest

# Deterministic kernels on CUDA need it before the first call of cuBLAS in the process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Threads that wait for work sleep: the children of two tests side by side have twice as many as there are cores, and
# where they spin instead, a step of milliseconds may take seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# Where GitHub runs the tests, what they check is not for it to show.
for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
    os.environ.pop(name, None)

# Under nohup SIGHUP is ignored, and in the background of a shell script SIGINT, which the programs under test respect:
# tests that send one would wait for nothing.
for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Skips the tests marked `gpu` where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from a second thread, and on a busy machine two threads wait for each other."""
    import torch

    torch.set_num_threads(1)
