"""Horizontal bars as SVG: one panel for each measure. Texts are texts, in the colour of what is around them, so that
they are readable on light and on dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from pipeline.lab.program import LabError

__all__ = ["OTHERS", "OURS", "Bar", "Panel", "inline", "require_matplotlib", "standalone", "svg"]

#: Colours of ours and of others, in turn.
OURS = ("#3a7ebf", "#2a9187", "#8a6fc0")
OTHERS = ("#c2553a", "#c08a1e", "#7d7f85", "#a0527f", "#6b8e3d")

#: Is replaced: nothing else has it.
_INK = "#010203"
_FADED = 0.35
_PANEL_INCHES = (3.5, 0.42)
_HEAD_INCHES = 0.6
_GAPS_INCHES = {"w_pad": 0.14, "h_pad": 0.08}
_SCHEME = "<style>svg{color:#1b1f24}@media(prefers-color-scheme:dark){svg{color:#e6e8eb}}</style>"


class Bar(NamedTuple):
    """Its label, its length (None: there is none), how it is written, its colour, and the worst case if any."""

    label: str
    value: float | None
    text: str
    color: str
    worst: float | None = None


class Panel(NamedTuple):
    """A measure and its bars, from the top."""

    title: str
    bars: Sequence[Bar]


def require_matplotlib(command: str) -> None:
    """Say so before the run of `command`, not after it.

    Raises:
        LabError: it is not there.
    """
    if find_spec("matplotlib") is None:
        raise LabError(f"{command} draws with matplotlib, which is not here; run: pip install matplotlib")


def svg(panels: Sequence[Panel], *, columns: int) -> str:
    """The panels as SVG, so many beside each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    lines = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [_HEAD_INCHES + _PANEL_INCHES[1] * max(len(panel.bars) for panel in line) for line in lines]
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": f"bars-{columns}", "font.size": 9}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(_PANEL_INCHES[0] * columns, sum(heights)), layout="constrained")
        engine: Any = figure.get_layout_engine()
        engine.set(**_GAPS_INCHES)
        grid = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
        for line, axes_of_line in zip(lines, grid, strict=True):
            most = max(len(panel.bars) for panel in line)
            for number, axes in enumerate(axes_of_line):
                axes.set_axis_off()
                if number < len(line):
                    _draw(axes, line[number], most)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _plain(out.getvalue())


def _draw(axes: Any, panel: Panel, most: int) -> None:
    """Draw a panel with room for `most` bars, so that those beside each other have bars of one height."""
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=_INK)
    top = max([0.0, *(value for bar in panel.bars for value in (bar.value, bar.worst) if value)]) or 1.0
    for place, bar in enumerate(panel.bars):
        height = most - place
        if bar.worst:
            axes.barh(height, bar.worst, height=0.3, color=bar.color, alpha=_FADED)
        axes.barh(height, bar.value or 0.0, height=0.3, color=bar.color)
        # Above its bar: beside it there is no room in a narrow window.
        axes.text(0, height + 0.22, bar.label, color=_INK, va="bottom", ha="left", fontsize=8.5)
        axes.text(top, height + 0.22, bar.text, color=_INK, va="bottom", ha="right", fontsize=8.5)
    axes.set_xlim(0, top)
    axes.set_ylim(0.75, most + 0.75)


def _plain(text: str) -> str:
    """The element alone, with nothing in it that points elsewhere."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text.replace(_INK, "currentColor")


def inline(drawn: str, label: str) -> str:
    """For a page: without namespaces, which HTML knows by itself, and as wide as there is room."""
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn)
    return re.sub(r'<svg width="[^"]*" height="[^"]*"|<svg', f'<svg role="img" aria-label="{label}"', drawn, count=1)


def standalone(drawn: str) -> str:
    """For a file: dark or light as the reader has it."""
    end = drawn.index(">", drawn.index("<svg")) + 1
    return f'<?xml version="1.0" encoding="utf-8"?>\n{drawn[:end]}{_SCHEME}{drawn[end:]}'
