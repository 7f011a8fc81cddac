"""The record: one case and what was measured of it. Frozen, flat, versioned; raw bytes and seconds."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from bench.case import Case
from bench.parts import Parts

SCHEMA_VERSION = 1
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON, are no UTF-8, nest without end, or are of another shape."""

Status = Literal["ok", "oom", "timeout", "error", "skipped", "unsupported"]
FAILED: tuple[Status, ...] = ("oom", "timeout", "error")
"""The statuses that make `run` exit with 3."""
UNMEASURED: tuple[Status, ...] = (*FAILED, "skipped")
"""And the one of a case that was left out for another's failing."""


class BlockError(msgspec.Struct, frozen=True, gc=False):
    """How well one block's input was rebuilt: the rebuilt x_k against the x_k of the forward."""

    block: int
    max_abs_error: float | None
    """None where it is not finite."""
    rms_error: float | None
    relative_error: float | None
    """RMS error over the RMS of the forward's x_k."""
    mismatched: int
    """Elements that differ under `!=`."""


class Record(Case, frozen=True, kw_only=True):
    """One line of `results.jsonl`. Every measured field is None where it was not measured, never 0."""

    schema_version: int = SCHEMA_VERSION
    suite: str
    fingerprint: str
    """Digest of the case, the environment, the code and the settings: what resuming goes by."""
    code: str | None = None
    """Digest of the sources of `bdia` and `bench` that measured it; None in records from before it was kept."""
    status: Status = "ok"
    message: str | None = None
    predicted: bool = False
    """Nothing of it was measured: its bytes are those that the case would hold, counted on fake tensors unless the
    message says otherwise."""
    verify: bool = False
    """Every rebuilt activation was checked, and what that costs is in the figures."""

    # Of what `frontier` has probed
    limit_bytes: int | None = None
    """What `peak_bytes` is held to; None of every other record."""
    frontier_over: str | None = None
    """The axis whose largest value is looked for."""
    frontier_step: int | None = None
    """To how much, along that axis."""
    confirmed_steps: int | None = None
    """Training steps, one after another, that stayed within the limit as well; None where none were asked for."""

    # Of what `train` has trained
    experiment: str | None = None
    """Its name; None of every other record."""
    recipe: dict[str, str | int | float | bool | list[float] | None] | None = None
    """The fields of `bench.recipe.Recipe`."""
    trained_steps: int | None = None
    """Optimiser steps taken: fewer than `train_steps` where the loss ceased to be finite."""
    train_loss: float | None = None
    """Mean over the steps since the last look but one; None where it is not finite, and `message` says so."""
    validation_loss: float | None = None
    """At the end, in eval mode, as are the following."""
    validation_accuracy: float | None = None
    """Share of images; None of a model of text."""
    best_validation_loss: float | None = None
    """The lowest of all looks."""
    best_validation_accuracy: float | None = None
    epoch_seconds: float | None = None
    """A pass over the training set, at the mean time of this arm's steps; None of text, which has no epochs."""
    train_seconds: float | None = None
    """Training steps alone, over all starts."""
    weights_digest: str | None = None
    """SHA-256 of the final weights."""

    # Sizes
    parameters: int | None = None
    blocks: int | None = None
    """Residual blocks that the method is attached to, over all chains."""
    stream_elements: int | None = None
    """Elements of the residual stream, B·T·D, as they enter a block; the blocks' mean where x has several sizes, and of
    a step of several forwards the first's."""
    samples: int | None = None
    """Samples a step."""
    tokens: int | None = None
    """Tokens a step; None for a vision model."""
    stream_dtype: str | None = None
    parameter_dtype: str | None = None
    compute_dtype: str | None = None
    threads: int | None = None

    # Memory, in bytes
    static_bytes: int | None = None
    activation_bytes: int | None = None
    peak_bytes: int | None = None
    saved_bytes: int | None = None
    side_bytes: int | None = None
    rng_bytes: int | None = None
    reserved_bytes: int | None = None
    nvml_bytes: int | None = None
    rss_bytes: int | None = None
    activation_parts: Parts | None = None
    """What `activation_bytes` is made of, at its highest moment (see `bench.parts`)."""
    peak_parts: Parts | None = None
    """What `peak_bytes` is made of, at its highest moment."""

    # Time
    step_seconds: list[float] | None = None
    """Every timed step, forward to optimiser; round i of every method of a group ran side by side."""
    rounds_id: str | None = None
    """Which rounds those were: steps may be paired with another record's only where this is the same."""
    tokens_per_second: float | None = None
    samples_per_second: float | None = None

    # Correctness
    loss: float | None = None
    """Training loss of the measured step: `loss_method`, under its older name."""
    loss_plain: float | None = None
    """The same batch at the same weights under the plain transformer, in training mode and from the same RNG state."""
    loss_method: float | None = None
    """And under the method, which computes another function where it quantises or draws γ."""
    reconstruction: list[BlockError] | None = None
    bit_exact: bool | None = None
    gradient_error: float | None = None
    """Relative L2 of all parameter gradients against the method's own rule with stored activations."""
    gradient_block: int | None = None
    """The highest block with a parameter whose gradient differs from that reference: where a backward goes wrong."""
    rounding_error: float | None = None
    """Largest |Q_l[v] − v| / 2^-l over the steps of a quantised forward, v in float64: ½, and what fp32 adds to v."""
    rounding_block: int | None = None
    """The block of that step."""
    max_abs: float | None = None
    """Largest |x| of the residual stream in the measured forward."""
    largest_bits: int | None = None
    """The largest l for which that forward would have been exact."""

    def case(self) -> Case:
        """The case this record is of."""
        return Case(**{name: getattr(self, name) for name in Case.__struct_fields__})
