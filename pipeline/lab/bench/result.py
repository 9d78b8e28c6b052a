"""What a benchmark found: runs, figures, medians and ratios. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

__all__ = ["OURS", "STOCK", "STOCK_TAKE", "Benchmark", "Figure", "Run", "Target", "there_and_back"]

OURS = "this product"
STOCK = "stock Faust"
STOCK_TAKE = "stock Faust, take(1000)"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process that was measured.

    Attributes:
        contender: who ran.
        rate: events, rows or keys per second of steady state.
        seconds: how long that was.
        cpu_s_per_100k: processor seconds of the process for 100,000 of them.
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


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something that is no rate of a contender: a percentile, a time, a share.

    Attributes:
        name: what it is.
        unit: of the values, such as `ms`.
        values: one for each run.
        at_most, at_least: the target, if it has one.
    """

    name: str
    unit: str
    values: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def is_met(self) -> bool:
        """Whether it reaches its target, if it has one."""
        return not (
            (self.at_most is not None and self.value > self.at_most)
            or (self.at_least is not None and self.value < self.at_least)
        )


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark and its runs, in the order in which they were.

    Attributes:
        name: as on the command line.
        title: what is measured.
        unit: what the rate counts, such as `rows/s`.
        runs: of all contenders.
        targets: what has to be how many times as fast as what; those of contenders that did not run do not count.
        figures: what was measured beside the rates.
        rss_max_mib: what the memory of our process may be, if that has a target.
        left_out: a sentence for each contender that could not run here.
    """

    name: str
    title: str
    unit: str
    runs: Sequence[Run] = ()
    targets: Sequence[Target] = ()
    figures: Sequence[Figure] = ()
    rss_max_mib: float | None = None
    left_out: Sequence[str] = ()

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
        """The most memory that a process of a contender had."""
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
            "figures": [{**asdict(figure), "median": figure.value} for figure in self.figures],
            "left_out": list(self.left_out),
            "runs": [asdict(run) for run in self.runs],
        }


def there_and_back(contenders: Sequence[str], rounds: int) -> list[str]:
    """Each contender `rounds` times, in this order and then in the other one, so that a machine that gets slower or
    faster meanwhile favours nobody.
    """
    return [name for turn in range(rounds) for name in (contenders if turn % 2 == 0 else contenders[::-1])]
