"""The doctor: what it finds on this machine, and what it says where something is amiss."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from bench import doctor
from bench.doctor import Finding
from bench.environment import variables


def found(name: str) -> Finding:
    return next(finding for finding in doctor.examine(2) if finding.name == name)


def test_a_machine_that_runs_the_tests_all_well() -> None:
    """Where torch works, measuring on the CPU is possible, and the findings name torch's version."""
    findings = list(doctor.examine(2))
    assert doctor.all_well(findings)
    assert Finding("torch", str(torch.__version__)) in findings


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_meter_proves_itself_on_paper(device: str) -> None:
    """The peak of a chain of matrix products is two products, to the byte."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    assert doctor.paper_case(device) == (2 * 256 * 256 * 4, 2 * 256 * 256 * 4)


def test_a_meter_that_is_wrong_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meter that does not give the bytes on paper means that nothing can be measured, and both are shown."""
    monkeypatch.setattr(doctor, "paper_case", lambda device: (524287, 524288))
    finding = found("cpu memory meter")
    assert finding.health == "broken"
    assert finding.text == "524287 bytes measured, 524288 on paper"
    assert not doctor.all_well([finding])


def test_without_torch_nothing_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that does not import ends the examination with the way to install it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    findings = list(doctor.examine(2))
    assert [finding.name for finding in findings] == ["python", "torch"]
    assert findings[1].health == "broken"
    assert "pip install" in str(findings[1].hint)


def test_without_cuda_the_cpu_can_still_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing card is told with its cure, and is no obstacle."""
    monkeypatch.setattr("bench.probe.cuda_problem", lambda: "torch finds no CUDA device")
    findings = list(doctor.examine(2))
    cuda = next(finding for finding in findings if finding.name == "cuda")
    assert (cuda.health, cuda.text) == ("missing", "torch finds no CUDA device")
    assert cuda.hint is not None
    assert "CPU" in cuda.hint
    assert doctor.all_well(findings)


def test_variables_that_change_the_figures_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment variable that changes memory or speed is a finding of its own."""
    for name in variables(os.environ):  # a package that was imported before may have set one
        monkeypatch.delenv(name)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert found("variable").text == "MALLOC_ARENA_MAX=1"
