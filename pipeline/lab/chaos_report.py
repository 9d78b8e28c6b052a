"""What a chaos run was and what it found: the table and the JSON (pure)."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.lab.crew import End
from pipeline.lab.schedule import Planned
from pipeline.lab.verdict import Kind, Verdict

__all__ = ["ChaosPlan", "Inflicted", "Report"]


_COUNTS = (
    ("leads", "different ones that were sent"),
    ("sent", "times that one was sent"),
    ("ok", "answered 202"),
    ("spooled", "of these, with a receipt of the spool"),
    ("fail", "refused: it surely did not happen"),
    ("info", "503, timed out or cut off: it may have happened"),
    ("repeats", "sent again after a 202"),
    ("captured", "records of lead-captured"),
    ("accepted", "records of lead-accepted"),
    ("rows", "in the CRM"),
    ("dead letters", "leads that the CRM refuses"),
)


@dataclass(frozen=True)
class ChaosPlan:
    """What a run is to be.

    Attributes:
        seed: of leads, load and schedule.
        minutes: how long faults are inflicted.
        faults: their names.
        guarantee: of the workers.
        database: `sqlite` or `postgresql`.
        nodes: brokers, 1 or 3.
        workers: how many run.
        rate: leads per second.
        leads: how many different ones; None: as many as the minutes bring.
    """

    seed: int
    minutes: float
    faults: tuple[str, ...]
    guarantee: str
    database: str
    nodes: int
    workers: int
    rate: float
    leads: int | None = None

    def command(self) -> str:
        """What replays it."""
        given = {
            "seed": self.seed, "minutes": f"{self.minutes:g}", "faults": ",".join(self.faults),
            "guarantee": self.guarantee, "database": self.database, "nodes": self.nodes, "workers": self.workers,
            "rate": f"{self.rate:g}", "leads": self.leads,
        }  # fmt: skip
        options = [f"--{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None]
        return " ".join(["leads chaos", *options])


@dataclass(frozen=True)
class Inflicted:
    """A fault that was run: when, in seconds after the load began, and what it did, or why it did not heal."""

    planned: Planned
    began_s: float
    ended_s: float
    did: str
    is_healed: bool = True


@dataclass(frozen=True)
class Report:
    """A run and its verdict."""

    plan: ChaosPlan
    started_at: datetime
    seconds: float
    commit: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    schedule: Sequence[Planned]
    not_run: Mapping[str, str]
    inflicted: Sequence[Inflicted]
    ends: Sequence[End]
    verdict: Verdict
    looks: Mapping[str, int] = field(default_factory=dict)

    def write(self, directory: Path) -> Path:
        """Write it to a new file in `directory`, and return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.started_at:%Y%m%dT%H%M%SZ}-seed-{self.plan.seed}.json"
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")
        return path

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "command": self.plan.command(),
            "plan": asdict(self.plan),
            "seed": self.plan.seed,
            "commit": self.commit,
            "started_at": self.started_at.isoformat(),
            "seconds": round(self.seconds, 1),
            "versions": dict(self.versions),
            "machine": dict(self.machine),
            "schedule": [one.as_json() for one in self.schedule],
            "not_run": dict(self.not_run),
            "faults": [
                {**asdict(one), "planned": one.planned.index, "name": one.planned.name} for one in self.inflicted
            ],
            "ended_by_themselves": [asdict(end) for end in self.ends],
            "looks_during_the_run": dict(self.looks),
            "verdict": self.verdict.as_json(),
        }

    def shown(self) -> RenderableType:
        """The tables, and what is wrong."""
        return Group(self._faults(), self._counts(), *self._violations(), Text(self._sum()))

    def _faults(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, title=f"Faults of seed {self.plan.seed}", title_justify="left")
        table.add_column("fault")
        for name in ("times", "seconds, mean", "longest"):
            table.add_column(name, justify="right")
        times = Counter(one.planned.name for one in self.inflicted)
        for name in sorted(set(self.plan.faults)):
            if name in self.not_run:
                table.add_row(name, f"not run: {self.not_run[name]}", "", "")
                continue
            took = [one.ended_s - one.began_s for one in self.inflicted if one.planned.name == name]
            mean, longest = (f"{sum(took) / len(took):.1f}", f"{max(took):.1f}") if took else ("", "")
            table.add_row(name, str(times[name]), mean, longest)
        return table

    def _counts(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, title="Leads", title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        counts = self.verdict.counts
        for name, unit in _COUNTS:
            table.add_row(name, f"{counts[name]:,}", unit)
        return table

    def _violations(self) -> list[Text]:
        lines = [Text("  ".join(f"{self.verdict.violations.get(kind, 0)} {kind}" for kind in Kind))]
        for kind, shown in self.verdict.examples.items():
            lines += [Text(f"{kind}: {what}", style="red") for what in shown]
            if (more := self.verdict.violations[kind] - len(shown)) > 0:
                lines.append(Text(f"{kind}: and {more:,} more", style="red"))
        return lines

    def _sum(self) -> str:
        counts = self.verdict.counts
        faults = f"{counts['leads']:,} leads under {len(self.inflicted)} faults in {self.seconds:.0f} s"
        records, times = self.looks.get("records", 0), self.looks.get("looks", 0)
        looks = f"During the run {records:,} records were compared with the checkpoints, {times} times"
        verdict = (
            "nothing is wrong" if self.verdict.is_clean else f"{sum(self.verdict.violations.values()):,} violations"
        )
        return f"\n{faults}: {verdict}. {looks}.\nAgain, at commit {self.commit}: {self.plan.command()}"
