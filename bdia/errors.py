"""The errors `bdia` raises on purpose. Each message is one line: the value, what was expected, what to do."""


class BdiaError(Exception):
    """Base of every error that `bdia` raises on purpose."""


class MethodError(BdiaError, ValueError):
    """A method name, a rule or a strategy that does not exist, or a pair that cannot work together."""


class AttachError(BdiaError, ValueError):
    """A method cannot be attached to this model as asked."""


class TapeError(BdiaError, RuntimeError):
    """The forward broke a promise that reconstruction rests on: x changed between two blocks, a second
    backward, a block called outside the forward of the module that owns the loop, …"""


class BudgetError(BdiaError, ValueError):
    """The blocks cannot be held to a budget.

    Attributes: `limit` (the budget, in bytes) and `needed` (about what would do; None where that is not known)."""

    def __init__(self, message: str, *, limit: int, needed: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.needed = needed


class ReconstructionError(BdiaError, RuntimeError):
    """The activations rebuilt in the backward are not those of the forward, so the gradients would be wrong.

    Attributes: `block` (its name); where `verify` could tell, `element` (as `[0, 3, 7]`), and `forward` and `rebuilt`,
    the values there."""

    def __init__(
        self,
        message: str,
        *,
        block: str | None = None,
        element: str | None = None,
        forward: float | None = None,
        rebuilt: float | None = None,
    ) -> None:
        super().__init__(message)
        self.block = block
        self.element = element
        self.forward = forward
        self.rebuilt = rebuilt


class HeadroomError(BdiaError, OverflowError):
    """The residual stream left the range in which fp32 holds every multiple of 2^-l exactly (see
    `bdia.quantize.exact_limit`).

    Attributes: `block` (index of the call), `max_abs` (the largest |x| seen there), `bits` (l), and
    `largest_bits` (the largest l that would have been exact; None where none would)."""

    def __init__(self, message: str, *, block: int, max_abs: float, bits: int, largest_bits: int | None) -> None:
        super().__init__(message)
        self.block = block
        self.max_abs = max_abs
        self.bits = bits
        self.largest_bits = largest_bits
