"""What is alive at a peak, line by line."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from test_bench_breakdown import LEAK, Leaking, gpt, leaky

import bdia.models.gpt
from bdia.methods import names
from bench import parts, stacks
from bench.case import Case
from bench.meters.memory import measure_memory
from bench.meters.sites import measure_sites

GPT = str(Path(inspect.getfile(bdia.models.gpt)))
METHOD_OPTIONS: dict[str, Any] = {"seed": 0, "gamma": None, "verify": False}


def line_of(function: Any, text: str) -> str:
    """`FILE:LINE` of the line of a function that holds a text."""
    lines, first = inspect.getsourcelines(function)
    (at,) = (number for number, line in enumerate(lines) if text in line)
    return f"{inspect.getfile(function)}:{first + at}"


@pytest.mark.parametrize("method", names())
def test_lines_change_no_byte(method: str) -> None:
    """A step whose lines are told needs what it needs without, and its sites add up to it and to each part."""
    torch.set_num_threads(1)
    found = measure_sites(gpt(), method, **METHOD_OPTIONS)
    workload = gpt()
    with bdia.attach(workload.model, method, seed=0, blocks=workload.blocks) as handle:
        reading = measure_memory(workload, handle, torch.device("cpu"))
    for figure, sites, held in (
        (reading.activation_bytes, found.activation, reading.activation_parts),
        (reading.peak_bytes, found.peak, reading.peak_parts),
    ):
        assert sum(site.bytes for site in sites) == figure
        sums: dict[str, int] = {}
        for site in sites:
            sums[site.part] = sums.get(site.part, 0) + site.bytes
        assert sums == parts.totals(held)


@pytest.mark.parametrize("method", ["standard", "checkpoint", "bdia"])
def test_a_line_of_the_model_is_named(method: str) -> None:
    """The MLP's hidden activations are of the line that makes them: stored in each block, or rerun in the last."""
    found = measure_sites(gpt(), method, **METHOD_OPTIONS)
    line = line_of(bdia.models.gpt.MLP.forward, "gelu")
    (site,) = (site for site in found.activation if site.line == line and site.part == "block")
    assert site.blocks == (tuple(range(5)) if method == "standard" else (4,))


def test_a_leak_is_named_with_its_line() -> None:
    """What a block keeps for good is alive at the peak, from the line that made it."""
    line = line_of(Leaking.forward, "torch.empty")
    found = measure_sites(leaky(1, 3), "standard", **METHOD_OPTIONS)
    (site,) = (site for site in found.activation if site.line == line)
    assert (site.part, site.blocks, site.bytes, site.count) == ("block", (1, 3), 2 * LEAK, 2)


CASE = Case(
    method="bdia", model="gpt", depth=3, width=16, heads=2, seq=8, batch=2, bits=9, vocab=256, dtype="fp32",
    train_steps=0, device="cpu", seed=0, data=None,
)  # fmt: skip


def test_a_case_is_run_again_in_a_process_of_its_own() -> None:
    """Its sites come back as they were, largest first."""
    found = stacks.trace(CASE, threads=1)
    assert found.activation_bytes == sum(site.bytes for site in found.activation)
    assert [site.bytes for site in found.peak] == sorted((site.bytes for site in found.peak), reverse=True)
    assert any(site.line is not None and site.line.startswith(GPT) for site in found.activation)


def test_a_case_that_cannot_be_built_is_one_line() -> None:
    """What is wrong with it, and exit code 3."""
    with pytest.raises(stacks.StacksError, match="heads") as caught:
        stacks.trace(Case(**{name: getattr(CASE, name) for name in CASE.__struct_fields__} | {"heads": 3}), threads=1)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
