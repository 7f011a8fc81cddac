from __future__ import annotations

import pytest

from bench import axes, models
from bench.errors import UsageError


def test_each_model_has_defaults_for_its_axes() -> None:
    """Every axis of a model is one of the grid and has a default but `vocab`, and the heads divide the width."""
    for spec in models.MODELS:
        assert set(spec.axes) <= set(axes.NAMES)
        assert set(spec.defaults) == set(spec.axes) - {"vocab"}
        assert spec.defaults["width"] % spec.defaults["heads"] == 0
        assert spec.summary


def test_models_are_found_by_name() -> None:
    """Each name of the table gets its model."""
    assert [models.get(name).name for name in models.names()] == ["gpt", "vit", "vit-spt"]


def test_an_unknown_model_is_refused_with_the_names_known() -> None:
    """A misspelt model raises UsageError in one line with the likeliest name and all others."""
    with pytest.raises(UsageError, match=r"unknown model 'gtp'.*'gpt'.*vit-spt") as caught:
        models.get("gtp")
    assert "\n" not in str(caught.value)
