"""Experiments: what is trained side by side to answer one question, a TOML file each. Imports no torch.

    title = "…"        question = "…"        expect = "the shape expected of the answer"
    seeds = 3          # how many, from 0 on
    [defaults]         # of every arm: axes of its case, fields of its recipe, watch, watch_every, data
    [full]  [small]    # laid over the defaults: the paper's configuration, and one for minutes on a CPU
    [[arms]]           # laid over both: one thing that is trained, under a `name`; `form` where it is of one form alone

Nothing is crossed: each key has one value. `epochs` may stand in the place of `steps`. `data` names a data set of
`bench.data.sets` that `--data` must lead to; without it any data of the model's kind will do, or the built-in one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Final, Literal, get_args

import msgspec

from bench import axes, models, points, recipe, resolve, toml, watches
from bench.axes import AxisValue
from bench.case import Case, Measurement, Plan
from bench.data import splits
from bench.errors import UsageError
from bench.models import ModelSpec
from bench.recipe import Recipe, Training

OF: Final = "experiment "
"""And its name: what a run of an experiment is a run of. It is no suite, so that `run` does not go on with it."""
Form = Literal["full", "small"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)

AXES: Final = tuple(name for name in axes.NAMES if name not in ("device", "seed", "train_steps"))
"""What of a case an experiment settles."""
ORDER: Final = ("table1", "fig2", "fig3", "fig1-trained", "bits", "gamma", "gamma-inference", "drift", "resnet")
"""Of the built-in ones: the paper's own first."""
_WATCHING: Final = ("watch", "watch_every")
KEYS: Final = (*AXES, *recipe.FIELDS, "epochs", *_WATCHING, "data")
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
"""Of an arm: it names folders."""
_MEMORY: Final[frozenset[Measurement]] = frozenset(("memory",))


class Arm(msgspec.Struct, frozen=True):
    """One thing that is trained."""

    name: str
    form: Form | None
    """The one form that it is part of; None for both."""
    values: Mapping[str, Any]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """One question, and what is trained to answer it."""

    name: str
    file: str
    """What errors call it: the file as it was given, or `experiment NAME` for a built-in one."""
    title: str
    question: str
    expect: str
    seeds: int
    layers: Mapping[Form, Mapping[str, Any]]
    """The defaults with those of a form laid over them."""
    arms: tuple[Arm, ...]

    def chosen(self, form: Form, names: Sequence[str] = ()) -> tuple[Arm, ...]:
        """The arms of a form, or those of them that are named.

        Raises: UsageError for a name that none has.
        """
        there = [arm for arm in self.arms if arm.form in (None, form)]
        known = [arm.name for arm in there]
        for name in names:
            if name not in known:
                raise UsageError(f"--arms: unknown arm {name!r}{axes.suggest(name, known)}")
        return tuple(arm for arm in there if not names or arm.name in names)

    def plans(
        self,
        form: Form,
        *,
        device: str,
        data: str | None = None,
        seeds: int | None = None,
        steps: int | None = None,
        arms: Sequence[str] = (),
    ) -> list[Plan]:
        """What is to be trained: each arm at the first seed, then each at the second, and so on, so that what is there
        after a while can be compared. Memory is measured of an arm once, at its first seed.

        Raises: UsageError, before anything runs, for an arm that cannot be, and data that is not there.
        """
        found = []
        trained = [(arm, self._training(arm, form, data, steps)) for arm in self.chosen(form, arms)]
        for seed in range(self.seeds if seeds is None else seeds):
            for arm, (point, path, training) in trained:
                made = points.plan(
                    {**point, "seed": seed}, _MEMORY if seed == 0 else frozenset(), device=device, path=path,
                    where=self._where(arm), introduced={},
                )  # fmt: skip
                case = msgspec.structs.replace(made.case, arm=arm.name, train_steps=training.recipe.steps)
                watched = _watching(arm, case, training, self._where(arm))
                found.append(msgspec.structs.replace(made, case=case, training=watched))
        return found

    def _where(self, arm: Arm) -> str:
        return f"{self.file}: arm {arm.name}"

    def _training(
        self, arm: Arm, form: Form, data: str | None, steps: int | None
    ) -> tuple[dict[str, AxisValue], str | None, Training]:
        """Its axes, the path of its data, and how it is trained."""
        where = self._where(arm)
        values = {**self.layers[form], **arm.values}
        point = {name: axes.check(name, values[name], f"{where}: {name}") for name in AXES if name in values}
        model = _model(point, where)
        try:
            path = _path(values.get("data"), model, data)
        except UsageError as error:
            spared = form != "small" and self.layers["small"].get("data") is None
            raise UsageError(f"{where}: {error}{'; --small needs no download' if spared else ''}") from error
        options = {name: values[name] for name in recipe.FIELDS if name in values}
        if steps is not None:
            options["steps"] = steps
        elif "epochs" in values:
            batch = int(point.get("batch", model.defaults["batch"]))
            options["steps"] = _steps(values["epochs"], model, path, batch, where)
        elif "steps" not in options:
            raise UsageError(f"{where}: no steps: expected a whole number at least 1; set it there, or by --steps")
        for name, known in (("optimizer", recipe.OPTIMIZERS), ("schedule", recipe.SCHEDULES)):
            if name in options and options[name] not in known:
                raise UsageError(
                    f"{where}: {name} {axes.shown(options[name])}{axes.suggest(str(options[name]), known)}"
                )
        made = toml.convert(options, Recipe, where)
        if made.min_lr > made.lr:
            raise UsageError(f"{where}: min_lr {made.min_lr}: expected at most lr, {made.lr}")
        if made.augment and model.input != "images":
            raise UsageError(f"{where}: augment: images are augmented, and {model.name} reads text; leave it out")
        options = {name: values[name] for name in _WATCHING if name in values}
        training = toml.convert({"experiment": self.name, "recipe": made, **options}, Training, where)
        return point, path, training


def names() -> tuple[str, ...]:
    """The built-in experiments."""
    found = toml.names(_folder())
    return (*(name for name in ORDER if name in found), *(name for name in found if name not in ORDER))


def load(name_or_path: str) -> Experiment:
    """The built-in experiment of that name, or the one in a file whose name ends in `.toml`.

    Raises: UsageError for an unknown name, a file that is not there or cannot be read, TOML that is none, and keys and
    values that are not an experiment's.
    """
    name, file = toml.named(name_or_path, "experiment")
    return read(toml.content(name_or_path, _folder(), "experiment", names()), name, file)


def read(content: bytes, name: str, file: str) -> Experiment:
    """The experiment in `content`; `file` names it in errors.

    Raises: UsageError.
    """
    table = toml.table(content, file)
    toml.check_keys(table, _File.__struct_fields__, file)
    parsed = toml.convert(table, _File, file, 'expected a title = "…" and [[arms]], there is no')
    if not parsed.arms:
        raise UsageError(f"{file}: no [[arms]]: expected at least one, with a name and a method")
    layers = {}
    for form in FORMS:
        own = getattr(parsed, form)
        toml.check_keys(own, KEYS, f"{file}: [{form}]")
        layers[form] = _without_the_other(parsed.defaults, own)
    toml.check_keys(parsed.defaults, KEYS, f"{file}: [defaults]")
    arms = tuple(_arm(one, number, file) for number, one in enumerate(parsed.arms, 1))
    for form in FORMS:
        held: set[str] = set()
        for arm in arms:
            if arm.form in (None, form):
                if arm.name in held:
                    raise UsageError(f"{file}: two arms are called {arm.name!r}; give each a name of its own")
                held.add(arm.name)
    return Experiment(
        name=name, file=file, title=parsed.title, question=parsed.question, expect=parsed.expect, seeds=parsed.seeds,
        layers=layers, arms=arms,
    )  # fmt: skip


class _File(msgspec.Struct, frozen=True):
    """An experiment's file as it is written."""

    title: str
    arms: list[dict[str, Any]]
    question: str = ""
    expect: str = ""
    seeds: Annotated[int, msgspec.Meta(ge=1, le=axes.LONGEST)] = 3
    defaults: dict[str, Any] = {}
    full: dict[str, Any] = {}
    small: dict[str, Any] = {}


def _arm(table: Mapping[str, Any], number: int, file: str) -> Arm:
    where = f"{file}: [[arms]] {number}"
    toml.check_keys(table, ("name", "form", *KEYS), where)
    name, form = table.get("name"), table.get("form")
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise UsageError(
            f"{where}: name {axes.shown(name)}: expected a name of letters, digits, and . _ + - within it, which "
            "folders can be called by"
        )
    if form is not None and form not in FORMS:
        raise UsageError(f"{where}: form {axes.shown(form)}: expected one of {', '.join(FORMS)}, or none for both")
    return Arm(name, form, {key: value for key, value in table.items() if key not in ("name", "form")})


def _without_the_other(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, where `steps` and `epochs` replace each other."""
    left_out = {"steps": "epochs", "epochs": "steps"}
    hidden = {left_out[name] for name in above if name in left_out}
    return {**{name: value for name, value in below.items() if name not in hidden}, **above}


def _model(point: Mapping[str, AxisValue], where: str) -> ModelSpec:
    """The model of an arm. Raises: UsageError where it, or its method, is none that can be trained here."""
    for name in ("method", "model"):
        if name not in point:
            raise UsageError(f"{where}: no {name}: expected {axes.get(name).expected()}; set it there")
    try:
        resolve.method(str(point["method"]))
        found = models.get(str(point["model"]))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if found.foreign:
        raise UsageError(
            f"{where}: model {found.name!r}: of a model from outside the table no validation set is known; take one of "
            f"{', '.join(models.names())}"
        )
    return found


def _path(wanted: object, model: ModelSpec, given: str | None) -> str | None:
    """The data to train on: what is given or, where an experiment is about a certain set, what is called so below it.

    Raises: UsageError, with the layout that is expected, where it is not there.
    """
    assert model.input is not None
    if wanted is None:
        splits.check(model.input, given)
        return given
    if wanted not in splits.known():
        raise UsageError(f"data {axes.shown(wanted)}{axes.suggest(str(wanted), splits.known())}")
    path = splits.below(str(wanted), given)
    splits.require(str(wanted), model.input, path)
    splits.check(model.input, path)
    return path


def _watching(arm: Arm, case: Case, training: Training, where: str) -> Training:
    """What of the watches there is something to see of in this arm; one that is the arm's own must be.

    Raises: UsageError.
    """
    kept = []
    try:
        for watch in watches.named(training.watch):
            obstacle = watch.obstacle(case)
            if obstacle is None:
                kept.append(watch.name)
            elif "watch" in arm.values:
                raise UsageError(f"watch: {obstacle}")
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return msgspec.structs.replace(training, watch=tuple(kept))


def _steps(epochs: object, model: ModelSpec, path: str | None, batch: int, where: str) -> int:
    """The steps of so many passes over the training set."""
    if isinstance(epochs, bool) or not isinstance(epochs, int | float) or not 0 < epochs <= axes.LARGEST:
        raise UsageError(f"{where}: epochs {axes.shown(epochs)}: expected a number above 0")
    if model.input != "images":
        raise UsageError(f"{where}: epochs {epochs}: {model.name} reads a text at random places; give steps instead")
    from bench.data import order  # imports NumPy, which takes longer than all else that a list of experiments needs

    return max(1, round(epochs * order.batches_an_epoch(splits.image_count(path, "train"), batch)))


def _folder() -> Traversable:
    return resources.files("suites") / "experiments"
