"""The plot of a benchmark: one panel for each that has contenders, a bar for each contender. The more, the better."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from pipeline.lab.bars import OTHERS, OURS, Bar, Panel
from pipeline.lab.bench import result
from pipeline.lab.bench.result import Benchmark

__all__ = ["COLUMNS", "panels"]

#: Panels beside each other.
COLUMNS = 2


def panels(benchmarks: Sequence[Benchmark]) -> list[Panel]:
    """What is drawn."""
    return [_panel(benchmark) for benchmark in benchmarks if len(benchmark.contenders) > 1]


def _panel(benchmark: Benchmark) -> Panel:
    ours, others = cycle(OURS), cycle(OTHERS)
    bars = []
    for name in benchmark.contenders:
        rate = benchmark.rate(name)
        color = next(ours if name.startswith(result.OURS) else others)
        bars.append(Bar(name, rate, f"{rate:,.0f}", color))
    return Panel(f"{benchmark.name}, {benchmark.unit}", bars)
