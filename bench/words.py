"""Counting in words. Imports nothing."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """So many of something, whose plural ends in s: `1 case`, `12 cases`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def be(number: int) -> str:
    """`is` of one, `are` of any other number."""
    return "is" if number == 1 else "are"
