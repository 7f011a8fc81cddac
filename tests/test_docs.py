"""The documentation runs."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from networks import gpt, gradients, same, tokens

import bench
from bdia.methods import Method
from bench.case import Case
from bench.workload import build

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def leapfrog(tmp_path: Path) -> Method:
    """The method of docs/adding-a-method.md, from the file that the page says to save."""
    (source, *_) = re.findall(r"```python\n(.*?)```", (DOCS / "adding-a-method.md").read_text(), re.DOTALL)
    path = tmp_path / "leapfrog.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("leapfrog", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["leapfrog"] = module
    spec.loader.exec_module(module)
    method = module.LEAPFROG
    assert isinstance(method, Method)
    return method


@pytest.mark.parametrize("depth", [2, 9, 32])
def test_the_added_method_is_exact(leapfrog: Method, depth: int) -> None:
    """The method that docs/adding-a-method.md adds is rebuilt bit for bit, with the gradients of its stored twin."""
    model, batch = gpt(depth), tokens()
    ours, errors = gradients(model, batch, leapfrog)
    stored, _ = gradients(model, batch, leapfrog.twin())
    assert errors.equal == dict.fromkeys(range(depth), True)
    assert same(ours, stored)


def test_the_training_step_of_ones_own_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of docs/your-own-model.md is measured as it stands, bit for bit."""
    (source, *_) = re.findall(r"```python\n(.*?)```", (DOCS / "your-own-model.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("train.py").write_text(source)
    nothing = dict.fromkeys(("depth", "width", "heads", "seq", "batch", "vocab", "data"))
    case = Case(
        method="bdia", model="train.py:workload", bits=9, dtype="fp32", train_steps=0, device="cpu", seed=0, **nothing
    )
    measured = bench.measure(build(case), "bdia", bits=9)
    assert (measured.bit_exact, measured.gradient_error, measured.blocks) == (True, 0.0, 6)
