"""What becomes of the model where one γ is kept at inference: eq. 10 in eval mode, the same γ for all blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import bdia
from bench.batches import Batch
from bench.case import Case
from bench.errors import UsageError
from bench.evaluation import Score
from bench.watches import Found
from bench.workload import Workload

GAMMAS: Final = (-0.5, -0.375, -0.25, -0.125, 0.0, 0.125, 0.25, 0.375, 0.5)


def look(workload: Workload, case: Case, held_out: Iterable[Batch]) -> list[Found]:
    """Loss and accuracy for each γ of `GAMMAS`, and the loss of the plain model on the same batches, which γ = 0 gives
    bit for bit.

    Raises: UsageError without a batch.
    """
    model = workload.model.eval()
    plain, kept = Score(), {gamma: Score() for gamma in GAMMAS}
    for batch in held_out:
        plain.add(workload, batch)
        for gamma, score in kept.items():
            with bdia.attach(model, "standard", inference=gamma, blocks=workload.blocks):
                score.add(workload, batch)
    if not plain.samples:
        raise UsageError("gamma-inference: there are no held-out batches; give at least one")
    found: list[Found] = [{"name": "loss_plain", "value": plain.loss}]
    for gamma, score in kept.items():
        found.append({"name": "loss_at_gamma", "gamma": gamma, "value": score.loss})
        if score.accuracy is not None:
            found.append({"name": "accuracy_at_gamma", "gamma": gamma, "value": score.accuracy})
    return found
