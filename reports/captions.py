"""What stands below a figure or table: what it shows, what the metrics mean, on what and how it was measured."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports import settings, units
from reports.frame import rows

MEANINGS: Mapping[str, str] = {
    "activation_bytes": "Activation memory is the highest level of the allocator over forward and backward, "
    "gradients kept allocated, less its level before the step.",
    "peak_bytes": "Peak is the highest level of the allocator over one whole training step: forward, loss, backward, "
    "optimiser.",
    "limit_bytes": "A case fits where the peak of a step is measured to be within the limit, and the largest where "
    "20 training steps in a row are as well.",
    "activation_parts": "What was allocated in a block's forward, its rerun or its backward is that block's; what was "
    "allocated outside the blocks is the head's and the loss's; states are those of the residual stream.",
    "side_bytes": "Side bits are the parities of eq. 20, one bit an element and block, as held at the end of the "
    "forward.",
    "bits_per_activation": "Bits per activation is the slope b of the memory law, activation memory = a + b · depth, "
    "per block and element of the residual stream; where the depths are on no line, there is none.",
    "rate_ratio": "Rates are relative to standard's: the median over rounds in which all methods were timed side "
    "by side.",
    "max_abs_error": "The reconstruction error of a block is the largest |rebuilt x − x of the forward| over the "
    "elements of its input; 0 (exact) is bit for bit.",
    "gradient_error": "The gradient error is the relative L2 distance of all parameter gradients from those of the "
    "same rule with stored activations.",
    "validation_accuracy": "Validation accuracy is the share of the validation set that the model gets right in eval "
    "mode, the plain model for every method but those that say otherwise.",
    "validation_loss": "Validation loss is the mean over the validation set, in eval mode; the training loss is the "
    "mean over batches as they were trained on, in training mode.",
    "curves": "Arms with one seed begin from the same weights and see the same batches in the same order. A band is "
    "one sample deviation over seeds to either side of the mean; of a single seed there is none.",
    "loss_difference": "A method that draws γ or quantises computes another function than the plain transformer: the "
    "loss less the plain one is of the same batch at the same weights, in training mode.",
}
"""What each metric means, by its field."""

FIGURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "fig1": (
        "Reconstruction error against the block, in floating point by eq. 16 and with side bits by eq. 24: median "
        "over seeds (line) and range (band). The backward starts at the top, from the kept input of the last block, "
        "whose error is 0 for that reason.",
        ("max_abs_error",),
    ),
    "memory-depth": (
        "Activation memory against depth, with the fitted bits per activation, or `no line` where the depths are on "
        "none; of several seeds, the lower median.",
        ("activation_bytes", "bits_per_activation"),
    ),
    "memory-width": ("Activation memory against width; of several seeds, the lower median.", ("activation_bytes",)),
    "memory-batch": (
        "Activation memory against batch size; of several seeds, the lower median.",
        ("activation_bytes",),
    ),
    "memory-parts": (
        "Where the bytes are at the highest moment of forward and backward (activation memory, above what was there "
        "before) and of a whole training step. In grey, the model, its gradients and the optimiser.",
        ("activation_bytes", "peak_bytes", "activation_parts", "side_bytes"),
    ),
    "throughput": (
        "Training rate relative to standard's: median and range of paired rounds (a bar may run off the top). The "
        "dotted line at ¾ is the bound that one recompute of the forward sets where arithmetic is all that counts.",
        ("rate_ratio",),
    ),
    "memory-speed": (
        "Activation memory against training rate relative to standard's.",
        ("activation_bytes", "rate_ratio"),
    ),
    "pareto": (
        "Rate against the peak of a whole training step, for methods and settings of the dial. The line is the front: "
        "no other point has less memory at no lower a rate, or is faster with no more memory; hollow points lie behind "
        "it. Beside a point: m, micro-batches; keep, blocks that keep their graph.",
        ("peak_bytes", "rate_ratio"),
    ),
    "frontier": (
        "The largest value that fits the limit, as measured, and the rate there: each at its own largest, timed alone "
        "unless that is one which all have.",
        ("limit_bytes", "peak_bytes"),
    ),
    "limit": (
        "The peak of a whole training step, a point a probe, and the limit that it is held to. A cross at the top: "
        "memory ran out.",
        ("limit_bytes", "peak_bytes"),
    ),
    "error-bits": (
        "Worst reconstruction error against l, the bits behind the binary point. Shaded: beyond the range in which "
        "fp32 holds every multiple of 2^-l.",
        ("max_abs_error",),
    ),
    "curves": (
        "Training and validation against the step, mean over seeds. A curve that was logged more often than 60 times "
        "is averaged over intervals; what lies in its first quarter may run off the axes.",
        ("validation_accuracy", "validation_loss", "curves"),
    ),
    "accuracy-memory": (
        "What each arm reaches in the end, mean and one sample deviation over seeds, against the peak memory of a "
        "step. Arms with the same memory are drawn side by side.",
        ("validation_accuracy", "validation_loss", "peak_bytes"),
    ),
    "fig1-trained": (
        "Reconstruction error against the block as training goes on, from light to dark: median over seeds (line) and "
        "range (band). What was exact at every look is one line in the strip of zeros.",
        ("max_abs_error", "curves"),
    ),
    "drift": (
        "The gradient error of the whole model against the step, median and range over seeds, and below it the loss, "
        "mean and one sample deviation.",
        ("gradient_error", "validation_loss", "curves"),
    ),
    "drift-blocks": (
        "The gradient error of each block's parameters as training goes on, from light to dark: median over seeds "
        "(line) and range (band).",
        ("gradient_error", "curves"),
    ),
    "bits": (
        "What l, the bits behind the binary point, does to training: the score in the end, mean and one sample "
        "deviation over seeds, the largest reconstruction error that was seen, and the least headroom, how many bits "
        "more would have been exact. Across, what is not quantised. Shaded: no seed was trained to the end.",
        ("validation_loss", "max_abs_error", "curves"),
    ),
    "gamma": (
        "What each arm reaches in the end against |γ|, mean and one sample deviation over seeds. Points of two methods "
        "at one |γ| are drawn side by side.",
        ("validation_accuracy", "validation_loss"),
    ),
    "gamma-inference": (
        "The score at the end of training where γ is fixed at inference; γ = 0 is the plain transformer. Mean over "
        "seeds and one sample deviation.",
        ("validation_accuracy", "validation_loss"),
    ),
}
"""What each figure shows, and the fields whose meaning belongs below it."""


def caption(frame: pd.DataFrame, run: Mapping[str, Any] | None, figure: str | None = None, setting: str = "") -> str:
    """The caption of a figure or, without one, of the tables: one paragraph.

    `setting` is which of several settings the figure draws, as `reports.figures.setting` tells it. `run` is the
    content of `run.json`; what it lacks is left unsaid."""
    found = rows(frame)
    shows, fields = FIGURES[figure] if figure is not None else ("", tuple(MEANINGS))
    measured = [field for field in fields if field == "max_abs_error" or any(row[field] is not None for row in found)]
    meanings = (MEANINGS[field] for field in measured)
    drawn = f"Drawn: {setting}." if setting else ""
    return " ".join(part for part in (shows, *meanings, _cases(found), drawn, provenance(run or {})) if part)


def provenance(run: Mapping[str, Any]) -> str:
    """Hardware, versions, commit and command, as far as `run.json` tells them."""
    environment: Mapping[str, Any] = run.get("environment") or {}
    sentences = [
        _sentence("Predicted on" if run.get("predicted") else "Measured on", hardware(environment)),
        _sentence("Software:", software(environment)),
        _sentence("Command:", [shlex.join(["bdia-bench", *run["arguments"]])] if run.get("arguments") else []),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _cases(found: Iterable[settings.Row]) -> str:
    held = settings.sentence(list(found))
    return f"Cases: {held.replace(' · ', ', ')}." if held else ""


def hardware(environment: Mapping[str, Any]) -> list[str]:
    """What it was measured on, in phrases: card, processor, threads, memory."""
    threads, cores, memory = (environment.get(name) for name in ("threads", "logical_cores", "memory_bytes"))
    of = f" of {cores} cores" if cores else ""
    count, gpu = environment.get("gpu_count"), environment.get("gpu_name")
    gpu_memory = environment.get("gpu_memory_bytes")
    return [
        part
        for part in (
            (f"{count} × {gpu}" if (count or 1) > 1 else gpu) if gpu else None,
            f"{units.size(gpu_memory)} a GPU" if gpu_memory else None,
            environment.get("cpu_model") or environment.get("machine"),
            f"{threads} threads{of}" if threads else None,
            f"{units.size(memory)} of memory" if memory else None,
        )
        if part
    ]


def software(environment: Mapping[str, Any]) -> list[str]:
    """What it was measured with: names with their versions, the bench first, with its commit."""
    versions = (
        ("bdia-bench", environment.get("bdia_bench")),
        ("torch", environment.get("torch")),
        ("CUDA", environment.get("cuda") if environment.get("device") == "cuda" else None),
        ("driver", environment.get("gpu_driver")),
        ("Python", environment.get("python")),
        (environment.get("os"), environment.get("os_release")),
    )
    said = [f"{name} {version}" for name, version in versions if name and version]
    commit = environment.get("commit")
    if commit and said:
        changed = " with uncommitted changes" if environment.get("dirty") else ""
        said[0] += f" (commit {commit[:12]}{changed})"
    return said


def _sentence(start: str, parts: Iterable[str]) -> str:
    said = ", ".join(parts)
    return f"{start} {said}." if said else ""
