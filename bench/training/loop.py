"""One arm at one seed, from its last checkpoint or its first step to its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from torch import Tensor, nn

import bdia
from bench import accumulation, watches
from bench.attaching import Attached, attach_planned
from bench.case import Plan
from bench.curves import Curves, Point
from bench.evaluation import judged
from bench.training.checkpoint import Checkpoints, Progress, Trained
from bench.training.optimizers import set_learning_rate
from bench.training.schedule import learning_rate
from bench.training.trainee import Trainee, build
from bench.watches import Found
from bench.workload import facts

HEARTBEAT_SECONDS: Final = 1.0
"""So often the parent hears of a run at the least, unless a step takes longer."""

Tell = Callable[[int, list[Point]], None]
"""Hears of the steps taken, and of what was seen after them."""
Outcome = tuple[dict[str, Any], str | None]
"""Fields of the record by name, and what else there is to say."""


def train(plan: Plan, folder: Path, curves: Curves, fingerprint: str, tell: Tell) -> Outcome:
    """Trains the case of `plan` to its end. Returns what there is to record, and a note where it ended early.

    A run that was killed is gone on with where its last checkpoint in `folder` was taken; `fingerprint` says what it
    rests on. On a CPU the weights it ends with are those of a run that was not, bit for bit.

    Raises: whatever the model and the method do; OSError where there is no room.
    """
    assert plan.training is not None
    trainee = build(plan.case, plan.training.recipe)
    with attach_planned(trainee.workload, plan) as handle:
        return _Run(plan, trainee, handle, folder, curves, fingerprint, tell).go()


class _Run:
    def __init__(
        self,
        plan: Plan,
        trainee: Trainee,
        handle: Attached,
        folder: Path,
        curves: Curves,
        fingerprint: str,
        tell: Tell,
    ) -> None:
        assert plan.training is not None
        self._plan = plan
        self._trainee = trainee
        self._workload = trainee.workload
        self._handle = handle
        self._training = plan.training
        self._recipe = plan.training.recipe
        self._curves = curves
        self._tell = tell
        self._told, self._since = time.monotonic(), time.perf_counter()
        trained = Trained(self._workload.model, self._workload.optimizer, self._workload.device, fingerprint)
        self._checkpoints = Checkpoints(folder, trained)
        self._progress = Progress()
        self._losses: list[Tensor] = []
        """Of steps whose losses have not been read from the device yet."""
        self._right: list[Tensor] = []

    def go(self) -> Outcome:
        recipe = self._recipe
        self._begin()
        while self._progress.step < recipe.steps and not self._lost:
            try:
                self._step()
            except Exception:
                self._say([])  # how far it came
                raise
            step, last = self._progress.step, self._progress.step == recipe.steps
            looks = last or step % recipe.eval_every == 0
            watches = bool(self._training.watch) and (last or step % self._watch_every == 0)
            saves = last or step % recipe.checkpoint_every == 0
            if looks or watches or saves:
                self._pause()
                found = [*(self._look() if looks else ()), *(self._watch() if watches else ())]
                self._keep(found)
                if saves or self._lost:
                    gamma = self._handle.state_dict() if isinstance(self._handle, bdia.Handle) else {}
                    self._checkpoints.save(self._progress, gamma)
                self._since = time.perf_counter()
            elif time.monotonic() - self._told > HEARTBEAT_SECONDS:
                self._say([])
        return self._outcome()

    def _begin(self) -> None:
        """Goes back to the last checkpoint or, where there is none, looks at the initial weights."""
        torch.manual_seed(self._plan.case.seed)  # what is dropped must not depend on what ran before
        found = self._checkpoints.load()
        if found is None:
            self._keep([*self._evaluate(), *(self._watch() if self._training.watch else ())])
        else:
            self._progress, gamma = found
            if isinstance(self._handle, bdia.Handle):
                self._handle.load_state_dict(gamma)
            self._say([])
        self._since = time.perf_counter()

    @property
    def _watch_every(self) -> int:
        return self._training.watch_every or self._recipe.eval_every

    @property
    def _lost(self) -> bool:
        """Whether the loss of the steps before the last look was not finite: it will not be any more."""
        progress = self._progress
        return progress.step > 0 and progress.steps == 0 and progress.train_loss is None

    def _step(self) -> None:
        progress, workload, recipe = self._progress, self._workload, self._recipe
        batch = workload.batches(progress.step)
        set_learning_rate(workload.optimizer, learning_rate(recipe, progress.step + 1))
        losses: list[Tensor] = []
        with judged(workload.model) as right:
            accumulation.backward(
                workload, batch, forwarded=lambda part, loss: losses.append(loss.detach() * part.share)
            )
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(workload.model.parameters(), recipe.clip)
        workload.optimizer.step()
        workload.model.zero_grad(set_to_none=True)
        # They stay on the device: to read each would have it wait for us.
        self._losses.append(torch.stack(losses).sum())
        self._right += right
        progress.step += 1
        progress.steps += 1
        progress.samples += len(batch[0])

    def _pause(self) -> None:
        """Reads what the steps have left on the device, which waits for them, and stops the clock."""
        progress = self._progress
        for loss in torch.stack(self._losses).tolist() if self._losses else ():
            progress.losses = None if progress.losses is None else _finite(progress.losses + loss)
        progress.right += sum(torch.stack(self._right).tolist()) if self._right else 0
        self._losses, self._right = [], []
        seconds = time.perf_counter() - self._since
        progress.seconds += seconds
        progress.train_seconds += seconds

    def _look(self) -> list[Found]:
        """Means over the steps since the last look, and the validation set."""
        progress, count = self._progress, self._progress.steps
        progress.train_loss = None if progress.losses is None else progress.losses / count
        found: list[Found] = [{"name": "train_loss", "value": progress.train_loss}]
        if self._trainee.classifies:
            found.append({"name": "train_accuracy", "value": progress.right / progress.samples})
        found += [
            {"name": "learning_rate", "value": learning_rate(self._recipe, progress.step)},
            {"name": "step_seconds", "value": progress.seconds / count},
        ]
        progress.losses, progress.right, progress.samples, progress.steps, progress.seconds = 0.0, 0, 0, 0, 0.0
        return found + self._evaluate()

    def _evaluate(self) -> list[Found]:
        progress = self._progress
        score = self._trainee.evaluate(self._recipe.eval_batches)
        loss, accuracy = score.loss, score.accuracy
        progress.validation_loss, progress.validation_accuracy = loss, accuracy
        progress.best_validation_loss = _best(min, progress.best_validation_loss, loss)
        progress.best_validation_accuracy = _best(max, progress.best_validation_accuracy, accuracy)
        found: list[Found] = [{"name": "validation_loss", "value": loss}]
        return [*found, {"name": "validation_accuracy", "value": accuracy}] if self._trainee.classifies else found

    def _watch(self) -> list[Found]:
        """What the watches see."""
        found: list[Found] = []
        for watch in watches.named(self._training.watch):
            held_out = self._trainee.held_out(self._recipe.eval_batches)
            found += watch.look(self._workload, self._plan, self._progress.step, held_out)
        return found

    def _keep(self, found: Sequence[Found]) -> None:
        """Writes points down and tells of them."""
        arm, seed, step = self._plan.case.arm, self._plan.case.seed, self._progress.step
        points = [msgspec.convert({"arm": arm, "seed": seed, "step": step, **one}, Point) for one in found]
        self._curves.append(points)
        self._say(points)

    def _say(self, points: list[Point]) -> None:
        self._told = time.monotonic()
        self._tell(self._progress.step, points)

    def _outcome(self) -> Outcome:
        progress = self._progress
        seconds = progress.train_seconds / progress.step
        early = f"the loss is not finite: stopped after {progress.step} of {self._recipe.steps} steps"
        fields = {
            **facts(self._workload, self._plan.case),
            "trained_steps": progress.step,
            "train_loss": progress.train_loss,
            "validation_loss": progress.validation_loss,
            "validation_accuracy": progress.validation_accuracy,
            "best_validation_loss": progress.best_validation_loss,
            "best_validation_accuracy": progress.best_validation_accuracy,
            "epoch_seconds": seconds * self._trainee.batches_an_epoch,
            "train_seconds": progress.train_seconds,
            "weights_digest": self._checkpoints.finish(),
        }
        return fields, early if self._lost else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _best(choose: Callable[[float, float], float], one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)
