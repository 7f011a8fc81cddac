"""The table of models, and the forms that name any other."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from bench import axes, models
from bench.errors import UsageError


def test_each_model_has_defaults_for_its_axes() -> None:
    """Every axis of a model is one of the grid and has a default but `vocab`; heads, where there are any, divide the
    width, and sizes are multiples of what they must be."""
    for spec in models.MODELS:
        assert set(spec.axes) <= set(axes.NAMES)
        assert set(spec.defaults) == set(spec.axes) - {"vocab"}
        assert spec.defaults["width"] % spec.defaults.get("heads", 1) == 0
        assert all(spec.defaults[name] % factor == 0 for name, factor in spec.multiples.items())
        assert spec.summary


def test_models_are_found_by_name() -> None:
    """Each name of the table gets its model."""
    assert [models.get(name).name for name in models.names()] == ["gpt", "vit", "vit-spt", "resnet"]


def test_an_unknown_model_is_refused_with_the_names_known() -> None:
    """A misspelt model raises UsageError in one line with the likeliest name and all others."""
    with pytest.raises(UsageError, match=r"unknown model 'gtp'.*'gpt'.*vit-spt") as caught:
        models.get("gtp")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "library", "command"),
    [
        ("hf:gpt2", "transformers", "pip install 'bdia-bench[hf]'"),
        ("timm:vit_small_patch16_224", "timm", "pip install 'bdia-bench[timm]'"),
    ],
)
def test_a_missing_library_is_one_line_with_the_command(
    name: str, library: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library the error gives the command that installs it, before anything runs."""
    monkeypatch.delitem(sys.modules, library, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        models.get(name)
    assert str(caught.value) == f"model {name!r} needs {library}: {command}"


@pytest.mark.parametrize("name", ["hf:", "timm:", ":f", "nonsense", "f.py"])
def test_what_is_of_no_form_is_refused_with_the_forms(name: str) -> None:
    """A name that is neither in the table nor of any form is answered by all of them."""
    with pytest.raises(UsageError) as caught:
        models.get(name)
    assert "\n" not in str(caught.value)
    assert "FILE.py:FUNCTION" in str(caught.value)
