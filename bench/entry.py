"""What a baseline remembers of one case: a line of its file. Imports no torch."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Final

import msgspec

from bench.case import Case
from bench.comparison import Measured
from bench.parts import Parts
from bench.record import Status
from bench.tolerance import Metric, Tolerances

_NOISY: Final[tuple[Metric, ...]] = ("gradient_error", "rounding_error")
"""What differs between processors by the noise of rounding."""
_RATE_DECIMALS: Final = 4
"""No timing is good to more, and lines are to be read."""

Count = Annotated[int, msgspec.Meta(ge=0)]
"""As it is read: a file is edited by hand, and merged, and less than nothing is a slip."""
Size = Annotated[float, msgspec.Meta(ge=0)]


class Entry(Case, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One case of a baseline. What is null, or has not been verified, is left out of its line."""

    # Axes that a case may lack.
    depth: int | None = None
    width: int | None = None
    heads: int | None = None
    seq: int | None = None
    batch: int | None = None
    bits: int | None = None
    vocab: int | None = None
    data: str | None = None

    status: Status
    verify: bool = False
    """Every rebuilt activation was checked; what that costs is in the bytes."""
    activation_bytes: Count | None = None
    peak_bytes: Count | None = None
    side_bytes: Count | None = None
    bit_exact: bool | None = None
    gradient_error: Size | None = None
    rounding_error: Size | None = None
    rate_ratio: Size | None = None
    """Of `standard`'s step over this method's; only where it was asked for."""
    blocks: Count | None = None
    stream_elements: Count | None = None
    stream_dtype: str | None = None
    activation_parts: Parts | None = None
    peak_parts: Parts | None = None

    def __post_init__(self) -> None:
        """Raises: ValueError for a part of less than nothing, but of `other`, which is what is left of the figure."""
        super().__post_init__()
        for name, held in (*(self.activation_parts or {}).items(), *(self.peak_parts or {}).items()):
            least = held if isinstance(held, int) else min(held.values(), default=0)
            if least < 0 and name != "other":
                raise ValueError(f"{name} of {least} bytes: expected 0 or more")

    def case(self) -> Case:
        """The case this entry is of."""
        return Case(**dict(zip(_AXES, _axes(self), strict=True)))


_AXES: Final = Case.__struct_fields__
_axes: Final = attrgetter(*_AXES)
_SHARED: Final = tuple(name for name in Entry.__struct_fields__ if name != "rate_ratio")


def entry(measured: Measured, rate_ratio: float | None = None) -> Entry:
    """What the baseline remembers of a record."""
    fields = {name: getattr(measured, name) for name in _SHARED}
    return Entry(**fields, rate_ratio=None if rate_ratio is None else round(rate_ratio, _RATE_DECIMALS))


def renewed(old: Entry | None, new: Entry, rated: bool) -> Entry:
    """`new` with what it does not renew of `old`: noise and, unless it is `rated`, the rate ratio."""
    if old is None:
        return new
    kept = {} if rated else {"rate_ratio": old.rate_ratio}
    allowed = Tolerances()
    for metric in _NOISY:
        was, now = getattr(old, metric), getattr(new, metric)
        if was is not None and now is not None and allowed.of(metric).allows(was, now):
            kept[metric] = was
    return msgspec.structs.replace(new, **kept) if kept else new


def order(entry: Entry) -> tuple[tuple[bool, object], ...]:
    """A sorting key: the case's axes in turn; a case without an axis comes before one that has it."""
    return tuple((value is not None, value) for value in _axes(entry))
