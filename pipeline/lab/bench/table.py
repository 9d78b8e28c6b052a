"""What a benchmark shows in the terminal: its table, its figures and its verdicts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pipeline.lab.bench.result import OURS, Benchmark, Figure, Target

__all__ = ["Verdict", "table", "verdicts"]


@dataclass(frozen=True)
class Verdict:
    """A target, whether it was met, and what is said when it was not."""

    text: str
    met: bool
    otherwise: str = "below the target"

    def __str__(self) -> str:
        return f"{self.text} {'ok' if self.met else self.otherwise}"


def verdicts(benchmark: Benchmark) -> list[Verdict]:
    """The targets of a benchmark."""
    ran = set(benchmark.contenders)
    found = [_ratio(benchmark, target) for target in benchmark.targets if {target.contender, target.other} <= ran]
    if benchmark.rss_max_mib is not None:
        rss_mib = benchmark.peak_rss_mib(OURS)
        text = f"{benchmark.name}: peak RSS of our worker {rss_mib:.0f} MiB (target < {benchmark.rss_max_mib:.0f} MiB)"
        found.append(Verdict(text, rss_mib < benchmark.rss_max_mib, "missed"))
    aimed = [figure for figure in benchmark.figures if (figure.at_most, figure.at_least) != (None, None)]
    return [*found, *(_figure(benchmark, figure) for figure in aimed)]


def _ratio(benchmark: Benchmark, target: Target) -> Verdict:
    ratio = benchmark.ratio(target.contender, target.other)
    shown = f"{ratio:.1f}x" if target.ratio >= 2 else f"{ratio:.2f}x"
    text = f"{benchmark.name}: {target.contender} {shown} {target.other} (target {target.ratio:g}x)"
    return Verdict(text, ratio >= target.ratio)


def _figure(benchmark: Benchmark, figure: Figure) -> Verdict:
    bounds = [("at most", figure.at_most), ("at least", figure.at_least)]
    target = ", ".join(f"{word} {_number(bound)}" for word, bound in bounds if bound is not None)
    text = f"{benchmark.name}: {figure.name} {_number(figure.value)} {figure.unit} (target {target})"
    return Verdict(text, figure.is_met, "missed")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


_HEAD = ("", "median", "ours is", "runs", "CPU s/100k", "peak RSS MiB", "results", "expected")


def table(benchmark: Benchmark) -> str:
    """One line for each contender, then one for each figure."""
    lines = [f"{benchmark.name}: {benchmark.title}, {benchmark.unit}"]
    if benchmark.runs:
        lines += _aligned([_HEAD, *(_row(benchmark, name) for name in benchmark.contenders)])
    if benchmark.figures:
        lines += _aligned([("", "median", "", "runs"), *map(_figure_row, benchmark.figures)])
    return "\n".join([*lines, *(f"  {sentence}" for sentence in benchmark.left_out)])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"  {first.ljust(widths[0])}", *cells]))
    return lines


def _row(benchmark: Benchmark, name: str) -> tuple[str, ...]:
    runs = benchmark.of(name)
    ours = benchmark.contenders[0]
    return (
        name,
        f"{benchmark.rate(name):,.0f}",
        "" if name == ours else f"{benchmark.ratio(ours, name):.2f}x",
        " / ".join(f"{run.rate:,.0f}" for run in runs),
        f"{median(run.cpu_s_per_100k for run in runs):,.2f}",
        f"{benchmark.peak_rss_mib(name):,.0f}",
        " / ".join(dict.fromkeys(f"{run.results:,}" for run in runs)),
        " / ".join(dict.fromkeys(f"{run.expected:,}" for run in runs)),
    )


def _figure_row(figure: Figure) -> tuple[str, ...]:
    return figure.name, _number(figure.value), figure.unit, " / ".join(map(_number, figure.values))
