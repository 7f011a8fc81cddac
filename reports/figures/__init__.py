"""The figures, the only package that imports matplotlib.

Each function draws from the frame of `reports.frame` into the axes it is given or, without any, into a new figure
in the house style (`Figure`, never pyplot: there is no global state), and returns the axes. `save` writes files.
"""

from __future__ import annotations

from reports.figures.by_axis import memory_axis, memory_depth
from reports.figures.by_bits import error_bits
from reports.figures.by_block import fig1
from reports.figures.by_gamma import gamma, gamma_inference
from reports.figures.by_gradient import drift
from reports.figures.by_limit import frontier, limit
from reports.figures.by_look import drift_blocks, fig1_trained
from reports.figures.by_memory import accuracy_memory
from reports.figures.by_part import memory_parts
from reports.figures.by_precision import bits
from reports.figures.by_step import curves
from reports.figures.front import pareto
from reports.figures.output import (
    DEFAULT_FORMATS,
    FIGURES,
    FORMATS,
    Drawing,
    Drawn,
    available,
    parse_size,
    plots,
    save,
    save_all,
    setting,
    svg,
)
from reports.figures.rate import throughput
from reports.figures.select import Plot
from reports.figures.tradeoff import memory_speed

__all__ = [
    "DEFAULT_FORMATS",
    "FIGURES",
    "FORMATS",
    "Drawing",
    "Drawn",
    "Plot",
    "accuracy_memory",
    "available",
    "bits",
    "curves",
    "drift",
    "drift_blocks",
    "error_bits",
    "fig1",
    "fig1_trained",
    "frontier",
    "gamma",
    "gamma_inference",
    "limit",
    "memory_axis",
    "memory_depth",
    "memory_parts",
    "memory_speed",
    "pareto",
    "parse_size",
    "plots",
    "save",
    "save_all",
    "setting",
    "svg",
    "throughput",
]
