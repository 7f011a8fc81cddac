"""NVML's figure for this process, against a stand-in for the library."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from bench.meters import nvml

OURS, OTHERS = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"


class NvmlError(Exception):
    pass


class FakeNvml(ModuleType):
    """Two cards; this process holds memory on one of them. `fails` names a function that raises."""

    def __init__(self, fails: str | None = None) -> None:
        super().__init__("pynvml")
        ours = SimpleNamespace(pid=os.getpid(), usedGpuMemory=512 * 2**20)
        stranger = SimpleNamespace(pid=os.getpid() + 1, usedGpuMemory=7)
        self.processes = {f"GPU-{OURS}": [stranger, ours], f"GPU-{OTHERS}": [stranger]}
        self.open = 0
        functions = {
            "nvmlInit": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlDeviceGetHandleByUUID": self._find,
            "nvmlDeviceGetComputeRunningProcesses": self.processes.__getitem__,
            "nvmlDeviceGetName": lambda card: b"Card " + card[-1:].encode(),
            "nvmlSystemGetDriverVersion": lambda: "999.1",
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(total=2**36, used=1),
        }
        self.__dict__.update(functions, NVMLError=NvmlError)
        if fails is not None:
            self.__dict__[fails] = self._refuse

    def _init(self) -> None:
        self.open += 1

    def _shutdown(self) -> None:
        self.open -= 1

    def _find(self, uuid: str) -> str:
        return uuid if uuid in self.processes else self._refuse()

    def _refuse(self, *_: object) -> str:
        raise NvmlError("refused")


def install(monkeypatch: pytest.MonkeyPatch, fails: str | None = None) -> FakeNvml:
    fake = FakeNvml(fails)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_the_figure_is_of_this_process_on_the_card_of_that_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes and other cards do not count, with or without NVML's prefix."""
    fake = install(monkeypatch)
    assert nvml.process_bytes(OURS) == nvml.process_bytes(f"GPU-{OURS}") == 512 * 2**20
    assert nvml.process_bytes(OURS, pid=os.getpid() + 1) == 7
    assert fake.open == 0


def test_a_process_that_nvml_does_not_list_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """None and not 0, as in a container with process numbers of its own."""
    install(monkeypatch)
    assert nvml.process_bytes(OTHERS) is None


def test_a_figure_that_the_driver_withholds_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some drivers list a process without its memory."""
    fake = install(monkeypatch)
    fake.processes[f"GPU-{OURS}"][1].usedGpuMemory = None
    assert nvml.process_bytes(OURS) is None


@pytest.mark.parametrize("fails", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetComputeRunningProcesses"])
def test_a_refusal_is_none(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Wherever NVML refuses, there is no figure, and what was opened is closed."""
    fake = install(monkeypatch, fails)
    assert nvml.process_bytes(OURS) is None
    assert fake.open == 0


def test_a_failing_shutdown_does_not_cost_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read counts."""
    install(monkeypatch, "nvmlShutdown")
    assert nvml.process_bytes(OURS) == 512 * 2**20


def test_without_the_package_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package is no error."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.process_bytes(OURS) is None
    assert nvml.card(OURS) is None


def test_a_card_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, driver and memory, whether the package gives bytes or text."""
    install(monkeypatch)
    assert nvml.card(OURS) == nvml.Card(name="Card 5", driver="999.1", total_bytes=2**36)
    assert nvml.card("00000000-0000-0000-0000-000000000000") is None


def test_the_package_itself_answers_or_gives_none() -> None:
    """On a machine with or without a driver, asking for a card that is not there raises nothing."""
    assert nvml.process_bytes("00000000-0000-0000-0000-000000000000") is None


@pytest.mark.gpu
def test_the_card_at_hand_is_found() -> None:
    """The UUID that CUDA gives is the one that NVML knows; a figure there counts more than the allocator's."""
    properties = torch.cuda.get_device_properties(0)
    card = nvml.card(str(properties.uuid))
    assert card is not None
    assert card.total_bytes >= properties.total_memory
    held = torch.empty(2**26, device="cuda")
    figure = nvml.process_bytes(str(properties.uuid))
    assert figure is None or figure > held.nbytes
