"""Colours that can be read: contrast as WCAG 2 counts it, and the shade of a colour that has enough of it. Pure."""

from __future__ import annotations

__all__ = ["READABLE", "contrast", "ink_on", "shade"]

#: Contrast of text with what is behind it (WCAG 2, level AA).
READABLE = 4.5

_BLACK, _WHITE = "#000000", "#ffffff"
_STEPS = 50


def contrast(one: str, other: str) -> float:
    """From 1 (the same) to 21 (black on white). Colours are `#rrggbb`."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on `colour`; always at least `READABLE`."""
    return max((_WHITE, _BLACK), key=lambda ink: contrast(ink, colour))


def shade(colour: str, paper: str, ratio: float = READABLE) -> str:
    """`colour`, or the nearest mix of it with black or white that has `ratio` on `paper`."""
    towards = ink_on(paper)
    for step in range(_STEPS + 1):
        mixed = _mix(colour, towards, step / _STEPS)
        if contrast(mixed, paper) >= ratio:
            return mixed
    raise ValueError(f"nothing has a contrast of {ratio:g} on {paper}")


def _mix(one: str, other: str, share: float) -> str:
    pairs = zip(_channels(one), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(channel / 255) for channel in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
