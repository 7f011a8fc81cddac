"""What is alive at a peak, line by line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic_records as made
import torch
from test_bench_breakdown import LEAK, Leaking, gpt, leaky
from torch._dynamo.backends.registry import lookup_backend
from torch._dynamo.utils import counters

import bdia.models.gpt
from bdia.methods import names
from bench import explain, parts, stacks
from bench.case import Case
from bench.errors import UsageError
from bench.meters.memory import measure_memory
from bench.meters.sites import measure_sites
from bench.record import Record
from reports import sites

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
    for figure, alive, held in (
        (reading.activation_bytes, found.activation, reading.activation_parts),
        (reading.peak_bytes, found.peak, reading.peak_parts),
    ):
        assert sum(site.bytes for site in alive) == figure
        sums: dict[str, int] = {}
        for site in alive:
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


def changed(depth: int, *, activation: int, peak: int) -> list[Record]:
    """A case before and after its figures grew."""
    case = made.case("bdia", depth=depth)
    whole: dict[str, Any] = {"activation_bytes": 1000, "peak_bytes": 9000}
    grown = {"activation_bytes": 1000 + activation, "peak_bytes": 9000 + peak}
    return [made.record(case, **whole), made.record(case, **grown)]


def test_what_moved_most_is_run_again() -> None:
    """The case whose activations grew most, its peak where no activations moved, and where nothing did, one of those
    that were picked, if any were."""
    before, after = zip(changed(2, activation=5, peak=0), changed(4, activation=7, peak=90), strict=True)
    chosen, metric = explain.case_to_trace(explain.explain(before, after), after, explain.METRICS, picked=False)
    assert (chosen, metric) == (after[1], "activation_bytes")
    before, after = zip(changed(2, activation=0, peak=3), changed(4, activation=0, peak=0), strict=True)
    found = explain.explain(before, after)
    assert explain.case_to_trace(found, after, explain.METRICS, picked=False) == (after[0], "peak_bytes")
    found = explain.explain(before, before)
    assert explain.case_to_trace(found, before, ("peak_bytes",), picked=True) == (before[1], "peak_bytes")
    assert explain.case_to_trace(found, before, ("peak_bytes",), picked=False) is None
    with pytest.raises(UsageError, match="--stacks"):
        explain.case_to_trace(found, [made.record(made.case(), status="oom")], explain.METRICS, picked=False)


def test_the_table_is_short_and_adds_up() -> None:
    """The largest lines, one row for all the others, and a word where HEAD was measured with other bytes."""
    found = tuple(stacks.Site("block", f"{GPT}:{line}", (0, 1, 2, 5), 10, 4) for line in range(30))
    told = stacks.Stacks(activation_bytes=300, activation=found, peak_bytes=0, peak=())
    sheet = sites.sheet(CASE, told, "activation_bytes")
    assert len(sheet.lines) == sites.SHOWN + 1
    texts = [cell.text for cell in sheet.lines[0].cells]
    assert texts == ["block", "bdia/models/gpt.py:0", "0-2, 5", "10", "3.3%", "4"]
    assert [cell.text for cell in sheet.lines[-1].cells] == ["6 more", "", "", "60", "20.0%", "24"]
    assert len(sheet.legend) == 1
    bare = stacks.Stacks(
        activation_bytes=9, activation=(stacks.Site("gradients", None, (), 9, 1),), peak_bytes=0, peak=()
    )
    _, allocated, blocks = sites.sheet(CASE, bare, "activation_bytes").legend
    assert allocated.startswith("allocated at —: there before the step, or made by no function of torch's")
    assert blocks == "blocks —: it lies in none"
    record = made.record(CASE, activation_bytes=300)
    assert list(sites.lines(record, told, "activation_bytes")) == []
    (said,) = sites.lines(made.record(CASE, activation_bytes=290), told, "activation_bytes")
    assert "300 bytes and not 290" in said


@pytest.fixture
def _compiles_afresh() -> Iterator[None]:
    """Nothing has been compiled before the test, and nothing is kept of what it compiles."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.usefixtures("_compiles_afresh")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("method", ["standard", "bdia"])
def test_compiled_blocks_have_the_lines_of_uncompiled_ones(method: str) -> None:
    """They run as they are written while lines are noted: the same sites, and marked."""
    torch.set_num_threads(1)
    plain = measure_sites(gpt(), method, **METHOD_OPTIONS)
    assert not plain.uncompiled
    workload = gpt()
    runs = 0

    def backend(graph: Any, inputs: Any) -> Any:
        compiled = lookup_backend("aot_eager")(graph, inputs)

        def run(*args: Any) -> Any:
            nonlocal runs
            runs += 1
            return compiled(*args)

        return run

    for block in workload.model.transformer.h:
        block.compile(backend=backend)
    told = measure_sites(workload, method, **METHOD_OPTIONS)
    assert told.uncompiled
    assert (told.activation, told.peak) == (plain.activation, plain.peak)
    # Compiled they were, in the three steps before.
    assert runs == 3 * 5 * (2 if method == "bdia" else 1)


def test_what_is_compiled_is_said_to_have_run_as_written() -> None:
    """Its bytes are other ones than HEAD's for that reason."""
    told = stacks.Stacks(activation_bytes=300, activation=(), peak_bytes=0, peak=(), uncompiled=True)
    (said,) = sites.lines(made.record(CASE, activation_bytes=290), told, "activation_bytes")
    assert said.startswith("code compiled by torch.compile has no lines")
    assert "300 bytes then, and 290 in HEAD" in said
