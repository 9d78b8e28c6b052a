"""What a benchmark found: runs, medians, ratios, the table and the JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

__all__ = ["OURS", "STOCK", "STOCK_TAKE", "Benchmark", "Run", "Target", "Verdict", "table", "verdicts"]

OURS = "this product"
STOCK = "stock Faust"
STOCK_TAKE = "stock Faust, take(1000)"

RSS_TARGET_MIB = 400.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One worker process that was measured.

    Attributes:
        contender: who ran.
        rate: events, rows or keys per second of steady state.
        seconds: how long that was.
        cpu_s_per_100k: processor seconds of the worker for 100,000 of them.
        peak_rss_mib: the most memory it had, in MiB.
        start_s: from the start of the process to the first thing that it does.
        committed_s: from the last result until all offsets were committed; None: not within the patience.
        results: what came out.
        expected: what should have come out.
        complete: whether it ran to the end; else the time was up, which the rate does not mind.
    """

    contender: str
    rate: float
    seconds: float
    cpu_s_per_100k: float
    peak_rss_mib: float
    start_s: float
    committed_s: float | None
    results: int
    expected: int
    complete: bool = True


@dataclass(frozen=True)
class Target:
    """`contender` has to do at least `ratio` times what `other` does."""

    contender: str
    other: str
    ratio: float


@dataclass(frozen=True)
class Benchmark:
    """A benchmark and its runs, in the order in which they were.

    Attributes:
        name: as on the command line.
        title: what is measured.
        unit: what the rate counts, such as `rows/s`.
        targets: what has to be how many times as fast as what.
        rss_limited: whether the memory of our worker has a target here.
    """

    name: str
    title: str
    unit: str
    targets: Sequence[Target]
    rss_limited: bool
    runs: Sequence[Run]

    @property
    def contenders(self) -> list[str]:
        """The contenders, in the order of their first runs."""
        return list(dict.fromkeys(run.contender for run in self.runs))

    def of(self, contender: str) -> list[Run]:
        """The runs of a contender."""
        return [run for run in self.runs if run.contender == contender]

    def rate(self, contender: str) -> float:
        """The median of a contender's rates."""
        return median(run.rate for run in self.of(contender))

    def ratio(self, contender: str, other: str) -> float:
        """How many times as fast as `other` a contender is."""
        return self.rate(contender) / self.rate(other)

    def peak_rss_mib(self, contender: str) -> float:
        """The most memory that a worker of a contender had."""
        return max(run.peak_rss_mib for run in self.of(contender))

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return {
            "title": self.title,
            "unit": self.unit,
            "targets": [asdict(target) for target in self.targets],
            "median": {name: self.rate(name) for name in self.contenders},
            "ratio": {name: self.ratio(self.contenders[0], name) for name in self.contenders[1:]},
            "peak_rss_mib": {name: self.peak_rss_mib(name) for name in self.contenders},
            "runs": [asdict(run) for run in self.runs],
        }


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
    found = [_verdict(benchmark, target) for target in benchmark.targets]
    if benchmark.rss_limited:
        rss_mib = benchmark.peak_rss_mib(OURS)
        text = f"{benchmark.name}: peak RSS of our worker {rss_mib:.0f} MiB (target < {RSS_TARGET_MIB:.0f} MiB)"
        found.append(Verdict(text, rss_mib < RSS_TARGET_MIB, "missed"))
    return found


def _verdict(benchmark: Benchmark, target: Target) -> Verdict:
    ratio = benchmark.ratio(target.contender, target.other)
    shown = f"{ratio:.1f}x" if target.ratio >= 2 else f"{ratio:.2f}x"
    text = f"{benchmark.name}: {target.contender} {shown} {target.other} (target {target.ratio:g}x)"
    return Verdict(text, ratio >= target.ratio)


_HEAD = ("", "median", "runs", "CPU s/100k", "peak RSS MiB", "results", "expected")


def table(benchmark: Benchmark) -> str:
    """One line for each contender."""
    rows = [_HEAD, *(_row(benchmark, name) for name in benchmark.contenders)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [f"{benchmark.name}: {benchmark.title}, {benchmark.unit}"]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([f"  {row[0].ljust(widths[0])}", *cells]))
    return "\n".join(lines)


def _row(benchmark: Benchmark, name: str) -> tuple[str, ...]:
    runs = benchmark.of(name)
    return (
        name,
        f"{benchmark.rate(name):,.0f}",
        " / ".join(f"{run.rate:,.0f}" for run in runs),
        f"{median(run.cpu_s_per_100k for run in runs):,.2f}",
        f"{benchmark.peak_rss_mib(name):,.0f}",
        " / ".join(dict.fromkeys(f"{run.results:,}" for run in runs)),
        " / ".join(dict.fromkeys(f"{run.expected:,}" for run in runs)),
    )
