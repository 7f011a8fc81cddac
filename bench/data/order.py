"""In which order samples are drawn, as indices. Imports no torch, and numpy where there is something to draw: how many
batches there are, a parent asks that starts in no time.

Shapes: B samples a batch, M samples in all.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

_ORDER = 1
"""Keeps the generator of epoch e apart from that of step e, (seed, step). It must not be 0: NumPy's seeds are filled up
with zeros, and (seed, e, 0) is (seed, e)."""


def batches_an_epoch(total: int, samples: int) -> int:
    """How many batches of `samples` have each of `total` samples once; the last may be smaller."""
    return -(-total // samples)


def epoch_batch(total: int, samples: int, seed: int, step: int) -> Integers:
    """Indices [B] of step `step`, counted from 0: batch s of epoch e, of an order by `seed` and e alone in which each
    sample comes once. The last batch of an epoch has what is left."""
    epoch, batch = divmod(step, batches_an_epoch(total, samples))
    return _permutation(total, seed, epoch)[batch * samples : (batch + 1) * samples]


def spread(total: int, samples: int, count: int | None) -> Iterator[Integers]:
    """Indices [B] of `count` batches, in order and evenly spread over all samples, none twice; of all of them for None,
    or where there are no more. The last may be smaller."""
    import numpy as np

    wanted = total if count is None else min(total, count * samples)
    chosen = np.arange(wanted) * total // max(1, wanted)
    for start in range(0, wanted, samples):
        yield chosen[start : start + samples]


@functools.lru_cache(maxsize=4)
def _permutation(total: int, seed: int, epoch: int) -> Integers:
    import numpy as np

    made = np.random.default_rng((seed, epoch, _ORDER)).permutation(total)
    made.flags.writeable = False
    return made
