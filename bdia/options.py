"""What `attach` was asked for, checked before a model is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bdia import budget as budgets
from bdia.blocks import batch_dim as find_batch_dim
from bdia.chain import Layout
from bdia.dial import WHOLE, Dial
from bdia.distributions import Gamma
from bdia.errors import AttachError, MethodError
from bdia.methods import Method, get
from bdia.sharding import is_sharded
from bdia.updates import FixedBdia, QuantisedEuler, Rule


def checked_method(model: nn.Module, method: str | Method, whole: dict[str, int | None]) -> Method:
    """The method meant.

    Raises: AttachError for a model or a number of another type, MethodError for an unknown method.
    """
    if not isinstance(model, nn.Module):
        raise AttachError(f"the model is a {type(model).__name__}: expected a torch.nn.Module")
    for name, value in whole.items():
        if value is not None and type(value) is not int:
            raise AttachError(f"{name}={value!r}: expected a whole number, or None")
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        raise MethodError(f"method={method!r}: expected a name such as 'bdia', or a bdia.Method")
    return get(method)


def rule_of(method: Method, bits: int, gamma: Gamma, *, gamma_given: bool) -> Rule:
    """The method's rule for l = `bits` and that γ.

    Raises: MethodError for a γ that the method has no use for or cannot reverse, and a rule without an inverse.
    """
    if gamma_given and not method.draws_gamma:
        raise MethodError(f"gamma={gamma}: {method.name} draws no γ; leave gamma out, or use method 'bdia'")
    rule = method.make_rule(bits, gamma)
    if not method.reversible or rule.reversible:
        return rule
    if method.draws_gamma:
        needed = "|γ| must be 2^-m, such as 0.5 or 0.25" if rule.exact else "γ must never be 0"
        stored = "bdia-stored" if rule.exact else "bdia-unquantised"
        raise MethodError(f"gamma={gamma}: {method.name} divides by γ, so {needed}; or use method {stored!r}")
    raise MethodError(f"{method.name}: its rule has no inverse; use strategy 'stored' or 'checkpoint' with it")


def inference_rule(method: Method, rule: Rule, bits: int, inference: str | float) -> Rule | None:
    """The rule of eval mode; None for the plain model.

    Raises: MethodError for what is neither `plain`, `quantised` nor a γ, and where one of the latter two asks for
    another than the method is followed by there.
    """
    kept = isinstance(inference, int | float) and not isinstance(inference, bool) and -1 <= inference <= 1
    if not kept and inference not in ("plain", "quantised"):
        raise MethodError(f"inference={inference!r}: expected 'plain', 'quantised', or a γ from -1 to 1")
    if not rule.evaluates_plain:
        if inference == "plain":
            return rule
        raise MethodError(
            f"inference={inference!r}: {method.name} is no plain transformer in eval mode, rounded or not; leave it out"
        )
    if isinstance(inference, str):
        return None if inference == "plain" else QuantisedEuler(bits)
    return FixedBdia(float(inference))


def layout_of(blocks: Sequence[nn.Module], batch_dim: int | None) -> Layout:
    """Where the samples of x lie.

    Raises: AttachError for a dimension that is none, and where it cannot be told.
    """
    if batch_dim is None:
        return Layout(*find_batch_dim(blocks))
    if type(batch_dim) is not int or batch_dim < 0:
        raise AttachError(f"batch_dim={batch_dim!r}: expected 0 for x as [B, T, D], 1 for [T, B, D]")
    return Layout(batch_dim, batch_dim + 1)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises: MethodError for a value that is not among the choices."""
    if value not in choices:
        raise MethodError(f"{name}={value!r}: expected {' or '.join(map(repr, choices))}")


def refuse_tensor_parallel(model: nn.Module, chains: Sequence[Sequence[nn.Module]]) -> None:
    """Refuses weights that are sharded, but not by FSDP: their processes share samples as well.

    Raises: AttachError.
    """
    if any(map(is_sharded, model.modules())):
        return
    weights = (weight for chain in chains for block in chain for weight in block.parameters())
    if any(type(weight.data).__name__ == "DTensor" for weight in weights):
        raise AttachError(
            "the weights are sharded for tensor parallelism, where processes share their samples and must share their "
            "γ: say which data-parallel replica this is with rank="
        )


def budget_of(
    budget: int | str | None, method: Method, dial: Dial, chains: Sequence[Sequence[nn.Module]]
) -> int | None:
    """The bytes of a budget; None where there is none.

    Raises: MethodError for one that is no size, that nothing could be chosen for, or beside what it is to choose;
    AttachError for a model of several chains.
    """
    if budget is None:
        return None
    limit = budgets.parse(budget)
    if dial != WHOLE:
        raise MethodError(f"budget={budget!r}: it sets keep and micro_batches; leave them out, or the budget")
    if not method.recomputes:
        raise MethodError(f"budget={budget!r}: {method.name} runs nothing again, so there is nothing to choose")
    if len(chains) > 1:
        raise AttachError(
            f"budget={budget!r}: there are {len(chains)} chains of blocks, and one would be planned for before the "
            f"others have run; set keep and micro_batches"
        )
    return limit


def mixing_part(chains: Sequence[Sequence[nn.Module]]) -> nn.Module | None:
    """The first part of a block that takes statistics over the batch, if any."""
    parts = (part for chain in chains for block in chain for part in block.modules())
    return next((part for part in parts if isinstance(part, _BatchNorm)), None)


def refuse_mixing_samples(chains: Sequence[Sequence[nn.Module]], names: Mapping[int, str]) -> None:
    """Refuses blocks that take statistics over the batch, which would be those of a part of it.

    Raises: AttachError.
    """
    part = mixing_part(chains)
    if part is not None:
        raise AttachError(
            f"{names.get(id(part), 'a block')} is a {type(part).__name__}, which normalises over the batch: "
            f"micro_batches would have it normalise over parts; use micro_batches=1"
        )
