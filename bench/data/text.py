"""Batches of tokens from text.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data import files, nanogpt, order, splits
from bench.data.splits import Split

Ids = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Tokens:
    """A stream of token ids that batches are cut from. Batch s depends on `seed` and s alone."""

    name: str
    """Where the ids come from, for messages."""
    ids: Ids
    """[…], in memory or mapped from a file: nothing of it lies in torch's allocator."""
    seq: int
    samples: int
    vocab: int
    seed: int

    @property
    def batches_an_epoch(self) -> int:
        """How many batches have about as many tokens as there are."""
        return order.batches_an_epoch(self._windows, self.samples)

    @property
    def _windows(self) -> int:
        """Samples one after the other, without overlap."""
        return (len(self.ids) - 1) // self.seq

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of step `step`, both int64 [B, T]; the targets are the inputs one token on.

        Raises: UsageError where a token is outside the vocabulary.
        """
        random = np.random.default_rng((self.seed, step))
        return self._cut(random.integers(0, len(self.ids) - self.seq, size=self.samples))

    def held_out(self, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """`count` batches as of `batch` to validate with, whatever the seed: samples that do not overlap, evenly spread
        over all tokens; of all of them for None. Of the last batch B may be smaller.

        Raises: UsageError where a token is outside the vocabulary.
        """
        for chosen in order.spread(self._windows, self.samples, count):
            yield self._cut(chosen * self.seq)

    def _cut(self, starts: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The samples that begin at `starts` [B], and their targets."""
        rows = self.ids[starts[:, None] + np.arange(self.seq + 1)].astype(np.int64)  # [B, T+1]
        files.require_vocab(self.name, int(rows.max()), self.vocab)
        both = torch.from_numpy(rows)
        # Clones lie in torch's allocator, where a meter sees them; what NumPy allocates it does not.
        inputs, targets = both[:, :-1], both[:, 1:]
        dense = torch.contiguous_format
        return inputs.clone(memory_format=dense), targets.clone(memory_format=dense)


def tokens(source: str | None, *, seq: int, samples: int, vocab: int, seed: int, split: Split = "all") -> Tokens:
    """The tokens of `source`: None for the built-in text, a text file (its bytes), or nanoGPT's `.bin`, or its folder.
    Of a split, those that it has (`bench.data.splits`).

    Raises: UsageError where the file will not do, or holds no sample of `seq` tokens and its targets.
    """
    part = splits.tokens(source, split)
    ids: Ids
    if part.path is None:
        ids = np.frombuffer(files.built_in_text(), dtype=np.uint8)
    else:
        ids = np.memmap(part.path, dtype=nanogpt.DTYPE if nanogpt.is_tokens(part.path) else np.uint8, mode="r")
    ids = ids[part.start : part.stop]
    files.require_length(part.name, len(ids), seq)
    return Tokens(name=part.name, ids=ids, seq=seq, samples=samples, vocab=vocab, seed=seed)
