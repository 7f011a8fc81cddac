"""Colours of the figures, on light paper and on dark: each keeps its hue, and its contrast, on either."""

from __future__ import annotations

import colorsys
from typing import Final

LIGHT_PAPER: Final = "#ffffff"
"""The card that a figure lies on; `page.css` has the same two."""
DARK_PAPER: Final = "#1b1e22"
_DARK_INK: Final = 0.92
"""Lightness of what is black on light paper."""
_CONTRAST: Final = 4.5
"""What WCAG 2 asks of text; lines and markers get it too, since they have the colours of their labels."""


def on_dark(colour: str) -> str:
    """`colour`, `#rrggbb` as meant for white paper, for dark paper: greys turned over, others as light as it takes."""
    red, green, blue = _channels(colour)
    _, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    if saturation < 0.05:
        paper = _channels(DARK_PAPER)
        return _hex(*(channel + (1 - lightness) * (_DARK_INK - channel) for channel in paper))
    return _towards(1.0, colour, DARK_PAPER)


def ink(colour: str) -> str:
    """`colour` of a text on white paper, as dark as it takes to be read."""
    return _towards(0.0, colour, LIGHT_PAPER)


def contrast(colour: str, paper: str) -> float:
    """The contrast ratio of WCAG 2 between two colours `#rrggbb`, from 1 to 21."""
    low, high = sorted((_luminance(colour), _luminance(paper)))
    return (high + 0.05) / (low + 0.05)


def _towards(end: float, colour: str, paper: str) -> str:
    """The first colour that stands out from `paper`, as the lightness of `colour` goes to `end`."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_channels(colour))
    for step in range(51):
        between = lightness + (end - lightness) * step / 50
        found = _hex(*colorsys.hls_to_rgb(hue, between, saturation)) if step else colour
        if contrast(found, paper) >= _CONTRAST:
            break
    return found


def _luminance(colour: str) -> float:
    linear = [
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in _channels(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _hex(*channels: float) -> str:
    return "#" + bytes(round(255 * channel) for channel in channels).hex()
