"""The plot of a comparison: one panel for each measure, a bar for each contender. The less, the better, everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.lab.bars import OTHERS, OURS, Bar, Panel
from pipeline.lab.compare_measures import Spread
from pipeline.lab.compare_result import Result

__all__ = ["panels"]


def panels(results: Sequence[Result]) -> list[Panel]:
    """What is drawn."""

    def plain(title: str, of: Callable[[Result], float | None], form: str) -> Panel:
        return Panel(title, [_bar(one, color, of(one), form) for one, color in colored])

    def spread(what: str, of: Callable[[Result], Spread]) -> Panel:
        return Panel(f"{what} after a kill, s: median, worst", [_spread(one, color, of(one)) for one, color in colored])

    colored = list(zip(results, _colors(results), strict=True))
    return [
        plain("leads lost", lambda one: one.measures.lost, "{:,.0f}"),
        plain("leads counted twice", lambda one: one.measures.doubled, "{:,.0f}"),
        plain("delivered again, leads per kill", lambda one: one.measures.again_per_kill, "{:,.1f}"),
        spread("first write", lambda one: one.measures.first_write),
        spread("lag 0", lambda one: one.measures.lag_zero),
        plain("a backlog, CPU s per million leads", lambda one: one.backlog_cpu_s_per_million, "{:,.0f}"),
    ]


def _bar(result: Result, color: str, value: float | None, form: str) -> Bar:
    return Bar(result.contender.title, value, _text(value, form), color)


def _spread(result: Result, color: str, spread: Spread) -> Bar:
    text = f"{_text(spread.median_s, '{:.1f}')}, {_text(spread.worst_s, '{:.1f}')}"
    return Bar(result.contender.title, spread.median_s, text, color, spread.worst_s)


def _colors(results: Sequence[Result]) -> list[str]:
    others, ours = iter(OTHERS), iter(OURS)
    return [next(ours if result.contender.is_ours else others) for result in results]


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
