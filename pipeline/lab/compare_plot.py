"""The plot of a comparison: one panel for each measure, a bar for each contender. The less, the better, everywhere.

SVG with texts as texts, in the colour of what is around it, so that it is readable on light and on dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from pipeline.lab.compare_result import Result
from pipeline.lab.program import LabError

__all__ = ["inline", "panels", "require_matplotlib", "standalone", "svg"]

#: Is replaced: nothing else has it.
_INK = "#010203"
_GENERIC = ("#c2553a", "#c08a1e")
_OURS = ("#3a7ebf", "#2a9187", "#8a6fc0")
_FADED = 0.35
_PANEL_INCHES = (3.5, 0.42)
_HEAD_INCHES = 0.6
_GAPS_INCHES = {"w_pad": 0.14, "h_pad": 0.08}
_SCHEME = "<style>svg{color:#1b1f24}@media(prefers-color-scheme:dark){svg{color:#e6e8eb}}</style>"


class Panel(NamedTuple):
    """A measure: its title, a value for each contender (None: there is none), how it is written, and where the worst
    case is more than the value.
    """

    title: str
    values: list[float | None]
    texts: list[str]
    worst: list[float | None]


def require_matplotlib() -> None:
    """Say so before the run, not after it.

    Raises:
        LabError: it is not there.
    """
    if find_spec("matplotlib") is None:
        raise LabError("leads compare draws with matplotlib, which is not here; run: pip install matplotlib")


def panels(results: Sequence[Result]) -> list[Panel]:
    """What is drawn."""

    def plain(title: str, of: Callable[[Result], float | None], form: str) -> Panel:
        values = [of(one) for one in results]
        return Panel(title, values, [_text(value, form) for value in values], [None] * len(values))

    first, zero = ([getattr(one.measures, name) for one in results] for name in ("first_write", "lag_zero"))
    return [
        plain("leads lost", lambda one: one.measures.lost, "{:,.0f}"),
        plain("leads counted twice", lambda one: one.measures.doubled, "{:,.0f}"),
        plain("delivered again, leads per kill", lambda one: one.measures.again_per_kill, "{:,.1f}"),
        *(
            Panel(
                f"{what} after a kill, s: median, worst",
                [one.median_s for one in spreads],
                [f"{_text(one.median_s, '{:.1f}')}, {_text(one.worst_s, '{:.1f}')}" for one in spreads],
                [one.worst_s for one in spreads],
            )
            for what, spreads in (("first write", first), ("lag 0", zero))
        ),
        plain("a backlog, CPU s per million leads", lambda one: one.backlog_cpu_s_per_million, "{:,.0f}"),
    ]


def svg(results: Sequence[Result], *, columns: int) -> str:
    """The panels as SVG, so many beside each other."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    drawn = panels(results)
    lines = -(-len(drawn) // columns)
    width, each = _PANEL_INCHES
    size = (width * columns, lines * (_HEAD_INCHES + each * len(results)))
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": f"compare-{columns}", "font.size": 9}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        engine: Any = figure.get_layout_engine()
        engine.set(**_GAPS_INCHES)
        grid = figure.subplots(lines, columns, squeeze=False).flatten()
        for axes, panel in zip(grid, drawn, strict=False):
            _draw(axes, panel, results)
        for axes in grid[len(drawn) :]:
            axes.set_axis_off()
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _plain(out.getvalue())


def _draw(axes: Any, panel: Panel, results: Sequence[Result]) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=_INK)
    axes.set_axis_off()
    top = max([*filter(None, panel.values), *filter(None, panel.worst)], default=1.0)
    for place, (result, color) in enumerate(zip(results, _colors(results), strict=True)):
        height = len(results) - place
        if worst := panel.worst[place]:
            axes.barh(height, worst, height=0.3, color=color, alpha=_FADED)
        axes.barh(height, panel.values[place] or 0.0, height=0.3, color=color)
        # Above its bar: beside it there is no room in a narrow window.
        axes.text(0, height + 0.22, result.contender.title, color=_INK, va="bottom", ha="left", fontsize=8.5)
        axes.text(top, height + 0.22, panel.texts[place], color=_INK, va="bottom", ha="right", fontsize=8.5)
    axes.set_xlim(0, top)
    axes.set_ylim(0.75, len(results) + 0.75)


def _colors(results: Sequence[Result]) -> list[str]:
    generic, ours = iter(_GENERIC), iter(_OURS)
    return [next(ours if result.contender.is_ours else generic) for result in results]


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


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
