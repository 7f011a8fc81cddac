"""A run of many records, as large sweeps leave them: six methods a group, some cases ended badly, Fig. 1's lists in
full. What the reports, `compare` and `check` must be quick with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import synthetic_records as made

from bench import parts, store
from bench.case import Case
from bench.record import Record

METHODS = (*made.METHODS, "bdia-unquantised")
DEPTHS = (12, 16, 20, 24, 28, 32, 40, 48)
WIDTHS = (128, 256, 384, 512, 768)
AXES: dict[str, tuple[int, ...]] = {"seed": tuple(range(100)), "batch": (2, 4, 8, 16), "seq": (64, 128, 256)}
LEAK_BYTES = 4096
"""What a block too many keeps, in a run with a leak."""
ENVIRONMENT = Path(__file__).parent.parent / "docs" / "results" / "quick"
"""A run whose machine these are said to be of."""


def records(count: int, *, leaking: str | None = None) -> list[Record]:
    """`count` records of groups of six, depth after depth of one width; those of the method `leaking` hold 4 KiB a
    block more than they should."""
    return list(itertools.islice(_all(leaking), count))


def write(directory: Path, records: list[Record]) -> Path:
    """The records as a run's directory."""
    earlier = store.read_run(ENVIRONMENT)
    assert earlier is not None
    directory.mkdir(parents=True, exist_ok=True)
    (directory / store.RUN).write_bytes(msgspec.json.encode(msgspec.structs.replace(earlier, suite="large")))
    encode = msgspec.json.Encoder().encode
    (directory / store.RESULTS).write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return directory


def _all(leaking: str | None) -> Iterator[Record]:
    names = (*AXES, "width", "depth")
    for number, values in enumerate(itertools.product(*AXES.values(), WIDTHS, DEPTHS)):
        axes = dict(zip(names, values, strict=True)) | {"heads": values[-2] // 64}
        for method in METHODS:
            of = made.case(method, **axes)
            yield _ended_badly(of, number) or _measured(of, number, LEAK_BYTES if method == leaking else 0)


def _ended_badly(of: Case, number: int) -> Record | None:
    """One case in forty or so, with a message of its own or one that others have as well."""
    if of.method == "standard" and number % 10 == 9:
        return made.failed(of, "oom", f"needed {made.activation_bytes(of)} bytes more than there are")
    if of.method == "bdia-stored" and number % 20 == 19:
        return made.failed(of, "skipped", "a smaller case of this method ran out of memory")
    return None


def _measured(of: Case, number: int, leak: int) -> Record:
    held = _parts(of, leak)
    activation = parts.total(held)
    static = {"parameters": 12 * of.depth * of.width**2, "gradients": 12 * of.depth * of.width**2}
    peak: Any = static | held | {"optimizer_state": 24 * of.depth * of.width**2}
    peak = {name: peak[name] for name in parts.NAMES if name in peak}
    return made.full(
        of, rounds_id=f"{number:032x}", fingerprint=f"{number:016x}", activation_bytes=activation,
        activation_parts=held, peak_bytes=parts.total(peak), peak_parts=peak, loss_plain=5.545,
        loss_method=5.545 if of.method in ("standard", "checkpoint") else 5.551,
    )  # fmt: skip


def _parts(of: Case, leak: int) -> parts.Parts:
    blocks = range(of.depth)
    working = made.elements(of) * 4
    each = (made.activation_bytes(of) - 20 * working) // of.depth
    kept: parts.PartName = {"checkpoint": "residual_states", "bdia": "side_bits"}.get(of.method, "block")  # type: ignore[assignment]
    flat: parts.Flat = {(kept, block): each for block in blocks}
    flat |= {("block", block): flat.get(("block", block), 0) + leak for block in blocks}
    # The moment of the peak: one block at work, two states of the stream, the loss.
    flat["block", of.depth - 1] += 17 * working
    flat["residual_states", of.depth - 1] = flat.get(("residual_states", of.depth - 1), 0) + 2 * working
    flat["head_and_loss", None] = working
    return parts.packed(flat)
