"""What a child measures of one plan, in this process."""

from __future__ import annotations

from bench import child
from bench.case import Plan
from bench.protocol import Finished


def measured(plan: Plan) -> Finished:
    """Its answer; what it told on the way is in it."""
    return child._measure(0, plan, lambda event: None)
