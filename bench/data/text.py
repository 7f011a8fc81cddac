"""Batches of tokens from text.

Shapes: B samples, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data import files

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

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of step `step`, both int64 [B, T]; the targets are the inputs one token on.

        Raises: UsageError where a token is outside the vocabulary.
        """
        random = np.random.default_rng((self.seed, step))
        starts = random.integers(0, len(self.ids) - self.seq, size=self.samples)  # [B]
        rows = self.ids[starts[:, None] + np.arange(self.seq + 1)].astype(np.int64)  # [B, T+1]
        files.require_vocab(self.name, int(rows.max()), self.vocab)
        both = torch.from_numpy(rows)
        # Clones lie in torch's allocator, where a meter sees them; what NumPy allocates it does not.
        inputs, targets = both[:, :-1], both[:, 1:]
        dense = torch.contiguous_format
        return inputs.clone(memory_format=dense), targets.clone(memory_format=dense)


def tokens(source: str | None, *, seq: int, samples: int, vocab: int, seed: int) -> Tokens:
    """The tokens of `source`: None for the built-in text, a text file (its bytes), or nanoGPT's `.bin`.

    Raises: UsageError where the file will not do, or holds no sample of `seq` tokens and its targets.
    """
    ids: Ids
    if source is None:
        name = files.BUILT_IN_NAME
        ids = np.frombuffer(files.built_in_text(), dtype=np.uint8)
    else:
        name = source
        path = files.text(source)
        ids = np.memmap(path, dtype=files.NANOGPT_DTYPE if files.is_tokens(path) else np.uint8, mode="r")
    files.require_length(name, len(ids), seq)
    return Tokens(name=name, ids=ids, seq=seq, samples=samples, vocab=vocab, seed=seed)
