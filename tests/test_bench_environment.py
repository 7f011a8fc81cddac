"""What is told of a machine, and what is not."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from bench import environment
from bench.environment import Environment, capture, key, variables
from bench.record import SCHEMA_VERSION


@pytest.fixture(scope="module")
def here() -> Environment:
    return capture("cpu")


def test_the_machine_and_the_software_are_described(here: Environment) -> None:
    """Versions, cores, memory and settings as the process has them."""
    assert here.python == sys.version.split()[0]
    assert here.torch == torch.__version__
    assert here.threads == torch.get_num_threads()
    assert here.logical_cores == os.cpu_count()
    assert here.memory_bytes > 2**28
    assert here.device == "cpu"
    assert here.gpu_name is None
    assert {"numpy", "msgspec", "psutil"} <= here.packages.keys()
    assert here.float32_matmul_precision == torch.get_float32_matmul_precision()


def test_it_comes_back_from_json_as_it_was(here: Environment) -> None:
    """It is stored with the run."""
    assert msgspec.json.decode(msgspec.json.encode(here), type=Environment) == here


def test_threads_are_the_childrens_where_they_are_given() -> None:
    """The parent does not compute, so its own number does not matter."""
    assert capture("cpu", threads=7).threads == 7


def test_it_names_neither_user_nor_host_nor_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of them is in the JSON, whatever variables hold them."""
    home = "/home/marguerite-example"
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("USER", "marguerite-example")
    monkeypatch.setenv("LOGNAME", "marguerite-example")
    monkeypatch.setenv("HOSTNAME", "example-host-17")
    monkeypatch.setenv("LD_PRELOAD", f"{home}/lib/libjemalloc.so.2:/opt/marguerite-example/libhook.so")
    monkeypatch.setenv("MALLOC_CONF", f"prof_prefix:{home},dirty_decay_ms:-1")
    monkeypatch.setenv("MALLOC_TRACE", "/tmp/marguerite-example")
    text = msgspec.json.encode(capture("cpu")).decode()
    assert "marguerite" not in text
    assert "example-host" not in text
    assert "libjemalloc.so.2:libhook.so" in text
    assert "dirty_decay_ms:-1" in text
    for name in (socket.gethostname(), getpass.getuser(), Path.home().name):
        assert not re.search(rf"\b{re.escape(name)}\b", text)


def test_variables_that_decide_memory_or_bits_are_kept_and_no_others() -> None:
    """Allocators and thread pools; the rest of the environment is nobody's business."""
    environ = {
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64",
        "MALLOC_MMAP_MAX_": "0",
        "OMP_NUM_THREADS": "2",
        "MKL_CBWR": "AVX2",
        "SECRET_TOKEN": "x",
        "PATH": "/bin",
        "MY_OMP_NUM_THREADS": "3",
    }
    assert variables(environ) == {
        name: environ[name]
        for name in (
            "MALLOC_MMAP_MAX_", "MKL_CBWR", "OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
        )
    }  # fmt: skip


def test_runs_compare_by_what_decides_their_bytes(here: Environment) -> None:
    """Another processor, host system or commit can be compared; other threads, torch, device or card cannot."""
    same = msgspec.structs.replace(here, cpu_model="another", os_release="0", commit="f00", packages={})
    assert key(same) == key(here)
    for change in ({"threads": 99}, {"torch": "9.9"}, {"device": "cuda"}, {"gpu_name": "another"}):
        assert key(msgspec.structs.replace(here, **change)) != key(here)
    assert key(here)["schema_version"] == SCHEMA_VERSION


def test_wheels_of_one_torch_are_one_on_a_cpu(here: Environment) -> None:
    """The build's local label matters on CUDA only."""
    wheels = [msgspec.structs.replace(here, torch=version) for version in ("2.13.0+cpu", "2.13.0+cu130", "2.13.0")]
    assert len({str(key(wheel)) for wheel in wheels}) == 1
    cards = [msgspec.structs.replace(wheel, device="cuda") for wheel in wheels]
    assert len({str(key(card)) for card in cards}) == 3


def test_the_commit_is_of_the_tools_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its changes; a repository that the tool merely lies in is not its own, nor is one without git."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ("git", "-C", str(tmp_path), *identity, *words), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert environment._checkout(tmp_path) == (None, None)
    git("init", "--quiet")
    assert environment._checkout(tmp_path) == (None, None)
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    commit = git("rev-parse", "HEAD")
    assert environment._checkout(tmp_path) == (commit, False)
    (tmp_path / "new").touch()
    assert environment._checkout(tmp_path) == (commit, True)
    inside = tmp_path / "site-packages"
    inside.mkdir()
    assert environment._checkout(inside) == (None, None)
    monkeypatch.setenv("PATH", "")
    assert environment._checkout(tmp_path) == (None, None)


def test_importing_it_imports_no_torch() -> None:
    """Torch comes when an environment is captured."""
    ask = "import sys, bench.environment; print('torch' in sys.modules, 'psutil' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]


@pytest.mark.gpu
def test_the_card_is_described() -> None:
    """Name, number and memory by CUDA, the driver by NVML."""
    there = capture("cuda")
    assert there.gpu_name == torch.cuda.get_device_name()
    assert there.gpu_count == torch.cuda.device_count()
    assert there.gpu_memory_bytes is not None
    assert there.gpu_driver is None or re.match(r"\d+\.", there.gpu_driver)
    assert key(there)["gpu_name"] == there.gpu_name
