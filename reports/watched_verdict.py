"""The sentences on what was watched while arms were trained: what was rebuilt, and the gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench import words
from reports import units, watched
from reports.arms import Arm, over
from reports.watched import Series


def rebuilt(found: Sequence[Arm]) -> str:
    """What became of the reconstruction error while training."""
    clauses, exact = [], []
    for one, ends in _seen(found, "reconstruction_error", blocks=True):
        if ends is None:
            exact.append(one.label)
        else:
            first, last = ends
            clauses.append(
                f"the reconstruction error of {one.label} was {first} at worst at first and {last} at the end"
            )
    if exact:
        clauses.append(f"{listed(exact)} rebuilt every block bit for bit at every look")
    return sentence(clauses)


def gradients(found: Sequence[Arm]) -> str:
    """What became of the gradients, and of the loss all the while."""
    clauses, exact = [], []
    for one, ends in _seen(found, "gradient_error", blocks=False):
        if ends is None:
            exact.append(one.label)
        else:
            first, last = ends
            clauses.append(
                f"the gradients of {one.label} were off by up to {first} at first and up to {last} at the end"
                + _loss(one)
            )
    if exact:
        clauses.append(f"those of {listed(exact)} were exact at every look")
    return sentence(clauses)


def _seen(found: Sequence[Arm], name: str, *, blocks: bool) -> Iterator[tuple[Series, tuple[str, str] | None]]:
    """Each series of an error, with the largest of its first and of its last look; None where all are 0."""
    for one in watched.series(found, name, blocks=blocks):
        points = one.points(blocks=blocks)
        looks = over(points, lambda point: point.step)
        if points and all(point.value == 0 for point in points):
            yield one, None
        elif looks:
            (_, first), (_, last) = looks[0], looks[-1]
            yield one, (units.error(max(first.values)), units.error(max(last.values)))


def _loss(one: Series) -> str:
    """What the loss did as the gradients of the arm that was trained by them went wrong."""
    losses = (one.arm.curve("validation_loss") or one.arm.curve("train_loss")) if one.own else []
    if len(losses) < 2:
        return ""
    start, end = losses[0][1].mean, losses[-1][1].mean
    return f", while its loss {'fell' if end < start else 'rose'} from {units.fixed(start, 2)} to {units.fixed(end, 2)}"


def sentence(clauses: Sequence[str]) -> str:
    """The clauses as a sentence, with a capital unless it begins with the name of an arm; empty without any."""
    said = "; ".join(clauses)
    return f"{said[0].upper() if said.startswith(('the ', 'those ')) else said[0]}{said[1:]}." if said else ""


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, or how many arms they are where there are many."""
    if len(names) > 3:
        return words.counted(len(names), "arm")
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
