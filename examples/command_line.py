"""The command lines of the examples: options that all share, and errors in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import bdia
from bench.errors import BenchError


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every example has: l and the seed, the text, the size of model and batch."""
    made = argparse.ArgumentParser(description=description, usage=argparse.SUPPRESS)  # which argparse puts above errors
    made.add_argument("--bits", type=int, default=9, help="l, the bits after the binary point (%(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of the weights, the batches, dropout and γ (%(default)s)")
    made.add_argument("--data", metavar="FILE", help="text; without it, the sources of Python's standard library")
    made.add_argument("--depth", type=count, default=6, help="blocks (%(default)s)")
    made.add_argument("--width", type=count, default=64, help="of the stream: a multiple of the 4 heads (%(default)s)")
    made.add_argument("--seq", type=count, default=64, help="tokens of a sample (%(default)s)")
    made.add_argument("--batch", type=count, default=8, help="samples of a step (%(default)s)")
    return made


def with_method(description: str) -> argparse.ArgumentParser:
    """The same, for an example that trains with the method of one's choice."""
    made = parser(description)
    made.add_argument("--method", default="bdia", help="any of `bdia-bench list` (%(default)s)")
    made.add_argument("--gamma", help="γ: 0.25 for ±0.25, uniform:0.5, normal:0.3 (±0.5)")
    return made


def count(text: str) -> int:
    """A whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, at least 1")
    return int(text)


def run(example: Callable[[argparse.Namespace], None], options: argparse.ArgumentParser) -> None:
    """Runs an example with the options given on the command line; an error that it foresees exits with 2."""
    chosen = options.parse_args()
    try:
        example(chosen)
    except (bdia.BdiaError, BenchError, ValueError) as error:
        options.error(str(error))
    except OSError as error:
        options.error(f"{error.filename}: {error.strerror}" if error.filename else str(error).partition("\n")[0])
