"""What machine and what software a measurement was taken with. Imports torch when asked, and no sooner.

Nothing here names a user, a host or a home directory, so it can be published with the figures.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench import peers
from bench.record import SCHEMA_VERSION

EnvironmentKey = Mapping[str, str | int | None]
"""What two environments must share for their bytes to be compared."""
PACKAGES = (
    "numpy", "pandas", "matplotlib", "msgspec", "nvidia-ml-py", "psutil", "scikit-learn",
    "transformers", "timm", "peft", *sorted(peers.packages()),
)  # fmt: skip
VARIABLES = re.compile(
    r"(PYTORCH_(CUDA_|HIP_)?ALLOC_CONF|PYTORCH_NO_CUDA_MEMORY_CACHING|MALLOC_\w+|GLIBC_TUNABLES|LD_PRELOAD"
    r"|THP_MEM_ALLOC_ENABLE|(OMP|GOMP|KMP|MKL|DNNL|ONEDNN|OPENBLAS)_\w+|ATEN_CPU_CAPABILITY"
    r"|CUBLAS(LT)?_WORKSPACE_\w+|NVIDIA_TF32_OVERRIDE|CUDA_LAUNCH_BLOCKING|CUDA_VISIBLE_DEVICES)"
)
"""Environment variables that change memory, speed or bits."""

_PATH = re.compile(r"[^\s:,;='\"]*/[^\s:,;='\"]*")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, the software and its settings. What is not known, or is not there, is None."""

    python: str
    os: str
    os_release: str
    machine: str
    cpu_model: str | None
    cpu_capability: str
    """The instruction set that torch chose, such as `AVX2`."""
    physical_cores: int | None
    logical_cores: int | None
    memory_bytes: int
    threads: int
    """torch's intra-op threads."""
    torch: str
    cuda: str | None
    """CUDA version torch was built for."""
    cudnn: str | None
    device: Literal["cpu", "cuda"]
    gpu_name: str | None = None
    gpu_count: int | None = None
    gpu_memory_bytes: int | None = None
    gpu_driver: str | None = None
    packages: dict[str, str]
    bdia_bench: str
    commit: str | None
    """Of the tool's own source, where it runs from a checkout."""
    dirty: bool | None
    """Whether that checkout has changes that are not committed."""
    variables: dict[str, str]
    """Environment variables that change memory, speed or bits; of a path, only the name of a library."""
    float32_matmul_precision: str
    deterministic_algorithms: bool
    mkldnn: bool
    """Whether torch may use oneDNN."""
    cudnn_benchmark: bool


def capture(device: Literal["cpu", "cuda"], *, threads: int | None = None) -> Environment:
    """The environment of this process, for measurements on `device`.

    With `cuda` it initialises CUDA in this process: call it in a child where the parent is to hold no context.

    Args:
        threads: the thread count that children will be given, where that is not this process's own.
    """
    import psutil
    import torch

    commit, dirty = _checkout(Path(__file__).resolve().parent.parent)
    backends: Any = torch.backends
    cudnn = backends.cudnn.version()
    environment = Environment(
        python=platform.python_version(),
        os=platform.system(),
        os_release=platform.release(),
        machine=platform.machine(),
        cpu_model=_cpu_model(),
        cpu_capability=backends.cpu.get_cpu_capability(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        threads=torch.get_num_threads() if threads is None else threads,
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        cudnn=None if cudnn is None else str(cudnn),
        device=device,
        packages={name: version for name in PACKAGES if (version := _version(name)) is not None},
        bdia_bench=_version("bdia-bench") or "unknown",
        commit=commit,
        dirty=dirty,
        variables=variables(os.environ),
        float32_matmul_precision=torch.get_float32_matmul_precision(),
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        mkldnn=backends.mkldnn.is_available() and bool(backends.mkldnn.enabled),
        cudnn_benchmark=backends.cudnn.benchmark,
    )
    return msgspec.structs.replace(environment, **_gpu()) if device == "cuda" else environment


def key(environment: Environment) -> dict[str, str | int | None]:
    """What two runs must share for their bytes to be compared: never the host, nor its CPU.

    On a CPU, wheels of one torch version allocate alike, so `2.13.0+cpu` and `2.13.0+cu130` are one; on CUDA
    the toolkit they were built for decides the size of library workspaces.
    """
    version = environment.torch if environment.device == "cuda" else environment.torch.partition("+")[0]
    return {
        "schema_version": SCHEMA_VERSION,
        "device": environment.device,
        "gpu_name": environment.gpu_name,
        "torch": version,
        "threads": environment.threads,
    }


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of `environ` that change memory, speed or bits, by name. Paths are cut out, as they tell whose machine
    it is; of a library that is loaded its file's name stays."""
    return {name: _PATH.sub(_public, environ[name]) for name in sorted(environ) if VARIABLES.fullmatch(name)}


def _public(path: re.Match[str]) -> str:
    name = path[0].rpartition("/")[2]
    return name if ".so" in name or name.endswith(".dylib") else "<path>"


def _gpu() -> dict[str, str | int | None]:
    import torch

    from bench.meters import nvml

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    card = nvml.card(str(properties.uuid))
    return {
        "gpu_name": properties.name,
        "gpu_count": torch.cuda.device_count(),
        "gpu_memory_bytes": properties.total_memory,
        "gpu_driver": None if card is None else card.driver,
    }


def _cpu_model() -> str | None:
    """The processor's name as its maker spells it."""
    if sys.platform == "linux":
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return found[1].strip() if found else None
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    return platform.processor() or None


def _checkout(root: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout at `root`, and whether it has changes. A repository further up is not the tool's own."""
    if not (root / ".git").exists():
        return None, None
    commit = _output("git", "-C", str(root), "rev-parse", "--verify", "HEAD")
    changes = _output("git", "-C", str(root), "status", "--porcelain")
    return (None, None) if not commit or changes is None else (commit, bool(changes))


def _output(*command: str) -> str | None:
    """What a command prints; None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def differences(old: EnvironmentKey, new: EnvironmentKey, where: tuple[str, str] = ("there", "here")) -> list[str]:
    """Where two environments differ, one phrase a name; empty where they can be compared."""
    names = sorted(old.keys() | new.keys())
    return [
        f"{name} {old.get(name)} {where[0]}, {new.get(name)} {where[1]}"
        for name in names
        if old.get(name) != new.get(name)
    ]
