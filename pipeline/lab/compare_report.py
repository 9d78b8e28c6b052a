"""What a comparison found: the table, the JSON, and what it says in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.lab.compare_measures import Measures, Spread
from pipeline.lab.compare_result import Result
from pipeline.lab.compare_schedule import Fault

__all__ = ["Report", "Row", "costs", "flaws", "losses", "notes", "rows", "table", "title"]

#: A difference below that says nothing: no two runs are alike.
NOTABLE = 1.1


@dataclass(frozen=True)
class Report:
    """A comparison.

    Attributes:
        started_at: with a time zone.
        seed, leads, kills: what was asked for.
        backlog: leads in the backlog after the faults.
        seconds: for how long leads were appended under faults.
        rate: leads in a second, as they were appended.
        faults: what was done when, in seconds after the first lead.
        machine: see `pipeline.lab.bench.machine`.
        versions: of what was compared.
        results: of the contenders.
    """

    started_at: datetime
    seed: int
    leads: int
    kills: int
    backlog: int
    seconds: float
    rate: float
    faults: Sequence[Fault]
    machine: dict[str, Any]
    versions: dict[str, str]
    results: Sequence[Result]

    @property
    def command(self) -> str:
        """What makes this comparison again."""
        return f"leads compare --seed {self.seed} --leads {self.leads} --kills {self.kills}"

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return {
            "started_at": self.started_at.isoformat(),
            "command": self.command,
            "seed": self.seed,
            "leads": self.leads,
            "kills": self.kills,
            "backlog": self.backlog,
            "seconds": round(self.seconds, 1),
            "leads_per_s": round(self.rate, 1),
            "faults": [asdict(fault) for fault in self.faults],
            "machine": self.machine,
            "versions": self.versions,
            "contenders": {result.contender.id: _result_json(result) for result in self.results},
            "costs": costs(self.results),
            "flaws": flaws(self.results),
        }


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "title": result.contender.title,
        "is_ours": result.contender.is_ours,
        **asdict(result.measures),
        "backlog_cpu_s_per_million": result.backlog_cpu_s_per_million,
        "repair": asdict(result.repair),
        "lost_left": result.lost_left,
        "doubled_left": result.doubled_left,
        "run_s": result.seconds,
    }


class Row(NamedTuple):
    """A measure and what it is for each contender."""

    measured: str
    unit: str
    cells: list[str]


def title(report: Report) -> str:
    """What was run, in a line."""
    return (
        f"{report.leads:,} leads at {report.rate:.0f} a second, {report.kills} kills, seed {report.seed}; "
        f"{report.started_at:%Y-%m-%d %H:%M} UTC"
    )


def rows(results: Sequence[Result]) -> list[Row]:
    """The table."""
    seen = [result.measures for result in results]
    return [
        Row("data loss", "leads", [_share(one.lost, one.accepted) for one in seen]),
        Row("duplicate execution", "leads counted twice", [f"{one.doubled:,}" for one in seen]),
        Row("delivered again", "leads, per kill", [_number(one.again_per_kill) for one in seen]),
        Row("catch-up, first write", "median / worst", [_spread(one.first_write) for one in seen]),
        Row("catch-up, lag 0", "median / worst", [_spread(one.lag_zero) for one in seen]),
        Row("compute, under faults", "CPU s per million leads", [f"{one.cpu_s_per_million:,.0f}" for one in seen]),
        Row(
            "compute, a backlog",
            "CPU s per million leads",
            [_number(result.backlog_cpu_s_per_million, digits=0) for result in results],
        ),
        Row("repair", "audit + mend", [f"{one.repair.audit_s:.1f} s + {one.repair.mend_s:.1f} s" for one in results]),
        Row("still wrong after it", "leads", [_left(result) for result in results]),
        Row("ended by itself", "workers", [f"{one.ended:,}" for one in seen]),
    ]


def table(report: Report) -> Table:
    """The table, for a terminal."""
    made = Table(box=SIMPLE_HEAD, title=title(report), title_justify="left", title_style="")
    made.add_column("")
    for result in report.results:
        made.add_column(result.contender.title, justify="right", max_width=24)
    for row in rows(report.results):
        made.add_row(Text.assemble(row.measured, "\n", (row.unit, "dim")), *row.cells)
    return made


def flaws(results: Sequence[Result]) -> list[str]:
    """What is wrong with this product's own results; each a sentence."""
    found = []
    for result in results:
        name, seen = result.contender.title, result.measures
        if result.contender.is_ours and (seen.lost or seen.doubled):
            found.append(f"{name} lost {seen.lost:,} and doubled {seen.doubled:,} leads.")
        if not result.repair.agrees:
            found.append(f"{name}: leads audit and this comparison do not agree whether something is amiss.")
    return found


def notes(report: Report) -> list[str]:
    """What is to be known of these numbers; each a sentence."""
    found = []
    for result in report.results:
        name, seen = result.contender.title, result.measures
        if seen.kills < report.kills:
            found.append(f"{name}: {seen.kills} of {report.kills} kills; else the worker had just ended by itself.")
        if seen.unread:
            found.append(f"{name}: {seen.unread:,} records were still unread when nothing moved any more.")
    return found


class _Cost(NamedTuple):
    name: str
    of: Any


_COSTS = (
    _Cost("s to the first write after a kill (median)", lambda one: one.measures.first_write.median_s),
    _Cost("s to lag 0 after a kill (median)", lambda one: one.measures.lag_zero.median_s),
    _Cost("CPU s per million leads under faults", lambda one: one.measures.cpu_s_per_million),
    _Cost("CPU s per million leads of a backlog", lambda one: one.backlog_cpu_s_per_million),
    _Cost("s for the audit", lambda one: one.repair.audit_s),
    _Cost("leads delivered again for each kill", lambda one: one.measures.again_per_kill),
)


def costs(results: Sequence[Result]) -> list[str]:
    """Where this product is slower or takes more than the best of the others; each a sentence."""
    found = []
    for result in results:
        for cost in _COSTS if result.contender.is_ours else ():
            mine = cost.of(result)
            others = [(cost.of(one), one) for one in results if not one.contender.is_ours and cost.of(one) is not None]
            if mine is None or not others:
                continue
            best, other = min(others, key=lambda pair: pair[0])
            if mine > best * NOTABLE and mine > 0:
                found.append(
                    f"{result.contender.title}: {_amount(mine)} {cost.name}; {other.contender.title}: {_amount(best)}."
                )
    return found


def losses(measures: Measures) -> str:
    """Where the lost leads were lost, in words; empty when none was."""
    parts = [
        f"{count:,} {_WHEN[kind]}" for kind, count in sorted(measures.lost_after.items(), key=lambda item: -item[1])
    ]
    return ", ".join(parts)


_WHEN = {
    "none": "before any fault",
    "kill": "around a kill",
    "join": "when a worker joined",
    "leave": "when a worker left",
    "freeze": "while the database did not answer",
    "thaw": "when the database answered again",
    "stop": "while the database was stopped",
    "start": "when the database was back",
}


def _share(count: int, of: int) -> str:
    return f"{count:,}" if not count else f"{count:,} ({count / of:.2%})"


def _number(value: float | None, *, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _spread(spread: Spread) -> str:
    if spread.median_s is None or spread.worst_s is None:
        return "never" if spread.missing else "–"
    never = f", {spread.missing} never" if spread.missing else ""
    return f"{spread.median_s:.1f} / {spread.worst_s:.1f} s{never}"


def _left(result: Result) -> str:
    parts = [(result.lost_left, "missing"), (result.doubled_left, "doubled")]
    return ", ".join(f"{count:,} {what}" for count, what in parts if count) or "0"
