"""What the models are fed. Real input without a download: Python's own standard-library sources, scikit-learn's
digits; or the user's: any text file, nanoGPT's `.bin`, a folder of CIFAR's binary files.

Here is what needs no torch; batches are made by `bench.data.text` and `bench.data.images`. What a model that is to be
trained needs of its data beyond that, a part that is held out, is in `bench.data.splits`.
"""

from __future__ import annotations

from bench.data.files import BYTE_VOCAB, check, digest, vocab_of

__all__ = ["BYTE_VOCAB", "check", "digest", "vocab_of"]
