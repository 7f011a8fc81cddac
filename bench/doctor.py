"""What this machine is, and what can be measured on it.

Each finding is a fact, whether all is well with it and, where not, what would help. The memory meter is not
taken on trust: it measures a case whose peak is known on paper.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.environment import Environment, capture
from bench.errors import one_line
from bench.meters import MeterError

Health = Literal["ok", "missing", "broken"]

SIDE = 256
"""Side of the square matrices of the case on paper."""
PRODUCTS = 4


@dataclass(frozen=True)
class Finding:
    """One line of the examination. `size_bytes` follows `text` where it says how large something is."""

    name: str
    text: str
    health: Health = "ok"
    """`missing`: some things cannot be done without it. `broken`: nothing can."""
    hint: str | None = None
    size_bytes: int | None = None


def examine(threads: int) -> Iterator[Finding]:
    """The findings, one at a time, as some take a moment. Without torch there is not much to say.

    Args:
        threads: how many CPU threads measurements will use.
    """
    yield Finding("python", f"{sys.version.split()[0]} on {sys.platform}")
    try:
        importlib.import_module("torch")
    except Exception as error:  # a broken installation raises whatever it likes
        said = one_line(f"{type(error).__name__}: {error}")
        yield Finding("torch", said, "broken", "install it: pip install 'torch>=2.11'")
        return
    environment = capture("cpu", threads=threads)
    yield Finding("torch", environment.torch)
    yield from _machine(environment)
    yield from _cuda()
    yield _meter("cpu")
    yield _checkout(environment)


def all_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing is broken."""
    return all(finding.health != "broken" for finding in findings)


def paper_case(device: str) -> tuple[int, int]:
    """Bytes at the peak of a chain of matrix products: as measured, and on paper.

    Each product of S x S numbers of 4 bytes is released once the next one is there. So the peak is two of them,
    2·S²·4 bytes, and what is left in the end is one.

    Raises: MeterError where the meter cannot tell.
    """
    import torch

    from bench.meters.level import level

    weight = torch.ones(SIDE, SIDE, device=device)
    torch.mm(weight, weight)  # library workspaces stay after the first product
    with level(torch.device(device)) as meter:
        meter.mark("before")
        product = weight
        for _ in range(PRODUCTS):
            product = torch.mm(product, weight)
        meter.mark("after")
    return meter.rise("before", "after"), 2 * SIDE * SIDE * 4


def _machine(environment: Environment) -> Iterator[Finding]:
    cores = f"{environment.physical_cores or environment.logical_cores or 'unknown'} cores"
    yield Finding("processor", f"{environment.cpu_model or environment.machine}, {cores}")
    yield Finding("memory", "", size_bytes=environment.memory_bytes)
    yield Finding("threads", f"{environment.threads} in each measuring process, whatever the machine has")
    for name, value in environment.variables.items():
        yield Finding("variable", f"{name}={value}", hint="it changes memory or speed: unset it to compare runs")


def _cuda() -> Iterator[Finding]:
    import torch

    from bench.meters import nvml
    from bench.probe import cuda_problem

    problem = cuda_problem()
    if problem is not None:
        built = torch.version.cuda is not None
        cure = "check the driver with nvidia-smi" if built else "a card needs a build of torch with CUDA"
        yield Finding("cuda", problem, "missing", f"measurements run on the CPU; {cure}")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        which = "the one used" if index == torch.cuda.current_device() else "not used: set CUDA_VISIBLE_DEVICES"
        yield Finding("cuda", f"{properties.name}, {which}", size_bytes=properties.total_memory)
    card = nvml.card(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
    if card is None:
        yield Finding("nvml", "no answer", "missing", "nvml_bytes will be null; the driver's libnvidia-ml is needed")
    else:
        yield Finding("nvml", f"driver {card.driver}")
    yield _meter("cuda")


def _meter(device: str) -> Finding:
    name = f"{device} memory meter"
    try:
        measured, on_paper = paper_case(device)
    except MeterError as error:
        return Finding(name, str(error), "broken", "please report it with this output")
    if measured != on_paper:
        text = f"{measured} bytes measured, {on_paper} on paper"
        return Finding(name, text, "broken", "its figures cannot be believed here; please report it with this output")
    return Finding(name, f"{measured} bytes for a chain of matrix products, as on paper")


def _checkout(environment: Environment) -> Finding:
    version = f"bdia-bench {environment.bdia_bench}"
    if environment.commit is None:
        return Finding("version", f"{version}, not run from a git checkout")
    changes = ", with changes that are not committed" if environment.dirty else ""
    return Finding("version", f"{version} at commit {environment.commit[:12]}{changes}")
