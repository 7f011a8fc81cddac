"""Training runs as `train` would leave them, made up by rule: what the tests of their reports read.

Every number follows from the arm, the seed and the step. A `Run` is the records of an experiment and its curves.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import synthetic_records as synthetic

from bench.curves import Point
from bench.record import Record
from reports.frame import frame

MIB = 2**20
SEEDS = (0, 1, 2)
STEPS = 1000
EVERY = 100
RECIPE: dict[str, Any] = {
    "optimizer": "set-adam", "lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-18, "weight_decay": 0.0, "clip": None,
    "schedule": "cosine", "warmup_steps": 0, "min_lr": 0.0, "steps": STEPS, "dropout": None, "augment": False,
    "eval_every": EVERY, "eval_batches": None, "checkpoint_every": 500,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """An experiment's records and points."""

    records: list[Record]
    points: list[Point]

    def frame(self) -> Any:
        return frame(self.records, self.points)

    def only(self, keep: Callable[[Record], bool]) -> Run:
        """The run as far as its records are kept."""
        records = [record for record in self.records if keep(record)]
        kept = {(record.arm, record.seed) for record in records}
        return Run(records, [point for point in self.points if (point.arm, point.seed) in kept])

    def without(self, *names: str) -> Run:
        """The run without the curves of these names: nobody watched."""
        return Run(self.records, [point for point in self.points if point.name not in names])

    def changed(self, arm: str, **fields: Any) -> Run:
        """The run with fields of all records of an arm changed."""
        return replace(
            self,
            records=[msgspec.structs.replace(one, **fields) if one.arm == arm else one for one in self.records],
        )


@dataclass(frozen=True)
class Arm:
    """What is trained, and how well that goes: losses fall from `start` to `end`, whose seeds lie `noise` apart."""

    name: str
    method: str
    end: float
    train_end: float
    accuracy: float | None = None
    memory: float = 1.0
    seconds: float = 1.0
    noise: float = 0.004
    accuracy_noise: float = 0.004
    axes: tuple[tuple[str, Any], ...] = ()
    recipe: tuple[tuple[str, Any], ...] = ()


def chance(*words: object) -> float:
    """A number from −1 to 1 that depends on nothing but the words."""
    return random.Random(" ".join(map(str, words))).uniform(-1, 1)


def looks(every: int = EVERY) -> range:
    """The steps of evaluations: the first is before any, the last after all."""
    return range(0, STEPS + 1, every)


def fall(start: float, end: float, step: int) -> float:
    """A loss on its way."""
    return end + (start - end) * math.exp(-5 * step / STEPS)


def curves(arm: Arm, seed: int, start: float) -> list[Point]:
    """Losses, accuracy, learning rate and times of one seed."""
    shift = arm.noise * chance(arm.name, seed)
    found: list[Point] = []

    def log(step: int, name: str, value: float | None) -> None:
        found.append(Point(arm=arm.name, seed=seed, step=step, name=name, value=value))

    for step in range(10, STEPS + 1, 10):
        log(step, "train_loss", fall(start, arm.train_end, step) + shift + 0.05 * chance(arm.name, seed, step))
        log(step, "learning_rate", 1e-4 * (1 + math.cos(math.pi * step / STEPS)) / 2)
        log(step, "step_seconds", 0.05 * arm.seconds * (1 + 0.05 * chance("time", arm.name, seed, step)))
    for step in looks():
        late = 0.1 * arm.noise * chance("late", arm.name, seed, step)
        log(step, "validation_loss", fall(start, arm.end, step) + shift + late)
        if arm.accuracy is not None:
            wrong = fall(0.9, 1 - arm.accuracy, step) + arm.accuracy_noise * chance("accuracy", arm.name, seed)
            log(step, "validation_accuracy", 1 - wrong)
    return found


def record(arm: Arm, seed: int, points: Sequence[Point], experiment: str, **fields: Any) -> Record:
    """What is recorded of a seed that was trained to the end; its memory where it is the first."""

    def values(name: str) -> list[float]:
        return [point.value for point in points if point.name == name and point.value is not None]

    axes: dict[str, Any] = {"model": "vit", "seq": None, "vocab": None, "batch": 128, "depth": 6, "width": 512}
    of = synthetic.case(arm.method, seed=seed, train_steps=STEPS, arm=arm.name, **(axes | dict(arm.axes)))
    accuracies = values("validation_accuracy") or [None]
    losses = values("validation_loss")
    memory: dict[str, Any] = {}
    if seed == SEEDS[0]:
        activations = round(200 * MIB * arm.memory)
        memory = {"peak_bytes": 300 * MIB + activations, "activation_bytes": activations, "static_bytes": 300 * MIB}
    measured: dict[str, Any] = {
        "suite": experiment, "experiment": experiment, "recipe": RECIPE | dict(arm.recipe), "trained_steps": STEPS,
        "train_loss": sum(values("train_loss")[-10:]) / 10, "validation_loss": losses[-1],
        "best_validation_loss": min(losses), "validation_accuracy": accuracies[-1],
        "best_validation_accuracy": None if accuracies == [None] else max(values("validation_accuracy")),
        "epoch_seconds": 12.0 * arm.seconds * (1 + 0.02 * chance("epoch", arm.name, seed)),
        "train_seconds": 50.0 * arm.seconds,
        "weights_digest": hashlib.sha256(f"{arm.name} {seed}".encode()).hexdigest(),
    }  # fmt: skip
    return synthetic.record(of, **(measured | memory | fields))


def experiment(name: str, arms: Iterable[Arm], *, seeds: Sequence[int] = SEEDS, start: float = 2.3) -> Run:
    """The records and curves of an experiment."""
    records: list[Record] = []
    points: list[Point] = []
    for arm in arms:
        for seed in seeds:
            logged = curves(arm, seed, start)
            points += logged
            records.append(record(arm, seed, logged, name))
    return Run(records, points)


def failed(arm: Arm, seed: int, experiment: str, message: str, status: str = "error") -> Run:
    """A seed that came half the way."""
    logged = [point for point in curves(arm, seed, 2.3) if point.step <= STEPS // 2]
    whole = record(arm, seed, logged, experiment)
    axes = {name: getattr(whole.case(), name) for name in whole.case().__struct_fields__}
    told = {"suite": experiment, "experiment": experiment, "recipe": RECIPE, "status": status, "message": message}
    return Run([Record(**axes, **told, fingerprint="0" * 16)], logged)


def joined(*runs: Run) -> Run:
    """Several runs as one."""
    return Run([one for run in runs for one in run.records], [one for run in runs for one in run.points])


STANDARD = Arm("standard", "standard", 0.42, 0.05, 0.8815)
DROPOUT = Arm("dropout", "standard", 0.41, 0.10, 0.8840, recipe=(("dropout", 0.3),))
TWO_STREAM = Arm("two-stream", "two-stream", 0.46, 0.06, 0.8622, memory=0.35, seconds=1.5)
BDIA = Arm("bdia", "bdia", 0.36, 0.16, 0.8910, memory=0.42, seconds=1.4)
MOMENTUM = Arm("momentum", "momentum", 0.5, 0.2, 0.85, memory=0.4, seconds=1.5)


def table1() -> Run:
    """Images: four arms that ended well, and one of whose seeds one did not."""
    return joined(
        experiment("table1", (STANDARD, DROPOUT, TWO_STREAM, BDIA)),
        experiment("table1", (MOMENTUM,), seeds=(0,)),
        failed(MOMENTUM, 1, "table1", "loss is not finite at step 512"),
    )


TEXT = (("model", "gpt"), ("seq", 128), ("vocab", 256), ("batch", 16))


def fig3() -> Run:
    """Text, so without an accuracy: plain, quantised only, and BDIA."""
    return experiment(
        "fig3",
        (
            Arm("standard", "standard", 1.720, 1.60, axes=TEXT),
            Arm("quantised only", "standard-quantised", 1.721, 1.60, axes=(*TEXT, ("bits", 6))),
            Arm("bdia", "bdia", 1.700, 1.72, memory=0.3, seconds=1.4, axes=(*TEXT, ("bits", 6))),
        ),
        start=5.0,
    )


def watched(run: Run, arm: str, watch: Callable[[int, int], Iterable[dict[str, Any]]], every: int = EVERY) -> Run:
    """The run with what `watch(seed, step)` sees of an arm."""
    seeds = [record.seed for record in run.records if record.arm == arm]
    seen = [
        Point(arm=arm, seed=seed, step=step, **one)
        for seed in seeds
        for step in looks(every)
        for one in watch(seed, step)
    ]
    return Run(run.records, [*run.points, *seen])


NAIVE = Arm("bdia-naive", "bdia-naive", 1.75, 1.74, memory=0.3, seconds=1.4, axes=(*TEXT, ("depth", 24)))
EXACT = Arm("bdia", "bdia", 1.70, 1.72, memory=0.3, seconds=1.4, axes=(*TEXT, ("depth", 24), ("bits", 6)))


def naive_error(seed: int, step: int, block: int, depth: int = 24) -> float:
    """Doubles a block from the top down, and grows as activations do."""
    if block == depth - 1:
        return 0.0
    return 1e-7 * 2.0 ** (depth - 2 - block) * (1 + 30 * step / STEPS) * 1.5 ** chance(seed, step, block)


def fig1_trained() -> Run:
    """Reconstruction errors of both inverses, block by block."""

    def naive(seed: int, step: int) -> Iterable[dict[str, Any]]:
        for block in range(24):
            yield {"name": "reconstruction_error", "block": block, "value": naive_error(seed, step, block)}

    def exact(seed: int, step: int) -> Iterable[dict[str, Any]]:
        for block in range(24):
            yield {"name": "reconstruction_error", "block": block, "value": 0.0}

    run = experiment("fig1-trained", (NAIVE, EXACT), start=5.0)
    return watched(watched(run, "bdia-naive", naive), "bdia", exact)


def drift() -> Run:
    """Gradient errors of the whole model and of each block; the exact inverse has none."""

    def naive(seed: int, step: int) -> Iterable[dict[str, Any]]:
        yield {"name": "gradient_error", "value": 2 * naive_error(seed, step, 0)}
        for block in range(24):
            yield {"name": "gradient_error", "block": block, "value": naive_error(seed, step, block)}

    def exact(seed: int, step: int) -> Iterable[dict[str, Any]]:
        for block in (None, *range(24)):
            yield {"name": "gradient_error", "block": block, "value": 0.0}

    run = experiment("drift", (NAIVE, EXACT), start=5.0)
    return watched(watched(run, "bdia-naive", naive), "bdia", exact)


def bits() -> Run:
    """A sweep over l, from too coarse to beyond the exact range, beside the plain transformer."""
    plain = Arm("standard", "standard", 1.72, 1.60, axes=TEXT)
    arms = [
        Arm(f"l={l}", "bdia", 1.70 + 0.5 * 4.0 ** (3 - l), 1.72, memory=0.3, axes=(*TEXT, ("bits", l)))
        for l in range(3, 15)  # noqa: E741
    ]
    run = experiment("bits", (plain, *arms[:-1]), start=5.0)
    for arm in arms[:-1]:

        def watch(seed: int, step: int) -> Iterable[dict[str, Any]]:
            largest = 2.0 + 500 * step / STEPS * (1 + 0.1 * chance(seed, step))
            yield {"name": "max_abs", "value": largest}
            yield {"name": "largest_bits", "value": float(24 - math.ceil(math.log2(1.5 * largest)))}
            yield {"name": "reconstruction_error", "block": 0, "value": 0.0}

        run = watched(run, arm.name, watch)
    beyond = [failed(arms[-1], seed, "bits", "l = 14 is beyond the exact range", "unsupported") for seed in SEEDS]
    return joined(run, *beyond)


def gamma() -> Run:
    """A sweep over γ, without quantisation and with."""
    best = {"0": 0.8815, "0.25": 0.8885, "0.5": 0.8912, "0.6": 0.8890}
    loose = [
        Arm(f"γ={text}", "bdia-unquantised", 0.42, 0.1, accuracy, axes=(("gamma", text),))
        for text, accuracy in best.items()
    ]
    exact = [
        Arm(f"bdia γ={text}", "bdia", 0.42, 0.1, best[text] - 0.001, memory=0.4, axes=(("gamma", text),))
        for text in ("0.25", "0.5")
    ]
    return experiment("gamma", (*loose, *exact))


def gamma_inference() -> Run:
    """Accuracy at fixed γ: best at 0, and falling sooner for what was not trained with any."""
    run = experiment("gamma-inference", (STANDARD, BDIA))
    for arm, fall_off in ((STANDARD, 0.5), (BDIA, 0.12)):

        def watch(seed: int, step: int, arm: Arm = arm, fall_off: float = fall_off) -> Iterable[dict[str, Any]]:
            for tenth in range(-5, 6):
                value = (arm.accuracy or 0) - fall_off * (tenth / 10) ** 2 + 0.004 * chance(seed, arm.name)
                yield {"name": "accuracy_at_gamma", "gamma": tenth / 10, "value": value}
                yield {"name": "loss_at_gamma", "gamma": tenth / 10, "value": 0.4 + fall_off * (tenth / 10) ** 2}

        run = watched(run, arm.name, watch, every=STEPS)
    return run


RUNS: dict[str, Callable[[], Run]] = {
    "table1": table1, "fig3": fig3, "fig1-trained": fig1_trained, "drift": drift, "bits": bits, "gamma": gamma,
    "gamma-inference": gamma_inference,
}  # fmt: skip
