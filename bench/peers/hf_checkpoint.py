"""Gradient checkpointing as transformers has it: one switch on the model, which puts torch's around each block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import nn

from bench.errors import UnsupportedError

_ABSENT: Final = object()


@contextmanager
def switched_on(model: nn.Module) -> Iterator[None]:
    """With the switch on, non-reentrant as transformers 5 has it by default; afterwards the model is as it was, where
    turning it off again would leave attributes behind, and a hook on the embedding.

    Raises: UnsupportedError for a model without that switch, or of a type that does not support it.
    """
    before = [(module, dict(vars(module)), set(module._forward_hooks)) for module in model.modules()]
    _switch_on(model)
    undo = [
        (module, {name: then.get(name, _ABSENT) for name, value in vars(module).items() if then.get(name) is not value},
         module._forward_hooks.keys() - hooks)
        for module, then, hooks in before
    ]  # fmt: skip
    try:
        yield
    finally:
        for module, changed, hooks in undo:
            for name, value in changed.items():
                vars(module).pop(name, None)
                if value is not _ABSENT:
                    vars(module)[name] = value
            for hook in hooks:
                module._forward_hooks.pop(hook, None)


def _switch_on(model: Any) -> None:
    options = {"use_reentrant": False}
    try:
        if hasattr(model, "activation_checkpointing_enable"):
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        elif hasattr(model, "gradient_checkpointing_enable"):
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        else:
            raise UnsupportedError(f"hf-checkpoint: {type(model).__name__} is no model of transformers; take hf:…")
    except ValueError as error:  # what transformers raises for a type that does not support it
        raise UnsupportedError(f"hf-checkpoint: {error}") from error
